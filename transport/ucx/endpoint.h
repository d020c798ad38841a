// One UCX endpoint: sends frames, receives them, and lands bulk in slots.
//
// Belongs to its loop's thread. A failure, whoever notices it, only sets failure(); the owner looks
// at it in its next turn, ends what depended on the endpoint, calls Close, and keeps the endpoint
// until drained(): until then UCX may still read buffers under way and write slots.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <ucp/api/ucp.h>

#include "common/bytes.h"
#include "common/limits.h"
#include "common/status.h"
#include "transport/ucx/carrier_memory.h"
#include "transport/ucx/frame.h"
#include "transport/ucx/same_host.h"
#include "transport/ucx/socket_address.h"
#include "transport/ucx/wire.h"

namespace reprise::transport {

// Bulk from this size on goes by rendezvous, and is refused otherwise; below it is copied.
inline constexpr size_t kRendezvousBytes = 64 * kKiB;

// Answers that one client has not taken yet, in the hands of calls and of UCX. Above it its
// requests are refused, and calls that have more to say end.
inline constexpr size_t kMaxUnsentBytes = 32 * kMiB;
// What each client may leave when all of one server's together leave kMaxUnsentBytes.
inline constexpr size_t kMaxUnsentBytesInCrowd = 512 * kKiB;

// Counts them, for one endpoint and for all of its carrier's. Thread-safe.
class UnsentBytes {
 public:
  explicit UnsentBytes(std::shared_ptr<UcxCounters> counters) : counters_(std::move(counters)) {}

  size_t load() const { return bytes_; }
  // What this client may leave now.
  size_t limit() const {
    return counters_->unsent_bytes > kMaxUnsentBytes ? kMaxUnsentBytesInCrowd : kMaxUnsentBytes;
  }
  void Add(size_t bytes) {
    bytes_ += bytes;
    counters_->unsent_bytes += bytes;
  }
  // Add, unless more than the limit is there already: false then.
  bool TryAdd(size_t bytes) {
    // Not added first and taken back: nobody must see a sum that never was.
    size_t unsent = bytes_;
    do {
      if (unsent > limit()) return false;
    } while (!bytes_.compare_exchange_weak(unsent, unsent + bytes));
    counters_->unsent_bytes += bytes;
    return true;
  }
  void Subtract(size_t bytes) {
    bytes_ -= bytes;
    counters_->unsent_bytes -= bytes;
  }

 private:
  const std::shared_ptr<UcxCounters> counters_;
  std::atomic<size_t> bytes_{0};
};

class Endpoint {
 public:
  // Called inside UCX's progress; must not close or destroy the endpoint.
  class Owner {
   public:
    virtual ~Owner() = default;
    // A frame without bulk. `message` is borrowed.
    virtual void OnMessage(Endpoint& endpoint, const Frame& frame, ByteSpan message) = 0;
    // A frame with bulk has been announced. False drops it.
    virtual bool AdmitBulk(Endpoint& endpoint, const Frame& frame) = 0;
    // What AdmitBulk admitted came at once, and there is no room to keep it. It has been dropped.
    virtual void OnNoRoom(Endpoint& endpoint, const Frame& frame) = 0;
    // What AdmitBulk admitted has arrived.
    virtual void OnBulk(Endpoint& endpoint, const Frame& frame, std::string message,
                        SharedBytes bulk) = 0;
    // failure() has become an error. To be acted upon in the next turn, not now.
    virtual void OnFailed(Endpoint& endpoint) = 0;
  };

  // `id` names the endpoint among its owner's; `peer` names the other side in errors; at most
  // `slot_bytes_limit` of `memory`'s slots are used at once.
  Endpoint(Wire& wire, CarrierMemory& memory, Owner& owner, uint64_t id, std::string peer,
           size_t slot_bytes_limit);
  // Only before Connect or Accept succeeded, when drained(), or when the worker is gone.
  ~Endpoint();
  Endpoint(const Endpoint&) = delete;
  Endpoint& operator=(const Endpoint&) = delete;

  // One of the two, once. Connect does not wait for the peer: a failure to reach it comes as
  // failure() later.
  absl::Status Connect(const SocketAddress& address);
  absl::Status Accept(ucp_conn_request_h request);

  // Sizes in `frame` are set here. `bulk`'s owner is kept until UCX, or the client that reads the
  // bytes, is done with them;
  // `observer`, when given, is told then. Nothing is sent on a failed endpoint.
  void Send(Frame frame, std::string message, SharedBytes bulk = SharedBytes(),
            std::shared_ptr<BulkSentObserver> observer = nullptr);

  // Server: parts with bulk of kSameHostBytes or more are lent to the client from now on.
  void LendFrom(std::unique_ptr<SameHostLender> lender) { lender_ = std::move(lender); }
  // The client needs a lent part no longer.
  void OnPartRead(const Frame& frame);
  // Client: parts that the server lends are read with `reader`.
  void ReadWith(SameHostReader reader) { reader_ = std::move(reader); }

  // What a message costs until it is sent, and the sum of what UCX has not sent yet, to which
  // owners add what they have still to send. Thread-safe.
  static size_t SendCost(size_t message_bytes) { return sizeof(SendOp) + message_bytes; }
  const std::shared_ptr<UnsentBytes>& unsent_bytes() const { return unsent_bytes_; }

  // Bulk of that call that waits for a slot is not wanted any more.
  void DropParked(uint64_t call_id);
  // Starts what waits for slots as far as there are any, oldest first; reads at most one lent part.
  // True when more may be started at once.
  bool StartParked();
  // Readers dropped a slot of `bytes` that this endpoint had handed over.
  void OnSlotReleased(size_t bytes) { slot_bytes_ -= bytes; }

  // The first failure is kept.
  void Fail(absl::Status why);
  // Fail, for a peer that broke the protocol; counted.
  void FailForViolation(const absl::Status& why);
  // OK while the endpoint works.
  const absl::Status& failure() const { return failure_; }

  // Ends everything under way, with callbacks still to come; the peer sees a reset.
  void Close();
  // Closed, and UCX uses none of our memory any more.
  bool drained() const { return closed_ && sends_ == 0 && receives_ == 0 && !closing_; }

  uint64_t id() const { return id_; }
  const std::string& peer() const { return peer_; }

 private:
  friend class Wire;
  struct Parked {
    Frame frame;
    std::string message;
    void* rendezvous = nullptr;     // UCX's descriptor, or
    std::vector<std::byte> copied;  // eager bulk; neither for a lent part
  };

  ucs_status_t OnActiveMessage(ByteSpan header, void* data, size_t data_bytes, bool rendezvous);
  ucs_status_t OnBulkAnnounced(const Frame& frame, ByteSpan message, void* data, bool rendezvous);
  ucs_status_t Park(const Frame& frame, ByteSpan message, void* data, bool rendezvous);
  void DiscardParked(const Parked& parked);
  Slot* TakeSlot(const Frame& frame, std::string message);
  void LendPart(Frame frame, std::string message, SharedBytes bulk,
                std::shared_ptr<BulkSentObserver> observer);
  void OnLentPart(const Frame& frame, ByteSpan message);
  void ReadLentPart(Slot* slot);
  void SendRead(const Frame& lent);
  void FinishLoan(SameHostLender::Loan loan);
  void StartRendezvous(Slot* slot, void* descriptor);
  void FinishReceive(Slot* slot, ucs_status_t status);
  void FinishSend(SendOp* op, ucs_status_t status);
  absl::Status Create(ucp_ep_params_t& params);

  static void OnError(void* endpoint, ucp_ep_h handle, ucs_status_t status);
  static void OnReceived(void* request, ucs_status_t status, size_t bytes, void* slot);
  static void OnSent(void* request, ucs_status_t status, void* op);
  static void OnClosed(void* request, ucs_status_t status, void* endpoint);

  Wire& wire_;
  CarrierMemory& memory_;
  Owner& owner_;
  const uint64_t id_;
  const std::string peer_;
  const size_t slot_bytes_limit_;

  ucp_ep_h handle_ = nullptr;
  absl::Status failure_;
  bool closed_ = false;
  bool closing_ = false;
  size_t sends_ = 0;
  size_t receives_ = 0;
  size_t slot_bytes_ = 0;  // receiving or in the hands of readers
  std::deque<Parked> parked_;
  const std::shared_ptr<UnsentBytes> unsent_bytes_;
  std::unique_ptr<SameHostLender> lender_;
  std::optional<SameHostReader> reader_;
};

}  // namespace reprise::transport
