// Writes of the nvme tier, from the call until the bytes are in their segments and the committer
// has them. Thread-safe.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "storage/nvme/committer.h"
#include "storage/nvme/tier_state.h"

namespace reprise::storage {

class PieceWriter {
 public:
  // Writes under way at once, and the bytes of them, unless it is one alone.
  static constexpr size_t kMaxPendingWrites = 1024;
  static constexpr uint64_t kMaxPendingBytes = uint64_t{512} << 20;

  PieceWriter(TierState& state, Committer& committer, std::unique_ptr<DiskQueue> queue);
  ~PieceWriter();

  // Until everything is written or has failed, which takes the reclaimer.
  void WaitUntilIdle() ABSL_LOCKS_EXCLUDED(state_.mutex);

  // As NvmeTier.
  void Write(NvmeTier::WriteRequest request, NvmeTier::Done done);

  // Begins what waits for an empty segment, as far as there is room now.
  void DispatchWaiting() ABSL_LOCKS_EXCLUDED(state_.mutex);
  // Under the lock of the state, as Committer::Add.
  bool has_waiting() const {
    state_.mutex.AssertHeld();
    return !waiting_.empty();
  }
  // There will be no room for what waits.
  void FailWaiting(const absl::Status& status) ABSL_LOCKS_EXCLUDED(state_.mutex);

 private:
  struct Pending;

  absl::Status Admit(Pending& pending) ABSL_EXCLUSIVE_LOCKS_REQUIRED(state_.mutex);
  bool TryPlace(Pending& pending) ABSL_EXCLUSIVE_LOCKS_REQUIRED(state_.mutex);
  void Submit(Pending& pending) ABSL_LOCKS_EXCLUDED(state_.mutex);
  void RunDone(Pending* pending, RunKind kind, absl::Status status);
  void Forget(const Pending& pending) ABSL_EXCLUSIVE_LOCKS_REQUIRED(state_.mutex);

  TierState& state_;
  Committer& committer_;
  std::deque<std::unique_ptr<Pending>> waiting_ ABSL_GUARDED_BY(state_.mutex);
  uint64_t waiting_bytes_ ABSL_GUARDED_BY(state_.mutex) = 0;
  size_t pending_ ABSL_GUARDED_BY(state_.mutex) = 0;
  uint64_t pending_bytes_ ABSL_GUARDED_BY(state_.mutex) = 0;
  CondVar idle_;
  // Last: no operation is under way once it is gone.
  std::unique_ptr<DiskQueue> queue_;
};

}  // namespace reprise::storage
