// Reads of the nvme tier: from the view to the disk and into the caller's memory. Thread-safe;
// nothing is allocated for a read once as many have been under way at once.
#pragma once

#include <memory>
#include <vector>

#include "storage/nvme/tier_state.h"

namespace reprise::storage {

class PieceReader {
 public:
  PieceReader(TierState& state, std::unique_ptr<DiskQueue> queue);
  // Waits for what is under way.
  ~PieceReader();

  // As NvmeTier.
  void Read(TenantId tenant, const Key& key, const ContentId& content, uint32_t planes,
            uint64_t from_offset, MutableByteSpan to, NvmeTier::Done done);

 private:
  struct Pending;

  // Which bytes of which run; OK when there is something to submit.
  absl::Status Prepare(Pending& pending, const PieceRecord& record, uint32_t planes,
                       uint64_t from_offset, MutableByteSpan to)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(state_.mutex);
  void AddRun(Pending& pending, const RunPlace& place, uint64_t offset, MutableByteSpan to)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(state_.mutex);
  void RunDone(Pending* pending, absl::Status status);

  TierState& state_;
  std::vector<std::unique_ptr<Pending>> unused_ ABSL_GUARDED_BY(state_.mutex);
  // Last: no operation is under way once it is gone.
  std::unique_ptr<DiskQueue> queue_;
};

}  // namespace reprise::storage
