// Makes empty segments: by new files while the budget has room, then by moving what still lives in
// the segments that hold least.
//
// One thread, at a bounded rate and out of the way of reads, unless writes wait for it. What is
// moved is verified and made durable before its old place may be overwritten; what does not match
// its checksums is forgotten instead. Where no segment is worth emptying, because runs are large
// for segments, it lets the policy give up more. Thread-safe.
#pragma once

#include <memory>
#include <thread>
#include <vector>

#include "storage/nvme/committer.h"
#include "storage/nvme/pacer.h"
#include "storage/nvme/piece_writer.h"
#include "storage/nvme/run_stream.h"
#include "storage/nvme/tier_state.h"

namespace reprise::storage {

class Reclaimer {
 public:
  Reclaimer(TierState& state, Committer& committer, PieceWriter& writer,
            std::unique_ptr<RunStream> stream);
  // Ends what is being moved, unfinished.
  ~Reclaimer();

 private:
  struct Copy;
  using Number = ResidentPieces::Number;

  void ThreadMain();
  bool HasWork() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(state_.mutex);
  void WaitABit() ABSL_EXCLUSIVE_LOCKS_REQUIRED(state_.mutex);
  void Create(uint32_t segment) ABSL_LOCKS_EXCLUDED(state_.mutex);
  void GiveUpMore() ABSL_LOCKS_EXCLUDED(state_.mutex);

  void Empty(uint32_t segment) ABSL_LOCKS_EXCLUDED(state_.mutex);
  // Whether the piece has runs in the segment and these have places to go to now.
  enum class Begun : uint8_t { kYes, kNothingThere, kNoRoom };
  Begun BeginCopy(uint32_t segment, Number piece, Copy& copy)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(state_.mutex);
  absl::Status CopyRuns(Copy& copy) ABSL_LOCKS_EXCLUDED(state_.mutex);
  void EndCopy(const Copy& copy, const absl::Status& status)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(state_.mutex);
  // Until reads have gone and the rate allows it, or writes wait. CANCELLED when stopping.
  absl::Status Pace(uint64_t bytes) ABSL_LOCKS_EXCLUDED(state_.mutex);

  TierState& state_;
  Committer& committer_;
  PieceWriter& writer_;
  const std::unique_ptr<RunStream> stream_;
  Pacer pacer_;  // of the thread alone
  uint32_t fruitless_ = 0;
  bool stopping_ ABSL_GUARDED_BY(state_.mutex) = false;
  std::thread thread_;
};

}  // namespace reprise::storage
