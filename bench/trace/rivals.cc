#include "bench/trace/rivals.h"

#include <algorithm>
#include <limits>

namespace reprise::bench {
namespace {

// S3-FIFO counts up to three uses; a block used more than once in the small queue moves on.
constexpr uint8_t kMaxUses = 3;
constexpr uint8_t kUsesToStay = 2;

}  // namespace

RivalPolicy::RivalPolicy(size_t blocks) : pieces_(blocks) {}

storage::TrackedPiece* RivalPolicy::Insert(const storage::PolicyPiece& piece) {
  Piece& tracked = pieces_[piece.tag];
  tracked.set_tag(piece.tag);
  OnInsert(static_cast<BlockId>(piece.tag));
  return &tracked;
}

storage::Victim LfuPolicy::ChooseVictim(bool /*fresh_too*/, CanEvict can_evict) {
  for (const auto& [count, last, block] : order_) {
    if (can_evict(PieceOf(block))) return Named(block);
  }
  return {};
}

void LfuPolicy::OnInsert(BlockId block) {
  uses_[block] = {.count = 1, .last = ++calls_};
  order_.emplace(1, calls_, block);
}

void LfuPolicy::OnUse(BlockId block) {
  OnRemove(block);
  Uses& uses = uses_[block];
  uses = {.count = uses.count + 1, .last = ++calls_};
  order_.emplace(uses.count, uses.last, block);
}

void LfuPolicy::OnRemove(BlockId block) {
  order_.erase({uses_[block].count, uses_[block].last, block});
}

S3FifoPolicy::S3FifoPolicy(size_t blocks, size_t capacity)
    : RivalPolicy(blocks),
      small_capacity_(std::max<size_t>(capacity / 10, 1)),
      ghost_capacity_(capacity - small_capacity_),
      states_(blocks) {}

storage::Victim S3FifoPolicy::ChooseVictim(bool /*fresh_too*/, CanEvict can_evict) {
  BlockId victim = Trace::kNone;
  if (small_.size() >= small_capacity_) victim = FromSmall(can_evict);
  if (victim == Trace::kNone) victim = FromMain(can_evict);
  if (victim == Trace::kNone) victim = FromSmall(can_evict);
  return victim == Trace::kNone ? storage::Victim{} : Named(victim);
}

void S3FifoPolicy::OnInsert(BlockId block) {
  Move(block, states_[block].queue == Queue::kGhosts ? Queue::kMain : Queue::kSmall);
  states_[block].uses = 0;
}

void S3FifoPolicy::OnUse(BlockId block) {
  uint8_t& uses = states_[block].uses;
  if (uses < kMaxUses) ++uses;
}

void S3FifoPolicy::OnRemove(BlockId block) {
  Move(block, states_[block].queue == Queue::kSmall ? Queue::kGhosts : Queue::kNone);
  if (ghosts_.size() > ghost_capacity_) Move(ghosts_.front(), Queue::kNone);
}

void S3FifoPolicy::Move(BlockId block, Queue to) {
  State& state = states_[block];
  if (state.queue != Queue::kNone) ListOf(state.queue).erase(state.place);
  state.queue = to;
  if (to == Queue::kNone) return;
  std::list<BlockId>& list = ListOf(to);
  state.place = list.insert(list.end(), block);
}

std::list<BlockId>& S3FifoPolicy::ListOf(Queue queue) {
  if (queue == Queue::kSmall) return small_;
  return queue == Queue::kMain ? main_ : ghosts_;
}

BlockId S3FifoPolicy::FromSmall(CanEvict can_evict) {
  for (auto at = small_.begin(); at != small_.end();) {
    const BlockId block = *at++;
    if (states_[block].uses >= kUsesToStay) {
      Move(block, Queue::kMain);
      states_[block].uses = 0;
    } else if (can_evict(PieceOf(block))) {
      return block;
    }
  }
  return Trace::kNone;
}

BlockId S3FifoPolicy::FromMain(CanEvict can_evict) {
  // Each round takes a use off every block that may go, so some round finds one without.
  for (int round = 0; round <= kMaxUses; ++round) {
    size_t left = main_.size();
    for (auto at = main_.begin(); left > 0; --left) {
      const BlockId block = *at++;
      if (!can_evict(PieceOf(block))) continue;
      if (states_[block].uses == 0) return block;
      --states_[block].uses;
      main_.splice(main_.end(), main_, states_[block].place);
    }
  }
  return Trace::kNone;
}

ArcPolicy::ArcPolicy(size_t blocks, size_t capacity)
    : RivalPolicy(blocks), capacity_(capacity), states_(blocks) {}

storage::Victim ArcPolicy::ChooseVictim(bool /*fresh_too*/, CanEvict can_evict) {
  const bool in_frequent_ghosts = states_[coming_].where == kFrequentGhost;
  const auto recent = static_cast<double>(SizeOf(kRecent));
  const bool from_recent =
      SizeOf(kRecent) > 0 && (recent > target_ || (in_frequent_ghosts && recent >= target_));
  for (const Where where : {from_recent ? kRecent : kFrequent, from_recent ? kFrequent : kRecent}) {
    for (const BlockId block : lists_[where]) {
      if (can_evict(PieceOf(block))) return Named(block);
    }
  }
  return {};
}

void ArcPolicy::OnInsert(BlockId block) {
  const bool was_ghost = states_[block].where != kNone;
  Move(block, was_ghost ? kFrequent : kRecent);
  // The bounds of the paper: T1 and B1 hold at most c, all four lists 2 c.
  while (SizeOf(kRecent) + SizeOf(kRecentGhost) > capacity_ && SizeOf(kRecentGhost) > 0) {
    Move(lists_[kRecentGhost].front(), kNone);
  }
  while (SizeOf(kRecent) + SizeOf(kFrequent) + SizeOf(kRecentGhost) + SizeOf(kFrequentGhost) >
             2 * capacity_ &&
         SizeOf(kFrequentGhost) > 0) {
    Move(lists_[kFrequentGhost].front(), kNone);
  }
}

void ArcPolicy::OnUse(BlockId block) { Move(block, kFrequent); }

void ArcPolicy::OnRemove(BlockId block) {
  Move(block, states_[block].where == kRecent ? kRecentGhost : kFrequentGhost);
}

void ArcPolicy::Move(BlockId block, Where where) {
  State& state = states_[block];
  if (state.where != kNone) lists_[state.where].erase(state.place);
  state.where = where;
  if (where != kNone) state.place = lists_[where].insert(lists_[where].end(), block);
}

void ArcPolicy::Announce(size_t /*request*/, BlockId block) {
  coming_ = block;
  const auto recent_ghosts = static_cast<double>(SizeOf(kRecentGhost));
  const auto frequent_ghosts = static_cast<double>(SizeOf(kFrequentGhost));
  if (states_[block].where == kRecentGhost) {
    target_ = std::min(target_ + std::max(frequent_ghosts / recent_ghosts, 1.0),
                       static_cast<double>(capacity_));
  } else if (states_[block].where == kFrequentGhost) {
    target_ = std::max(target_ - std::max(recent_ghosts / frequent_ghosts, 1.0), 0.0);
  }
}

OptimalPolicy::OptimalPolicy(const Trace& trace)
    : RivalPolicy(trace.blocks.size()),
      trace_(trace),
      uses_(trace.blocks.size()),
      next_use_(trace.blocks.size()) {
  for (size_t request = 0; request < trace.requests.size(); ++request) {
    for (const BlockId block : trace.requests[request].blocks) {
      uses_[block].push_back(static_cast<uint32_t>(request));
    }
  }
}

storage::Victim OptimalPolicy::ChooseVictim(bool /*fresh_too*/, CanEvict can_evict) {
  for (auto at = order_.rbegin(); at != order_.rend(); ++at) {
    const BlockId block = std::get<2>(*at);
    if (can_evict(PieceOf(block))) return Named(block);
  }
  return {};
}

void OptimalPolicy::OnInsert(BlockId block) {
  const auto& uses = uses_[block];
  const auto next = std::upper_bound(uses.begin(), uses.end(), now_);
  next_use_[block] = next == uses.end() ? std::numeric_limits<size_t>::max() : *next;
  order_.insert(RankOf(block));
}

void OptimalPolicy::OnUse(BlockId block) {
  OnRemove(block);
  OnInsert(block);
}

void OptimalPolicy::OnRemove(BlockId block) { order_.erase(RankOf(block)); }

std::tuple<size_t, uint32_t, BlockId> OptimalPolicy::RankOf(BlockId block) const {
  return {next_use_[block], trace_.blocks[block].position, block};
}

}  // namespace reprise::bench
