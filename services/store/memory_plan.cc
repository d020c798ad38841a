#include "services/store/memory_plan.h"

#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <limits>
#include <string>

#include "absl/strings/str_cat.h"

#include "common/limits.h"
#include "services/store/byte_size.h"
#include "services/store/store_call.h"
#include "transport/ucx/ucx_transport.h"

namespace reprise::store {
namespace {

constexpr uint64_t kBaselineBytes = 96 * kMiB;
// Requests as StoreCall bounds them, small bulk that waits for a receive slot, and replies that
// wait to be sent: what one client may leave unread, which few do.
constexpr uint64_t kMessageBytes =
    kMaxRequestBytesInAll + transport::kMaxParkedCopyBytes + 32 * kMiB;
constexpr uint64_t kMinPiecesBytes = 64 * kMiB;

// A share of `total`, in whole parts, within bounds.
uint64_t Share(uint64_t total, uint64_t divisor, uint64_t least, uint64_t most) {
  return std::clamp(total / divisor / kMaxPartBytes * kMaxPartBytes, least, most);
}

// What the disk tier's index and caches need to run well; 40 GiB of --memory then know of some ten
// million pieces on the disk.
constexpr uint64_t kDiskShare = 16;
constexpr uint64_t kMinDiskBytes = 32 * kMiB;
constexpr uint64_t kMaxDiskBytes = 4 * kGiB;

MemoryPlan FixedParts(uint64_t total, bool has_disk) {
  MemoryPlan plan;
  plan.total_bytes = total;
  plan.baseline_bytes = kBaselineBytes;
  plan.ucx_receive_bytes = Share(total, 16, 2 * kMaxPartBytes, 64 * kMiB);
  plan.grpc_receive_bytes = Share(total, 8, 4 * kMaxPartBytes, 128 * kMiB);
  plan.gather_bytes = Share(total, 32, 2 * kMaxPartBytes, 64 * kMiB);
  plan.message_bytes = kMessageBytes;
  if (has_disk) plan.disk_bytes = Share(total, kDiskShare, kMinDiskBytes, kMaxDiskBytes);
  return plan;
}

uint64_t FixedBytes(const MemoryPlan& plan) {
  return plan.baseline_bytes + plan.ucx_receive_bytes + plan.grpc_receive_bytes +
         plan.gather_bytes + plan.message_bytes + plan.disk_bytes;
}

}  // namespace

absl::StatusOr<MemoryPlan> PlanMemory(uint64_t total_bytes, uint64_t physical_bytes,
                                      bool has_disk) {
  if (total_bytes < MinimumMemoryBytes(has_disk)) {
    return absl::InvalidArgumentError(
        absl::StrCat("a memory of ", FormatByteSize(total_bytes), " is too small: a store ",
                     has_disk ? "with a disk " : "", "needs ",
                     FormatByteSize(MinimumMemoryBytes(has_disk)), " or more"));
  }
  if (total_bytes > physical_bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("a memory of ", FormatByteSize(total_bytes), " is more than the ",
                     FormatByteSize(physical_bytes), " that this process may use"));
  }
  MemoryPlan plan = FixedParts(total_bytes, has_disk);
  plan.pieces_bytes = total_bytes - FixedBytes(plan);
  return plan;
}

uint64_t MinimumMemoryBytes(bool has_disk) {
  return FixedBytes(FixedParts(0, has_disk)) + kMinPiecesBytes;
}

uint64_t PhysicalMemoryBytes() {
  const int64_t pages = sysconf(_SC_PHYS_PAGES);
  const int64_t page_bytes = sysconf(_SC_PAGESIZE);
  uint64_t bytes = std::numeric_limits<uint64_t>::max();
  if (pages > 0 && page_bytes > 0) {
    bytes = static_cast<uint64_t>(pages) * static_cast<uint64_t>(page_bytes);
  }
  // Control groups, version 2 and version 1; "max" and absurd numbers mean no limit.
  for (const char* path :
       {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"}) {
    std::ifstream file(path);
    uint64_t limit = 0;
    if (file >> limit && limit > 0) bytes = std::min(bytes, limit);
  }
  return bytes;
}

uint64_t DefaultMemoryBytes(uint64_t physical_bytes, bool has_disk) {
  return std::max<uint64_t>(physical_bytes / 4 / kMiB * kMiB, MinimumMemoryBytes(has_disk));
}

}  // namespace reprise::store
