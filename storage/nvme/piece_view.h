// The nvme tier's index in memory: (tenant, key) -> record, for the hot path, in less than 256
// bytes a piece of eight levels, everything counted (piece_view_memory_test measures it).
//
// A record is kept as ParseRecord reads it, in a block of a slab; a hash table finds it by name and
// a tree keeps the names in order. Tenant and namespace are one number, since few pairs of them
// exist. Numbers of pieces stay until the piece is erased and are then given to others. Not
// thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "absl/container/btree_set.h"
#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/hash/hash.h"

#include "chunk/keys.h"
#include "storage/index/piece_record.h"
#include "storage/nvme/record_slab.h"
#include "storage/policy.h"

namespace reprise::storage {

class PieceView {
 public:
  using Number = RecordSlab::Number;

  // What a piece costs at most, the policy's own records left out, as long as there are no more
  // than `max_pieces` and eight levels each.
  static constexpr size_t kBytesPerPiece = 256;

  // Sized for `max_pieces`; more are possible.
  explicit PieceView(size_t max_pieces);
  PieceView(const PieceView&) = delete;
  PieceView& operator=(const PieceView&) = delete;

  // Does not allocate.
  std::optional<Number> Find(TenantId tenant, const Key& key) const;

  // (tenant, key) must not be there.
  Number Insert(TenantId tenant, const Key& key, const PieceRecord& record);
  void Erase(Number piece);
  // False for a number that names no piece now.
  bool Exists(Number piece) const;

  // Does not allocate.
  PieceRecord record(Number piece) const;
  TenantId tenant(Number piece) const;
  Key key(Number piece) const;

  // Of the same piece, and different at most in durability, planes held and places.
  void Update(Number piece, const PieceRecord& record);

  // The piece that expires first, if that is over at `now_s`.
  std::optional<Number> FirstExpired(uint32_t now_s) const;
  bool HasExpired(Number piece, uint32_t now_s) const;

  TrackedPiece* tracked(Number piece) const;
  void set_tracked(Number piece, TrackedPiece* tracked);

  // The pieces of the tenant whose keys come after `after` (all when null), in order, as long as
  // `visit` says true.
  void Walk(TenantId tenant, const Key* after, absl::FunctionRef<bool(Number)> visit) const;
  // The first piece after that name, of any tenant.
  std::optional<Number> Next(TenantId tenant, const Key* after) const;
  // The number of a namespace that pieces of the tenant are in; nullopt when none is.
  const Digest& fingerprint(Number piece) const;

  size_t size() const { return by_name_.size(); }
  size_t bytes() const;

 private:
  struct Space {
    TenantId tenant;
    Digest fingerprint;
    friend bool operator==(const Space&, const Space&) = default;
    template <typename H>
    friend H AbslHashValue(H state, const Space& space) {
      return H::combine(std::move(state), space.tenant, space.fingerprint.bytes);
    }
  };
  struct SpaceUse {
    Space space;
    uint32_t pieces = 0;
  };
  struct Name {
    TenantId tenant;
    const Key& key;
  };
  // Just behind the key, or before all of the tenant's.
  struct Position {
    TenantId tenant;
    const Key* key;
  };
  struct Hash {
    using is_transparent = void;
    const PieceView* view;
    size_t operator()(const Name& name) const;
    size_t operator()(Number piece) const;
  };
  struct Equal {
    using is_transparent = void;
    const PieceView* view;
    bool operator()(Number a, const Name& b) const;
    bool operator()(Number a, Number b) const { return a == b; }
  };
  struct Order {
    using is_transparent = void;
    const PieceView* view;
    bool operator()(Number a, Number b) const;
    bool operator()(Number a, const Position& b) const;
    bool operator()(const Position& a, Number b) const { return !(*this)(b, a); }
  };
  struct ByExpiry {
    const PieceView* view;
    bool operator()(Number a, Number b) const;
  };
  struct Head;

  uint32_t TakeSpace(const Space& space);
  void LeaveSpace(uint32_t number);
  Head ReadHead(Number piece) const;
  ByteSpan RecordBytes(Number piece, const Head& head) const;
  const std::byte* KeyBytes(Number piece) const;
  uint32_t expires_at_s(Number piece) const;

  RecordSlab slab_;
  // By number; 0 names none, which is how a free block of the slab is told from a piece.
  std::vector<SpaceUse> spaces_;
  std::vector<uint32_t> free_spaces_;
  absl::flat_hash_map<Space, uint32_t> space_numbers_;
  absl::flat_hash_set<Number, Hash, Equal> by_name_;
  absl::btree_set<Number, Order> in_order_;
  absl::btree_set<Number, ByExpiry> expiring_;  // pieces that ever do
};

}  // namespace reprise::storage
