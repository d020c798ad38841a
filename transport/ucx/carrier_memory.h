// What one channel or server owns for its endpoints' bulk: receive slots, registered memory that
// sends come from, and counters.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "common/bytes.h"
#include "common/mutex.h"
#include "common/status.h"
#include "transport/transport.h"
#include "transport/ucx/slot_pool.h"
#include "transport/ucx/ucx_resources.h"
#include "transport/ucx/ucx_transport.h"

namespace reprise::transport {

// Since the carrier's start. Thread-safe.
struct UcxCounters {
  std::atomic<uint64_t> protocol_violations{0};
  std::atomic<uint64_t> unknown_calls{0};
  std::atomic<uint64_t> refused_requests{0};
  std::atomic<uint64_t> refused_endpoints{0};
  std::atomic<uint64_t> parked_parts{0};
  std::atomic<uint64_t> free_receive_bytes{0};
  std::atomic<uint64_t> same_host_bytes{0};
  std::atomic<uint64_t> unsent_bytes{0};  // see UnsentBytes
};

// Memory known to UCX that sends may come from. Thread-safe.
class MemoryTable {
 public:
  void Add(std::shared_ptr<const UcxMemory> memory) ABSL_LOCKS_EXCLUDED(mutex_);
  void Remove(const UcxMemory* memory) ABSL_LOCKS_EXCLUDED(mutex_);
  // The registration that covers all of `bytes`; nullptr when none does.
  std::shared_ptr<const UcxMemory> Find(ByteSpan bytes) const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  mutable Mutex mutex_;
  std::vector<std::shared_ptr<const UcxMemory>> memory_ ABSL_GUARDED_BY(mutex_);
};

// `registered` and `counters` are thread-safe, the rest belongs to the loop's thread.
struct CarrierMemory {
  // As SlotPool::Create.
  static absl::StatusOr<CarrierMemory> Create(std::shared_ptr<UcxContext> context,
                                              size_t receive_bytes);

  // What RegisterMemory of server and channel does. Sends under way keep the mapping itself alive
  // after the registration is gone.
  absl::StatusOr<std::unique_ptr<Registration>> Register(ByteSpan bytes) const;

  UcxStatistics Statistics(uint64_t unknown_senders) const;

  std::shared_ptr<UcxContext> context;
  std::shared_ptr<SlotPool> slots;
  std::shared_ptr<MemoryTable> registered;
  std::shared_ptr<UcxCounters> counters;
  // Of eager bulk that waits for slots.
  size_t parked_copy_limit = kMaxParkedCopyBytes;
  size_t parked_copy_bytes = 0;
};

}  // namespace reprise::transport
