// One I/O thread of a server: the sessions that stay on it, and their calls.
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
#include "transport/ucx/deadline_heap.h"
#include "transport/ucx/endpoint.h"
#include "transport/ucx/io_loop.h"
#include "transport/ucx/listener.h"
#include "transport/ucx/server_call.h"
#include "transport/ucx/wire.h"

namespace reprise::transport {

// Requests of one session that are unanswered, or whose handler still holds the responder.
inline constexpr size_t kMaxCallsPerSession = 256;
// Endpoints of one server, and those of them that have not said hello.
inline constexpr size_t kMaxEndpoints = 4096;
inline constexpr size_t kMaxHalfOpenEndpoints = 256;
// How long an endpoint may take to say hello.
inline constexpr std::chrono::seconds kHelloTimeout{5};

// What the loops of one server share. Thread-safe.
struct ServerShared {
  ServerShared(Service& service_in, const Clock& clock_in) : service(service_in), clock(clock_in) {}

  Service& service;
  const Clock& clock;
  const std::shared_ptr<MemoryTable> memory = std::make_shared<MemoryTable>();
  UcxCounters counters;
  std::atomic<size_t> endpoints{0};
  std::atomic<size_t> half_open{0};
};

class ServerLoop final : public LoopHandler,
                         public LoopTask,
                         public Endpoint::Owner,
                         public ServerCall::Owner,
                         public std::enable_shared_from_this<ServerLoop> {
 public:
  // `shared` must outlive the loop.
  static absl::StatusOr<std::shared_ptr<ServerLoop>> Create(
      const std::shared_ptr<UcxContext>& context, size_t receive_bytes, ServerShared& shared);
  ~ServerLoop() override;

  // With the loop whose worker the listener uses. Starts the thread.
  void Start(std::unique_ptr<Listener> listener);

  // ---- any thread ----
  void Adopt(ConnectionRequest request) ABSL_LOCKS_EXCLUDED(mutex_);
  // Stops listening and ends every session.
  void BeginShutdown() ABSL_LOCKS_EXCLUDED(mutex_);
  // Waits, after BeginShutdown of all loops, until UCX uses no memory of ours any more.
  void Join() ABSL_LOCKS_EXCLUDED(mutex_);

  UcxWorker& worker() { return loop_->worker(); }
  uint64_t free_bytes() const { return free_bytes_; }

  // ---- the loop's thread ----
  std::optional<Duration> Turn(TimePoint now) override ABSL_LOCKS_EXCLUDED(mutex_);
  void RunOnLoop() override ABSL_LOCKS_EXCLUDED(mutex_);
  void OnMessage(Endpoint& endpoint, const Frame& frame, ByteSpan message) override;
  bool AdmitBulk(Endpoint& endpoint, const Frame& frame) override;
  void OnBulk(Endpoint& endpoint, const Frame& frame, std::string message,
              SharedBytes bulk) override;
  void OnFailed(Endpoint& endpoint) override { failed_.push_back(endpoint.id()); }
  void OnCallCompleted(uint64_t endpoint_id, uint64_t call_id) override;

 private:
  struct ServerSession {
    std::unique_ptr<Endpoint> endpoint;
    std::shared_ptr<Session> session;  // null until hello was accepted
    bool said_hello = false;
    absl::flat_hash_map<uint64_t, std::shared_ptr<ServerCall>> calls;
    std::shared_ptr<std::atomic<size_t>> responders = std::make_shared<std::atomic<size_t>>(0);
  };

  ServerLoop(ServerShared& shared, std::shared_ptr<SlotPool> slots);

  void Accept(const ConnectionRequest& request);
  void OnHello(ServerSession& session, ByteSpan message);
  void Handle(ServerSession& session, std::shared_ptr<ServerCall> call);
  // The call that a Request frame opens; nullptr when it was refused or broke the protocol.
  std::shared_ptr<ServerCall> OpenCall(ServerSession& session, const Frame& frame);
  void KillCall(ServerSession& session, uint64_t call_id);
  void EndSession(uint64_t id);
  void EndDue(TimePoint now);
  // A step of ending everything. True when nothing is left.
  bool ShutDown() ABSL_LOCKS_EXCLUDED(mutex_);
  void ReclaimSlots();
  ServerSession& SessionOf(const Endpoint& endpoint) { return *sessions_.at(endpoint.id()); }

  ServerShared& shared_;
  const std::shared_ptr<SlotPool> slots_;
  std::atomic<uint64_t> free_bytes_;

  Mutex mutex_;
  std::vector<ConnectionRequest> adopted_ ABSL_GUARDED_BY(mutex_);
  bool shutting_down_ ABSL_GUARDED_BY(mutex_) = false;

  // The loop's thread only.
  uint64_t next_id_ = 1;
  uint64_t last_served_ = 0;  // who got a reclaimed slot first, the last time
  // Ordered, so that sessions that wait for slots take turns.
  absl::btree_map<uint64_t, std::unique_ptr<ServerSession>> sessions_;
  std::vector<std::unique_ptr<ServerSession>> draining_;
  std::vector<uint64_t> failed_;
  size_t open_calls_ = 0;
  DeadlineHeap<uint64_t> hello_deadlines_;
  struct CallName {
    uint64_t endpoint_id;
    uint64_t call_id;
  };
  DeadlineHeap<CallName> call_deadlines_;
  std::vector<SlotPool::Released> released_;
  std::vector<ConnectionRequest> adopting_;
  std::optional<std::chrono::steady_clock::time_point> close_by_;

  std::unique_ptr<Listener> listener_;
  std::unique_ptr<Wire> wire_;
  // Last, so that the worker goes first: callbacks of UCX's use what stands above.
  std::unique_ptr<IoLoop> loop_;
};

}  // namespace reprise::transport
