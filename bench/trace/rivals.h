// The policies that ours is compared with, from their papers, behind the same interface.
//
// They know blocks by the number that is their tag and see no prefixes; whoever replays decides
// whether a block on which others build may go. Not thread-safe.
#pragma once

#include <cstdint>
#include <list>
#include <set>
#include <span>
#include <tuple>
#include <vector>

#include "bench/trace/trace.h"
#include "storage/policy.h"

namespace reprise::bench {

// What all of them have in common: blocks by number, no planes, no next tier.
class RivalPolicy : public storage::EvictionPolicy {
 public:
  explicit RivalPolicy(size_t blocks);

  // Before each block of each request: some papers' policies, and the optimum, have to know what
  // comes while they choose.
  virtual void Announce(size_t /*request*/, BlockId /*block*/) {}

  storage::TrackedPiece* Insert(const storage::PolicyPiece& piece) final;
  void Use(storage::TrackedPiece* piece) final { OnUse(NumberOf(*piece)); }
  void Remove(storage::TrackedPiece* piece) final { OnRemove(NumberOf(*piece)); }
  void SetHeld(storage::TrackedPiece* /*piece*/, bool /*held*/) final {}
  void Shed(storage::TrackedPiece* /*piece*/, uint32_t /*planes*/, uint64_t /*bytes*/) final {}
  bool WorthDemoting(const storage::TrackedPiece& /*piece*/) const final { return true; }
  void SetDemoted(storage::TrackedPiece* /*piece*/) final {}
  // There is one tenant in a trace, without a quota.
  storage::Victim ChooseAmong(bool /*fresh_too*/,
                              std::span<storage::TrackedPiece* const> /*pieces*/) final {
    return {};
  }
  size_t fixed_bytes() const final { return 0; }
  size_t bytes_per_piece() const final { return 0; }

 protected:
  using CanEvict = absl::FunctionRef<bool(const storage::TrackedPiece&)>;

  virtual void OnInsert(BlockId block) = 0;
  virtual void OnUse(BlockId block) = 0;
  virtual void OnRemove(BlockId block) = 0;
  storage::Victim Named(BlockId block) { return {.piece = &pieces_[block]}; }
  const storage::TrackedPiece& PieceOf(BlockId block) const { return pieces_[block]; }

 private:
  struct Piece final : storage::TrackedPiece {
    Piece() : TrackedPiece(0) {}
    using TrackedPiece::set_tag;
  };
  static BlockId NumberOf(const storage::TrackedPiece& piece) {
    return static_cast<BlockId>(piece.tag());
  }

  std::vector<Piece> pieces_;
};

// Least frequently used while resident, the one used longest ago among equals.
class LfuPolicy final : public RivalPolicy {
 public:
  explicit LfuPolicy(size_t blocks) : RivalPolicy(blocks), uses_(blocks) {}
  storage::Victim ChooseVictim(bool /*fresh_too*/, CanEvict can_evict) override;

 private:
  struct Uses {
    uint64_t count = 0;
    uint64_t last = 0;
  };
  void OnInsert(BlockId block) override;
  void OnUse(BlockId block) override;
  void OnRemove(BlockId block) override;

  uint64_t calls_ = 0;
  std::vector<Uses> uses_;
  std::set<std::tuple<uint64_t, uint64_t, BlockId>> order_;
};

// S3-FIFO (Yang, Zhang, Qiu, Yue, Rashmi, SOSP 2023): a small queue of a tenth, a main queue, and a
// queue of as many ghosts as the main one has blocks.
class S3FifoPolicy final : public RivalPolicy {
 public:
  S3FifoPolicy(size_t blocks, size_t capacity);
  storage::Victim ChooseVictim(bool /*fresh_too*/, CanEvict can_evict) override;

 private:
  enum class Queue : uint8_t { kNone, kSmall, kMain, kGhosts };
  struct State {
    Queue queue = Queue::kNone;
    uint8_t uses = 0;
    std::list<BlockId>::iterator place;
  };
  void OnInsert(BlockId block) override;
  void OnUse(BlockId block) override;
  void OnRemove(BlockId block) override;
  void Move(BlockId block, Queue to);
  std::list<BlockId>& ListOf(Queue queue);
  BlockId FromSmall(CanEvict can_evict);
  BlockId FromMain(CanEvict can_evict);

  const size_t small_capacity_;
  const size_t ghost_capacity_;
  std::vector<State> states_;
  std::list<BlockId> small_;  // the oldest comes first
  std::list<BlockId> main_;
  std::list<BlockId> ghosts_;
};

// ARC (Megiddo, Modha, FAST 2003).
class ArcPolicy final : public RivalPolicy {
 public:
  ArcPolicy(size_t blocks, size_t capacity);
  storage::Victim ChooseVictim(bool /*fresh_too*/, CanEvict can_evict) override;
  void Announce(size_t request, BlockId block) override;

 private:
  enum Where : uint8_t { kNone, kRecent, kFrequent, kRecentGhost, kFrequentGhost };
  struct State {
    Where where = kNone;
    std::list<BlockId>::iterator place;
  };
  void OnInsert(BlockId block) override;
  void OnUse(BlockId block) override;
  void OnRemove(BlockId block) override;
  void Move(BlockId block, Where where);
  size_t SizeOf(Where where) const { return lists_[where].size(); }

  const size_t capacity_;
  double target_ = 0;  // of the recent ones: the paper's p
  BlockId coming_ = 0;
  std::vector<State> states_;
  std::list<BlockId> lists_[5];  // the one used longest ago comes first
};

// What cannot be done: the block whose next use is farthest goes, known from the trace. On prefixes
// this never leaves a hole, since a block is used whenever one that builds on it is; of equals the
// deepest goes. It yields the most hits of all policies that take in every block for at least a
// moment, and not quite the most seconds, which would be NP-hard to find.
class OptimalPolicy final : public RivalPolicy {
 public:
  explicit OptimalPolicy(const Trace& trace);
  void Announce(size_t request, BlockId /*block*/) override { now_ = request; }
  storage::Victim ChooseVictim(bool /*fresh_too*/, CanEvict can_evict) override;

 private:
  void OnInsert(BlockId block) override;
  void OnUse(BlockId block) override;
  void OnRemove(BlockId block) override;
  std::tuple<size_t, uint32_t, BlockId> RankOf(BlockId block) const;

  const Trace& trace_;
  size_t now_ = 0;
  std::vector<std::vector<uint32_t>> uses_;  // ascending numbers of requests
  std::vector<size_t> next_use_;
  std::set<std::tuple<size_t, uint32_t, BlockId>> order_;
};

}  // namespace reprise::bench
