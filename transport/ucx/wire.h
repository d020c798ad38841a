// One UCX worker with what all endpoints on it share: the active-message handler that finds the
// endpoint a frame came from, and pooled send operations. Belongs to the loop's thread.
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
#include "common/status.h"
#include "transport/ucx/frame.h"
#include "transport/ucx/ucx_resources.h"

namespace reprise::transport {

class Endpoint;

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
  // INTERNAL when UCX cannot be set up or cannot carry the frame header.
  static absl::StatusOr<std::unique_ptr<Wire>> Create(std::shared_ptr<UcxContext> context);
  ~Wire();
  Wire(const Wire&) = delete;
  Wire& operator=(const Wire&) = delete;

  // Frames from `handle` go to `endpoint` from now on.
  void Add(ucp_ep_h handle, Endpoint* endpoint) { endpoints_[handle] = endpoint; }
  void Remove(ucp_ep_h handle) { endpoints_.erase(handle); }

  SendOp* TakeSendOp();
  void GiveBack(SendOp* op);

  UcxWorker& worker() { return *worker_; }
  // Frames that named no sender, or one that is gone. Thread-safe.
  uint64_t unknown_senders() const { return unknown_senders_; }

 private:
  explicit Wire(std::unique_ptr<UcxWorker> worker) : worker_(std::move(worker)) {}
  static ucs_status_t OnActiveMessage(void* wire, const void* header, size_t header_bytes,
                                      void* data, size_t data_bytes,
                                      const ucp_am_recv_param_t* param);

  std::unique_ptr<UcxWorker> worker_;
  absl::flat_hash_map<ucp_ep_h, Endpoint*> endpoints_;
  std::vector<std::unique_ptr<SendOp>> send_ops_;
  std::vector<SendOp*> free_send_ops_;
  std::atomic<uint64_t> unknown_senders_{0};
};

}  // namespace reprise::transport
