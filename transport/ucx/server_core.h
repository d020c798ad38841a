// The server's side: its sessions and their calls.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/container/flat_hash_map.h"

#include "common/clock.h"
#include "common/mutex.h"
#include "transport/transport.h"
#include "transport/ucx/carrier_memory.h"
#include "transport/ucx/deadline_heap.h"
#include "transport/ucx/endpoint.h"
#include "transport/ucx/io_loop.h"
#include "transport/ucx/listener.h"
#include "transport/ucx/server_call.h"
#include "transport/ucx/ucx_transport.h"
#include "transport/ucx/wire.h"

namespace reprise::transport {

// Requests of one session that are unanswered, or whose handler still holds the responder.
inline constexpr size_t kMaxCallsPerSession = 256;
// Endpoints of one server, and those of them that have not said hello.
inline constexpr size_t kMaxEndpoints = 4096;
inline constexpr size_t kMaxHalfOpenEndpoints = 256;
// How long an endpoint may take to say hello.
inline constexpr std::chrono::seconds kHelloTimeout{5};

class ServerCore final : public LoopHandler,
                         public LoopTask,
                         public Endpoint::Owner,
                         public ServerCall::Owner,
                         public std::enable_shared_from_this<ServerCore> {
 public:
  // Starts listening on the first of `addresses` that allows it; WaitUntilListening tells how that
  // ended. `loop` must stay until Close has returned.
  static absl::StatusOr<std::shared_ptr<ServerCore>> Create(IoLoop& loop,
                                                            const UcxServerOptions& options,
                                                            std::vector<SocketAddress> addresses);

  // The address as bound.
  absl::StatusOr<std::string> WaitUntilListening() ABSL_LOCKS_EXCLUDED(mutex_);
  // Stops listening, ends every session and waits until UCX uses no memory of ours any more.
  void Close() ABSL_LOCKS_EXCLUDED(mutex_);

  const CarrierMemory& memory() const { return memory_; }

  // ---- the loop's thread ----
  std::optional<Duration> Turn() override;
  void OnDetached() override ABSL_LOCKS_EXCLUDED(mutex_);
  void RunOnLoop() override;
  void OnMessage(Endpoint& endpoint, const Frame& frame, ByteSpan message) override;
  bool AdmitBulk(Endpoint& endpoint, const Frame& frame) override;
  void OnNoRoom(Endpoint& endpoint, const Frame& frame) override;
  void OnBulk(Endpoint& endpoint, const Frame& frame, std::string message,
              SharedBytes bulk) override;
  void OnFailed(Endpoint& endpoint) override { failed_.push_back(endpoint.id()); }
  void OnCallCompleted(uint64_t endpoint_id, uint64_t call_id) override;

 private:
  struct ServerSession {
    std::unique_ptr<Endpoint> endpoint;
    std::shared_ptr<Session> session;  // null until hello was accepted
    bool said_hello = false;
    std::unique_ptr<SameHostLender> to_prove;  // until the client's proof
    absl::flat_hash_map<uint64_t, std::shared_ptr<ServerCall>> calls;
    // Held by handlers, also of calls that ended.
    std::shared_ptr<std::atomic<size_t>> responders = std::make_shared<std::atomic<size_t>>(0);
  };
  struct CallName {
    uint64_t endpoint_id;
    uint64_t call_id;
  };

  ServerCore(IoLoop& loop, CarrierMemory memory, const UcxServerOptions& options,
             std::vector<SocketAddress> addresses);

  void Listen() ABSL_LOCKS_EXCLUDED(mutex_);
  bool OnConnection(const ConnectionRequest& request);
  void OnHello(ServerSession& session, const Frame& frame, ByteSpan message);
  void OnProof(ServerSession& session, ByteSpan proof);
  void EndSession(uint64_t id);
  // The call that a Request frame opens; nullptr when it was refused or broke the protocol.
  std::shared_ptr<ServerCall> OpenCall(ServerSession& session, const Frame& frame);
  void Refuse(Endpoint& endpoint, uint64_t call_id, std::string why);
  void Handle(ServerSession& session, std::shared_ptr<ServerCall> call);
  void KillCall(ServerSession& session, uint64_t call_id);
  void EndDue(TimePoint now);
  // A step of closing. True when nothing is left.
  bool FinishClosing();
  ServerSession& SessionOf(const Endpoint& endpoint) { return *sessions_.at(endpoint.id()); }

  IoLoop& loop_;
  Service& service_;
  const Clock& clock_;
  const std::vector<SocketAddress> addresses_;
  CarrierMemory memory_;
  const std::optional<uint64_t> same_host_;  // whose clients may read this process
  std::atomic<bool> closing_{false};

  Mutex mutex_;
  CondVar changed_;
  std::optional<absl::StatusOr<std::string>> listening_ ABSL_GUARDED_BY(mutex_);
  bool detached_ ABSL_GUARDED_BY(mutex_) = false;

  // The loop's thread only.
  bool started_ = false;
  std::unique_ptr<Listener> listener_;
  uint64_t next_id_ = 1;
  uint64_t last_served_ = 0;  // who got reclaimed slots first, the last time
  size_t half_open_ = 0;
  size_t open_calls_ = 0;
  // Ordered, so that sessions that wait for slots take turns.
  absl::btree_map<uint64_t, std::unique_ptr<ServerSession>> sessions_;
  std::vector<std::unique_ptr<ServerSession>> draining_;
  std::vector<uint64_t> failed_;
  DeadlineHeap<uint64_t> hello_deadlines_;
  DeadlineHeap<CallName> call_deadlines_;
  std::vector<SlotPool::Released> released_;
  std::optional<std::chrono::steady_clock::time_point> close_by_;
};

}  // namespace reprise::transport
