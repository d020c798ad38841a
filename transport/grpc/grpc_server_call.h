// A call from the server's side, and what the calls of one server share. Internal to the carrier.
#pragma once

#include <atomic>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/functional/any_invocable.h"
#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/server.h>

#include "common/mutex.h"
#include "transport/grpc/grpc_message.h"
#include "transport/grpc/grpc_queue.h"
#include "transport/grpc/grpc_server.h"
#include "transport/grpc/grpc_sessions.h"

namespace reprise::transport {

class GrpcServerCall;

// The standard health check, which the carrier answers itself. Above any method's number: those
// index a vector.
inline constexpr MethodId kHealthCheck = 0xffff;

// Calls that may wait to be read, those that have ended meanwhile included.
inline constexpr size_t kMaxWaitingReads = 4096;

// Counts requests being read and the received bulk that handlers hold, and makes reading wait while
// it is too much. gRPC tells a message's size only when it has all of it, so a request that is
// being read counts as the largest. Thread-safe.
class ReceiveBudget : public std::enable_shared_from_this<ReceiveBudget> {
 public:
  explicit ReceiveBudget(size_t limit) : limit_(limit) {}

  // Calls the call's ReadRequest when there is room for its request, now or later, first come first
  // served; false when too many wait. A call that has read gives kReadBytes back by Release.
  bool Admit(std::shared_ptr<GrpcServerCall> call) ABSL_LOCKS_EXCLUDED(mutex_);
  // Bulk whose bytes count until its last copy is dropped.
  SharedBytes Charge(BufferPool::Buffer buffer) ABSL_LOCKS_EXCLUDED(mutex_);
  void Release(size_t bytes) ABSL_LOCKS_EXCLUDED(mutex_);

  static constexpr size_t kReadBytes = kMaxGrpcMessageBytes;

 private:
  class Charged;
  // Lets those read that there is room for.
  void Serve() ABSL_LOCKS_EXCLUDED(mutex_);
  std::shared_ptr<GrpcServerCall> TakeNext() ABSL_LOCKS_EXCLUDED(mutex_);

  const size_t limit_;
  Mutex mutex_;
  size_t used_ ABSL_GUARDED_BY(mutex_) = 0;
  std::deque<std::shared_ptr<GrpcServerCall>> waiting_ ABSL_GUARDED_BY(mutex_);
};

class GrpcServerCore {
 public:
  GrpcServerCore(GrpcServerOptions options, Service& service);
  ~GrpcServerCore();

  absl::Status Listen();
  const std::string& address() const { return address_; }

  // Waits for the next call on `queue`, unless the server is stopping.
  void RequestCall(GrpcQueue& queue) ABSL_LOCKS_EXCLUDED(listen_mutex_);
  void Remove(const std::shared_ptr<GrpcServerCall>& call) ABSL_LOCKS_EXCLUDED(mutex_);
  // The connection of `session` is gone: its calls die, then the service hears of it.
  void LoseSession(const std::shared_ptr<GrpcSession>& session) ABSL_LOCKS_EXCLUDED(mutex_);

  bool stopping() const { return stopping_; }
  // nullopt for a path that is no method.
  std::optional<MethodId> FindMethod(const std::string& path) const;

  const GrpcServerOptions& options() const { return options_; }
  Service& service() { return service_; }
  GrpcSessions& sessions() { return sessions_; }
  // For calls with a hello, and for those without.
  ReceiveBudget& budget(bool has_hello) { return has_hello ? *budget_ : *stranger_budget_; }
  BufferPool& pool() { return *pool_; }
  const std::shared_ptr<BulkLoans>& loans() { return loans_; }
  grpc::AsyncGenericService& generic() { return generic_; }

 private:
  std::vector<std::shared_ptr<GrpcServerCall>> Calls() ABSL_LOCKS_EXCLUDED(mutex_);
  void SweepLater() ABSL_LOCKS_EXCLUDED(listen_mutex_);
  void OnSweep(bool ok);
  void Stop();

  const GrpcServerOptions options_;
  Service& service_;
  absl::flat_hash_map<std::string, MethodId> methods_;
  GrpcSessions sessions_;
  const std::shared_ptr<ReceiveBudget> budget_;
  const std::shared_ptr<ReceiveBudget> stranger_budget_;
  const std::shared_ptr<BufferPool> pool_;
  const std::shared_ptr<BulkLoans> loans_;
  grpc::AsyncGenericService generic_;
  std::unique_ptr<grpc::Server> server_;
  std::vector<std::unique_ptr<GrpcQueue>> queues_;
  std::string address_;

  std::atomic<bool> stopping_{false};
  // Nothing new is put on the queues once stopping_ was set under it.
  Mutex listen_mutex_;
  grpc::Alarm sweep_alarm_;
  OpTag<GrpcServerCore, &GrpcServerCore::OnSweep> sweep_{this};

  Mutex mutex_;
  CondVar idle_;
  absl::flat_hash_set<std::shared_ptr<GrpcServerCall>> calls_ ABSL_GUARDED_BY(mutex_);
};

// Thread-safe. What gRPC reports is handled on the call's queue's thread; writes are started by
// whichever thread sends. Neither the lock is held then, nor while foreign code runs. The gRPC
// objects go when the last operation was reported; what is left serves a responder that lives on.
class GrpcServerCall final : public std::enable_shared_from_this<GrpcServerCall> {
 public:
  GrpcServerCall(GrpcServerCore& core, GrpcQueue& queue) : core_(core), queue_(queue) {}

  // Once, first.
  void Accept() ABSL_LOCKS_EXCLUDED(mutex_);
  // By the budget. False when the call has ended meanwhile.
  bool ReadRequest() ABSL_LOCKS_EXCLUDED(mutex_);
  // Ends the call if it has been reading since before `time`.
  void EndSlowRead(TimePoint time) ABSL_LOCKS_EXCLUDED(mutex_);
  // Completes with `status` whatever the handler still does; what is queued is dropped.
  void Kill(absl::Status status) ABSL_LOCKS_EXCLUDED(mutex_);
  bool BelongsTo(const GrpcSession* session) ABSL_LOCKS_EXCLUDED(mutex_);

  // The responder's side.
  void Send(Part part) ABSL_LOCKS_EXCLUDED(mutex_);
  void WhenWritable(absl::AnyInvocable<void() &&> ready) ABSL_LOCKS_EXCLUDED(mutex_);
  bool dead() ABSL_LOCKS_EXCLUDED(mutex_);
  void Complete(absl::Status status) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  struct Rpc {
    grpc::GenericServerContext context;
    grpc::GenericServerAsyncReaderWriter stream{&context};
    grpc::ByteBuffer incoming;
    grpc::ByteBuffer outgoing;
  };

  void OnAccepted(bool ok);
  void OnRead(bool ok);
  void OnWritten(bool ok);
  void OnFinished(bool ok);
  // The call is over, well or not.
  void OnOver(bool ok);

  void HandleRequest(IncomingPart incoming);
  void AnswerHello(const std::string& message);
  // Finds the session that the metadata name, and waits for room to read the request.
  void Open() ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status FindSession(const std::string& hello);
  // Starts what can be started now.
  void Pump() ABSL_LOCKS_EXCLUDED(mutex_);
  void OperationDone() ABSL_LOCKS_EXCLUDED(mutex_);

  GrpcServerCore& core_;  // valid while rpc_ is
  GrpcQueue& queue_;
  OpTag<GrpcServerCall, &GrpcServerCall::OnAccepted> accepted_{this};
  OpTag<GrpcServerCall, &GrpcServerCall::OnRead> read_{this};
  OpTag<GrpcServerCall, &GrpcServerCall::OnWritten> written_{this};
  OpTag<GrpcServerCall, &GrpcServerCall::OnFinished> finished_{this};
  OpTag<GrpcServerCall, &GrpcServerCall::OnOver> over_{this};

  Mutex mutex_;
  // Stays while pending_ > 0.
  std::unique_ptr<Rpc> rpc_ ABSL_GUARDED_BY(mutex_);
  int pending_ ABSL_GUARDED_BY(mutex_) = 0;
  MethodId method_ ABSL_GUARDED_BY(mutex_) = 0;
  std::shared_ptr<GrpcSession> session_ ABSL_GUARDED_BY(mutex_);
  bool holds_session_ ABSL_GUARDED_BY(mutex_) = false;
  bool has_hello_ ABSL_GUARDED_BY(mutex_) = false;
  std::optional<TimePoint> reading_since_ ABSL_GUARDED_BY(mutex_);
  bool accepted_yet_ ABSL_GUARDED_BY(mutex_) = false;
  // While the handler runs, so that a part and a completion given in it leave together.
  bool corked_ ABSL_GUARDED_BY(mutex_) = false;
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool finishing_ ABSL_GUARDED_BY(mutex_) = false;
  bool peer_gone_ ABSL_GUARDED_BY(mutex_) = false;
  bool dead_ ABSL_GUARDED_BY(mutex_) = false;
  std::deque<Part> outbox_ ABSL_GUARDED_BY(mutex_);
  absl::AnyInvocable<void() &&> ready_ ABSL_GUARDED_BY(mutex_);
  std::optional<absl::Status> completed_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace reprise::transport
