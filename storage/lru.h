// Least recently used, descendants before ancestors; pieces go whole.
//
// The victim is the piece used longest ago among those on which no resident piece builds. A piece
// at position p builds on the piece of its tenant whose key is its parent and whose position is p -
// 1; a link that claims anything else leads to no piece, so hostile links cannot form a cycle. A
// parent may come after its children, go and come back: what is known of it meanwhile is kept, at
// most one such record per resident piece.
//
// Insert, Use, Remove and SetHeld take O(log n) at worst; Use of a piece that lost no child takes
// O(1). ChooseVictim takes one step per piece that `can_evict` turns down. Not thread-safe.
#pragma once

#include <memory>
#include <span>

#include "absl/container/btree_set.h"
#include "absl/container/flat_hash_set.h"
#include "absl/hash/hash.h"

#include "storage/policy.h"

namespace reprise::storage {

class LruPolicy final : public EvictionPolicy {
 public:
  // Sized for `max_pieces` resident at once, so that no call has to grow a table; more are
  // possible.
  explicit LruPolicy(size_t max_pieces);
  ~LruPolicy() override;
  LruPolicy(const LruPolicy&) = delete;
  LruPolicy& operator=(const LruPolicy&) = delete;

  TrackedPiece* Insert(const PolicyPiece& piece) override;
  void Use(TrackedPiece* piece) override;
  void Remove(TrackedPiece* piece) override;
  void SetHeld(TrackedPiece* piece, bool held) override;
  // Never comes, since no victim keeps planes.
  void Shed(TrackedPiece* /*piece*/, uint32_t /*planes_held*/, uint64_t /*size_bytes*/) override {}
  // Everything is: plain LRU writes through.
  bool WorthDemoting(const TrackedPiece& /*piece*/) const override { return true; }
  void SetDemoted(TrackedPiece* /*piece*/) override {}
  // Nothing is fresh.
  Victim ChooseVictim(bool fresh_too,
                      absl::FunctionRef<bool(const TrackedPiece&)> can_evict) override;
  Victim ChooseAmong(bool fresh_too, std::span<TrackedPiece* const> pieces) override;
  size_t fixed_bytes() const override;
  size_t bytes_per_piece() const override;

 private:
  struct Name;
  struct Links;
  struct Node;
  struct NameHash {
    using is_transparent = void;
    size_t operator()(const Name& name) const;
    size_t operator()(const std::unique_ptr<Node>& node) const;
  };
  struct NameEqual {
    using is_transparent = void;
    bool operator()(const std::unique_ptr<Node>& a, const Name& b) const;
    bool operator()(const std::unique_ptr<Node>& a, const std::unique_ptr<Node>& b) const;
  };
  struct ByLastUse {
    bool operator()(const Node* a, const Node* b) const;
  };

  Node* FindOrAdd(const Name& name);
  void Place(Node* node);
  void Unplace(Node* node);
  void Append(Node* node);

  uint64_t uses_ = 0;
  absl::flat_hash_set<std::unique_ptr<Node>, NameHash, NameEqual> nodes_;
  // Every node that may be a victim is in exactly one of these. In order of last use:
  std::unique_ptr<Links>
      in_use_order_;  // ring; used or inserted as a leaf, so they were appended in order
  absl::btree_set<Node*, ByLastUse> late_;  // became leaves, or were let go, after their last use
};

}  // namespace reprise::storage
