// The index of a tier whose content does not outlive the process: a hash table for Find, two
// ordered sets for List.
//
// The table holds the records; the sets hold pointers to them, ordered by (tenant, key) and by
// (tenant, namespace, key). Keys stay in the records, so that the index costs about 50 bytes a
// piece.
#pragma once

#include <compare>
#include <utility>

#include "absl/container/btree_set.h"
#include "absl/container/flat_hash_set.h"
#include "absl/hash/hash.h"

#include "storage/index/piece_index.h"

namespace reprise::storage {

template <IndexedPiece Piece>
class MemoryIndex final : public PieceIndex<Piece> {
 public:
  using typename PieceIndex<Piece>::Ref;
  using typename PieceIndex<Piece>::Page;

  // Sized for `max_pieces`, so that no call has to grow the table; more are possible.
  explicit MemoryIndex(size_t max_pieces) {
    // An eighth more: the table then never grows only to drop its tombstones.
    table_.reserve(max_pieces + max_pieces / 8);
  }

  Ref Find(TenantId tenant, const Key& key) const override {
    const auto found = table_.find(Name{tenant, key});
    return found == table_.end() ? nullptr : *found;
  }

  bool Insert(Ref piece) override {
    const Piece* raw = piece.get();
    if (!table_.insert(std::move(piece)).second) return false;
    by_key_.insert(raw);
    by_namespace_.insert(raw);
    return true;
  }

  Ref Erase(TenantId tenant, const Key& key) override {
    const auto found = table_.find(Name{tenant, key});
    if (found == table_.end()) return nullptr;
    Ref piece = *found;
    by_key_.erase(piece.get());
    by_namespace_.erase(piece.get());
    table_.erase(found);
    return piece;
  }

  Page List(TenantId tenant, const Key* after, size_t limit,
            const Digest* fingerprint) const override {
    return fingerprint == nullptr
               ? Collect(by_key_, Position{tenant, nullptr, after}, limit)
               : Collect(by_namespace_, Position{tenant, fingerprint, after}, limit);
  }

  size_t size() const override { return table_.size(); }

  size_t fixed_bytes() const override {
    return sizeof(*this) + table_.capacity() * (sizeof(Ref) + 1);
  }

  size_t bytes_per_piece() const override {
    // A place in two trees whose nodes may be half empty.
    return 2 * 3 * sizeof(const Piece*);
  }

 private:
  struct Name {
    TenantId tenant;
    const Key& key;
  };

  // Just behind `key`, or before every key when it is null; within one namespace unless
  // `fingerprint` is null.
  struct Position {
    TenantId tenant;
    const Digest* fingerprint;
    const Key* key;

    bool Holds(const Piece& piece) const {
      return piece.tenant() == tenant &&
             (fingerprint == nullptr || piece.fingerprint() == *fingerprint);
    }
  };

  struct Hash {
    using is_transparent = void;
    // Every byte of the key counts: a tenant chooses its keys, and must not be able to make them
    // collide for all.
    size_t operator()(const Name& name) const {
      return absl::HashOf(name.tenant, name.key.digest.bytes);
    }
    size_t operator()(const Ref& piece) const { return (*this)({piece->tenant(), piece->key()}); }
  };

  struct Equal {
    using is_transparent = void;
    bool operator()(const Ref& a, const Name& b) const {
      return a->key() == b.key && a->tenant() == b.tenant;
    }
    bool operator()(const Ref& a, const Ref& b) const {
      return (*this)(a, {b->tenant(), b->key()});
    }
  };

  template <bool kByNamespace>
  struct Order {
    using is_transparent = void;

    bool operator()(const Piece* a, const Piece* b) const {
      return Compare(*a, b->tenant(), &b->fingerprint(), b->key()) < 0;
    }
    // For lower_bound: no piece is at a position, only before or behind it.
    bool operator()(const Piece* a, const Position& b) const {
      if (b.key != nullptr) return Compare(*a, b.tenant, b.fingerprint, *b.key) <= 0;
      if (a->tenant() != b.tenant) return a->tenant() < b.tenant;
      return kByNamespace && a->fingerprint() < *b.fingerprint;
    }
    bool operator()(const Position& a, const Piece* b) const { return !(*this)(b, a); }

   private:
    static std::strong_ordering Compare(const Piece& a, TenantId tenant, const Digest* fingerprint,
                                        const Key& key) {
      if (a.tenant() != tenant) return a.tenant() <=> tenant;
      if constexpr (kByNamespace) {
        const auto order = a.fingerprint() <=> *fingerprint;
        if (order != 0) return order;
      }
      return a.key() <=> key;
    }
  };

  template <typename Set>
  Page Collect(const Set& set, const Position& from, size_t limit) const {
    Page page;
    for (auto it = set.lower_bound(from); it != set.end() && from.Holds(**it); ++it) {
      if (page.pieces.size() == limit) {
        page.more = true;
        break;
      }
      page.pieces.push_back(*table_.find(Name{(*it)->tenant(), (*it)->key()}));
    }
    return page;
  }

  absl::flat_hash_set<Ref, Hash, Equal> table_;
  absl::btree_set<const Piece*, Order<false>> by_key_;
  absl::btree_set<const Piece*, Order<true>> by_namespace_;
};

}  // namespace reprise::storage
