// Keeps what saves most recomputing per byte and time, sheds precision before chunks, descendants
// before ancestors; docs/tiering.md says why, and what that is worth.
//
// The value of what would be given up = recompute seconds it saves x the rate of uses it promises /
// its bytes. The rate is learnt per class of piece and age since its last use (reuse_model.h); the
// class is how often the piece was used, also before it was last evicted (use_history.h), and in
// which turn of a conversation it first came. Refinement planes above the floor count as a share of
// their piece's seconds. Victims: first pieces that no reader can reach because the one before them
// is missing, then what is worth least, whether that is a plane or a piece on which no resident one
// builds. What came or was used last (an eighth of all) goes only when nothing older may.
//
// A piece at position p builds on the piece of its tenant whose key is its parent and whose
// position is p - 1. Pieces are known by 64-bit hashes of tenant, position and key, which are
// seeded: who cannot see the seed cannot make two collide, and two that do only block each other's
// eviction.
//
// Time is the number of calls of Insert and Use. Insert, Remove, SetHeld, Shed and SetDemoted take
// O(1), with some thousand steps more once in hundreds of calls; Use takes O(1), allocates nothing
// and learns nothing. ChooseVictim takes one step per piece that `can_evict` turns down. Not
// thread-safe.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"

#include "storage/policy.h"
#include "storage/tiering/ranked_lists.h"
#include "storage/tiering/reuse_model.h"
#include "storage/tiering/use_history.h"

namespace reprise::storage {

struct TieringOptions {
  // The worst error that is good enough to serve. Planes above the first level that reaches it may
  // be shed. Zero: pieces go whole.
  Distortion floor{};
  // What all refinement planes of a piece together are worth, as a share of the recompute seconds
  // of the piece. The higher, the fewer pieces at a better quality.
  double refinement_worth = 0.1;
  // Whether the tier above keeps the beginnings of prefixes whose ends are here, so that a piece is
  // of use without the one it builds on.
  bool below_another_tier = false;
  // Of the tier below; 0: there is none, and nothing is worth demoting.
  uint64_t next_tier_bytes = 0;
  // Random where a tenant could gain by making names collide.
  uint64_t name_seed = 0;
};

class TieringPolicy final : public EvictionPolicy {
 public:
  // Sized for `max_pieces` resident at once; more are possible.
  TieringPolicy(size_t max_pieces, const TieringOptions& options);
  ~TieringPolicy() override;
  TieringPolicy(const TieringPolicy&) = delete;
  TieringPolicy& operator=(const TieringPolicy&) = delete;

  TrackedPiece* Insert(const PolicyPiece& piece) override;
  void Use(TrackedPiece* piece) override;
  void Remove(TrackedPiece* piece) override;
  void SetHeld(TrackedPiece* piece, bool held) override;
  void Shed(TrackedPiece* piece, uint32_t planes_held, uint64_t size_bytes) override;
  Victim ChooseVictim(bool fresh_too,
                      absl::FunctionRef<bool(const TrackedPiece&)> can_evict) override;
  Victim ChooseAmong(bool fresh_too, std::span<TrackedPiece* const> pieces) override;
  // When the piece is likely enough to be used while the next tier turns over, when one that builds
  // on it was demoted, and until half of the next tier has been filled.
  bool WorthDemoting(const TrackedPiece& piece) const override;
  void SetDemoted(TrackedPiece* piece) override;
  size_t fixed_bytes() const override;
  size_t bytes_per_piece() const override;

 private:
  struct Node;
  struct NameHash {
    using is_transparent = void;
    size_t operator()(uint64_t name) const;
    size_t operator()(const std::unique_ptr<Node>& node) const;
  };
  struct NameEqual {
    using is_transparent = void;
    bool operator()(const std::unique_ptr<Node>& a, uint64_t b) const;
    bool operator()(const std::unique_ptr<Node>& a, const std::unique_ptr<Node>& b) const;
  };

  Victim Choose(bool fresh_too, absl::FunctionRef<bool(const TrackedPiece&)> can_evict);
  // Whether it may go only when nothing else may.
  bool IsFresh(const Node& node) const;
  // Looks again whether a piece that was unreachable is; it is a possible victim.
  bool HasBecomeReachable(Node* node);
  Node* Find(uint64_t name) const;
  bool Reachable(const Node& node) const;
  uint32_t TurnOf(uint64_t parent_name) const;
  void Touch(Node* node);
  void Place(Node* node);
  RankedLists::List ListOf(const Node& node) const;
  void Settle();
  void MoveAged();
  void Learn();
  void LearnWhatIsUsual();
  double UnfinishedWorth() const;

  const TieringOptions options_;
  uint64_t calls_ = 0;
  uint64_t moved_at_ = 0;
  uint64_t learnt_at_ = 0;
  // Densities are told apart around this one, in octaves of seconds per byte.
  int usual_octave_ = 0;
  // Over pieces that came lately.
  double octave_sum_ = 0;
  double bytes_sum_ = 0;
  double came_ = 0;
  // How many of them the tier below holds.
  uint64_t pieces_below_ = 0;
  uint64_t demotions_ = 0;
  ReuseModel model_;
  UseHistory history_;
  RankedLists lists_;
  absl::flat_hash_set<std::unique_ptr<Node>, NameHash, NameEqual> nodes_;
  // Resident pieces that build on one that is not resident, by its name.
  absl::flat_hash_map<uint64_t, uint32_t> waiting_;
};

}  // namespace reprise::storage
