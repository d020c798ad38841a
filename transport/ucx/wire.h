// What the endpoints of one UCX worker share: the active-message handler that finds the endpoint a
// frame came from, the receive slots, pooled send operations and registered memory.
//
// A Wire belongs to its loop's thread. MemoryTable and UcxCounters are thread-safe.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include <ucp/api/ucp.h>

#include "common/bytes.h"
#include "common/limits.h"
#include "common/mutex.h"
#include "common/status.h"
#include "transport/ucx/frame.h"
#include "transport/ucx/slot_pool.h"
#include "transport/ucx/ucx_resources.h"

namespace reprise::transport {

// Since the carrier's start.
struct UcxCounters {
  std::atomic<uint64_t> protocol_violations{0};  // endpoints closed for a malformed frame
  std::atomic<uint64_t> unknown_calls{0};        // replies to requests never made; ignored
  std::atomic<uint64_t> unknown_endpoints{0};    // frames without a sender; ignored
  std::atomic<uint64_t> refused_requests{0};     // over the window of open calls
  std::atomic<uint64_t> refused_endpoints{0};    // over the limit of endpoints
  std::atomic<uint64_t> parked_parts{0};         // bulk that had to wait for a receive slot
};

// Registered memory that sends come from.
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

// Told on the loop's thread when UCX needs a part's bulk no longer.
class BulkSentObserver {
 public:
  virtual ~BulkSentObserver() = default;
  virtual void OnBulkSent() = 0;
};

// One send under way. UCX reads `header`, `message` and `bulk` until it completes the request.
struct SendOp {
  std::array<std::byte, kFrameHeaderBytes + kMaxBulkMessageBytes> header;
  size_t header_bytes = 0;
  std::string message;
  SharedBytes bulk;
  std::shared_ptr<const UcxMemory> memory;
  std::shared_ptr<BulkSentObserver> observer;
  Endpoint* endpoint = nullptr;
};

class Wire {
 public:
  // INTERNAL when this UCX cannot carry the frame header. All references must outlive the wire, and
  // the wire the loop's thread.
  static absl::StatusOr<std::unique_ptr<Wire>> Create(UcxWorker& worker,
                                                      std::shared_ptr<SlotPool> slots,
                                                      const MemoryTable& memory,
                                                      UcxCounters& counters);
  Wire(const Wire&) = delete;
  Wire& operator=(const Wire&) = delete;

  // Frames from `handle` go to `endpoint` from now on.
  void Add(ucp_ep_h handle, Endpoint* endpoint) { endpoints_[handle] = endpoint; }
  void Remove(ucp_ep_h handle) { endpoints_.erase(handle); }

  SendOp* TakeSendOp();
  void GiveBack(SendOp* op);

  ucp_worker_h worker() const { return worker_.get(); }
  SlotPool& slots() { return *slots_; }
  const MemoryTable& memory() const { return memory_; }
  UcxCounters& counters() { return counters_; }

 private:
  Wire(UcxWorker& worker, std::shared_ptr<SlotPool> slots, const MemoryTable& memory,
       UcxCounters& counters)
      : worker_(worker), slots_(std::move(slots)), memory_(memory), counters_(counters) {}
  static ucs_status_t OnActiveMessage(void* wire, const void* header, size_t header_bytes,
                                      void* data, size_t data_bytes,
                                      const ucp_am_recv_param_t* param);

  UcxWorker& worker_;
  const std::shared_ptr<SlotPool> slots_;
  const MemoryTable& memory_;
  UcxCounters& counters_;
  absl::flat_hash_map<ucp_ep_h, Endpoint*> endpoints_;
  std::vector<std::unique_ptr<SendOp>> send_ops_;
  std::vector<SendOp*> free_send_ops_;
};

}  // namespace reprise::transport
