// The client's side of one connection: its calls.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"

#include "common/clock.h"
#include "common/mutex.h"
#include "common/status.h"
#include "transport/transport.h"
#include "transport/ucx/deadline_heap.h"
#include "transport/ucx/endpoint.h"
#include "transport/ucx/io_loop.h"
#include "transport/ucx/part_window.h"
#include "transport/ucx/ring_queue.h"
#include "transport/ucx/ucx_transport.h"
#include "transport/ucx/wire.h"

namespace reprise::transport {

// Calls that one channel has open at the server at once; more wait. The server's own limit
// (kMaxCallsPerSession) is larger, because it learns late that a call ended here.
inline constexpr size_t kMaxOpenCalls = 64;
// Calls that may wait for their turn; more end with RESOURCE_EXHAUSTED.
inline constexpr size_t kMaxWaitingCalls = 1 << 16;
// How long closing waits for UCX to let go of buffers. What it has not let go of by then stays
// allocated until it does.
inline constexpr std::chrono::seconds kCloseTimeout{5};

class ChannelCore;

class ClientCall final : public Call {
 public:
  ClientCall(std::weak_ptr<ChannelCore> core, uint64_t id, CallRequest request,
             std::shared_ptr<CallObserver> observer);
  void Cancel() override;

 private:
  friend class ChannelCore;

  const std::weak_ptr<ChannelCore> core_;
  const uint64_t id_;
  const Deadline deadline_;

  // The loop's thread only.
  CallRequest request_;
  std::shared_ptr<CallObserver> observer_;
  bool sent_ = false;
  bool ended_ = false;
  uint64_t credit_granted_;  // in all
  uint64_t bulk_parts_ = 0;  // announced so far
  uint32_t credit_to_grant_ = 0;
  PartWindow parts_;
  std::optional<absl::Status> status_;  // what the server completed with
};

class ChannelCore final : public LoopHandler,
                          public LoopTask,
                          public Endpoint::Owner,
                          public std::enable_shared_from_this<ChannelCore> {
 public:
  // Starts connecting to `address`; WaitForHello tells how that ended. `loop` must stay until Close
  // has returned.
  static absl::StatusOr<std::shared_ptr<ChannelCore>> Create(IoLoop& loop,
                                                             const UcxConnectOptions& options,
                                                             const SocketAddress& address,
                                                             Deadline deadline);

  // Blocks until the server answered hello or the deadline of Create has passed.
  absl::StatusOr<std::string> WaitForHello() ABSL_LOCKS_EXCLUDED(mutex_);
  // Cancels every call and waits until UCX uses no memory of ours any more.
  void Close() ABSL_LOCKS_EXCLUDED(mutex_);

  // Thread-safe.
  std::shared_ptr<Call> Start(CallRequest request, std::shared_ptr<CallObserver> observer)
      ABSL_LOCKS_EXCLUDED(mutex_);
  void Cancel(uint64_t call_id) ABSL_LOCKS_EXCLUDED(mutex_);
  bool alive() const { return alive_; }
  const CarrierMemory& memory() const { return memory_; }

  // On the loop's thread.
  std::optional<Duration> Turn() override;
  void OnDetached() override ABSL_LOCKS_EXCLUDED(mutex_);
  void RunOnLoop() override ABSL_LOCKS_EXCLUDED(mutex_);
  void OnMessage(Endpoint& endpoint, const Frame& frame, ByteSpan message) override;
  bool AdmitBulk(Endpoint& endpoint, const Frame& frame) override;
  void OnNoRoom(Endpoint& endpoint, const Frame& frame) override;
  void OnBulk(Endpoint& endpoint, const Frame& frame, std::string message,
              SharedBytes bulk) override;
  void OnFailed(Endpoint&) override {}  // Turn looks

 private:
  ChannelCore(IoLoop& loop, CarrierMemory memory, const UcxConnectOptions& options,
              const SocketAddress& address, Deadline deadline);

  void Connect();
  void FinishHello(absl::StatusOr<std::string> result) ABSL_LOCKS_EXCLUDED(mutex_);
  void OnHelloReply(const Frame& frame, ByteSpan message);
  void OnToken(const Frame& frame);
  void OnPart(ClientCall& call, const Frame& frame, ByteSpan message);
  void OnCallDone(ClientCall& call, const Frame& frame, ByteSpan message);
  // The call that a frame is about; nullptr, counted, when there is none (any more).
  std::shared_ptr<ClientCall> FindCall(const Frame& frame);
  void Deliver(const std::shared_ptr<ClientCall>& call);
  void Admit(std::shared_ptr<ClientCall> call);
  void SendWaiting();
  void EndCall(const std::shared_ptr<ClientCall>& call, const absl::Status& status);
  void EndAllCalls(const absl::Status& status);
  void EndDue(TimePoint now);
  void OnLost();
  void GrantCredit();
  // A step of closing. True when nothing is left.
  bool FinishClosing();

  CarrierMemory memory_;
  const std::string peer_;
  const SocketAddress address_;
  const std::string hello_;
  const std::optional<uint64_t> same_host_;  // this process's identity, to be offered
  const Deadline hello_deadline_;
  const Clock& clock_;

  std::atomic<bool> alive_{true};
  std::atomic<bool> closing_{false};
  std::atomic<uint64_t> next_call_id_{1};

  Mutex mutex_;
  CondVar changed_;
  IoLoop* loop_ ABSL_GUARDED_BY(mutex_);  // null once closed
  bool detached_ ABSL_GUARDED_BY(mutex_) = false;
  std::optional<absl::StatusOr<std::string>> hello_result_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::shared_ptr<ClientCall>> started_ ABSL_GUARDED_BY(mutex_);
  std::vector<uint64_t> cancelled_ ABSL_GUARDED_BY(mutex_);

  // The loop's thread only.
  Wire& wire_;
  std::unique_ptr<Endpoint> endpoint_;
  bool hello_pending_ = true;
  bool token_seen_ = false;
  bool lost_ = false;
  absl::Status lost_why_;
  size_t open_calls_ = 0;
  absl::flat_hash_map<uint64_t, std::shared_ptr<ClientCall>> calls_;
  RingQueue<std::shared_ptr<ClientCall>> waiting_;
  DeadlineHeap<uint64_t> deadlines_;
  std::vector<std::shared_ptr<ClientCall>> starting_;
  std::vector<uint64_t> cancelling_;
  std::vector<SlotPool::Released> released_;
  std::vector<std::shared_ptr<ClientCall>> to_credit_;
  std::optional<std::chrono::steady_clock::time_point> close_by_;
};

}  // namespace reprise::transport
