// Finds what the disk has lost: reads every piece once at a bounded rate and forgets those that do
// not match their checksums.
//
// One thread; passes come one after the other. What cannot be read at all stays, and is logged: the
// device may come back. Headers of segments that are damaged are written anew, since no piece
// depends on them. Thread-safe.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <thread>

#include "absl/functional/any_invocable.h"

#include "storage/nvme/run_stream.h"
#include "storage/nvme/tier_state.h"

namespace reprise::storage {

class Scrubber {
 public:
  using Done = absl::AnyInvocable<void(uint64_t) &&>;

  Scrubber(TierState& state, std::unique_ptr<RunStream> stream);
  // Ends the pass that is under way, unfinished, and tells all.
  ~Scrubber();

  // As NvmeTier.
  void Scrub(uint64_t bytes_per_second, Done done) ABSL_LOCKS_EXCLUDED(state_.mutex);

 private:
  struct Pass {
    uint64_t bytes_per_second;
    Done done;
  };

  void ThreadMain();
  uint64_t RunPass(uint64_t bytes_per_second) ABSL_LOCKS_EXCLUDED(state_.mutex);
  // Whether it is damaged.
  bool CheckPiece(TenantId tenant, const PieceSource& source, RunStream::Window window)
      ABSL_LOCKS_EXCLUDED(state_.mutex);
  void CheckHeaders() ABSL_LOCKS_EXCLUDED(state_.mutex);

  TierState& state_;
  const std::unique_ptr<RunStream> stream_;
  std::deque<Pass> passes_ ABSL_GUARDED_BY(state_.mutex);
  bool stopping_ ABSL_GUARDED_BY(state_.mutex) = false;
  CondVar wake_;
  std::thread thread_;
};

}  // namespace reprise::storage
