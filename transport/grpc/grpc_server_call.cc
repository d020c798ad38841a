#include "transport/grpc/grpc_server_call.h"

#include <utility>

#include "absl/strings/str_cat.h"

#include "transport/part_limits.h"

namespace reprise::transport {
namespace {

class GrpcResponder final : public Responder {
 public:
  explicit GrpcResponder(std::shared_ptr<GrpcServerCall> call) : call_(std::move(call)) {}
  ~GrpcResponder() override {
    if (!completed_) {
      call_->Complete(absl::InternalError("the handler dropped its responder without completing"));
    }
  }

  void Send(Part part) override { call_->Send(std::move(part)); }
  void WhenWritable(absl::AnyInvocable<void() &&> ready) override {
    call_->WhenWritable(std::move(ready));
  }
  bool dead() const override { return call_->dead(); }
  void Complete(absl::Status status) override {
    completed_ = true;
    call_->Complete(std::move(status));
  }

 private:
  const std::shared_ptr<GrpcServerCall> call_;
  bool completed_ = false;
};

}  // namespace

void GrpcServerCall::Accept() {
  Rpc* rpc = nullptr;
  {
    MutexLock lock(mutex_);
    rpc_ = std::make_unique<Rpc>();
    rpc = rpc_.get();
    pending_ = 1;
  }
  auto* queue = static_cast<grpc::ServerCompletionQueue*>(queue_.get());
  rpc->context.AsyncNotifyWhenDone(over_.Arm());
  core_.generic().RequestCall(&rpc->context, &rpc->stream, queue, queue, accepted_.Arm());
}

void GrpcServerCall::OnAccepted(bool ok) {
  if (!ok) {
    // The server is stopping; over_ is not reported for a call that never was.
    std::unique_ptr<Rpc> rpc;
    {
      MutexLock lock(mutex_);
      pending_ = 0;
      rpc = std::move(rpc_);
    }
    rpc.reset();
    core_.Remove(shared_from_this());
    return;
  }
  core_.RequestCall(queue_);
  std::optional<MethodId> method;
  std::string path;
  {
    MutexLock lock(mutex_);
    ++pending_;  // over_, reported from now on
    accepted_yet_ = true;
    path = rpc_->context.method();
    method = core_.FindMethod(path);
    method_ = method.value_or(0);
  }
  if (core_.stopping()) {
    Kill(absl::UnavailableError("the server is shutting down"));
  } else if (!method.has_value()) {
    Complete(absl::UnimplementedError(absl::StrCat(path, " is not a method of this server")));
  } else {
    Open();
  }
  OperationDone();
}

void GrpcServerCall::Open() {
  std::optional<std::string> hello;
  {
    MutexLock lock(mutex_);
    const auto& metadata = rpc_->context.client_metadata();
    const auto found = metadata.find(kHelloMetadata);
    const bool is_call = method_ != core_.options().hello_method && method_ != kHealthCheck;
    if (is_call && found != metadata.end()) {
      hello.emplace(found->second.data(), found->second.size());
    }
    has_hello_ = hello.has_value();
  }
  // Before anything is read: whom the service refuses gets no room.
  if (hello.has_value()) {
    if (absl::Status status = FindSession(*hello); !status.ok()) return Complete(std::move(status));
  }
  if (!core_.budget(hello.has_value()).Admit(shared_from_this())) {
    Complete(absl::ResourceExhaustedError("too many requests wait to be read; try again later"));
  }
}

bool GrpcServerCall::ReadRequest() {
  Rpc* rpc = nullptr;
  {
    MutexLock lock(mutex_);
    if (rpc_ == nullptr || dead_ || completed_.has_value()) return false;
    ++pending_;
    reading_since_ = core_.options().clock->Now();
    rpc = rpc_.get();
  }
  rpc->stream.Read(&rpc->incoming, read_.Arm());
  return true;
}

void GrpcServerCall::EndSlowRead(TimePoint time) {
  {
    MutexLock lock(mutex_);
    if (!reading_since_.has_value() || *reading_since_ >= time) return;
  }
  Kill(absl::DeadlineExceededError("the request did not come in time; others wait to be read"));
}

void GrpcServerCall::OnRead(bool ok) {
  Rpc* rpc = nullptr;
  bool has_hello = false;
  {
    MutexLock lock(mutex_);
    rpc = rpc_.get();
    has_hello = has_hello_;
    reading_since_.reset();
  }
  if (!ok) {
    Complete(absl::InvalidArgumentError("the call ended before its request"));
  } else {
    absl::StatusOr<IncomingPart> incoming = IncomingPart::Parse(rpc->incoming);
    rpc->incoming.Clear();
    if (incoming.ok()) {
      HandleRequest(*std::move(incoming));
    } else {
      Complete(incoming.status());
    }
  }
  core_.budget(has_hello).Release(ReceiveBudget::kReadBytes);
  OperationDone();
}

absl::Status GrpcServerCall::FindSession(const std::string& hello) {
  if (hello.size() > kMaxGrpcHelloBytes) {
    return absl::InvalidArgumentError(absl::StrCat(
        "a hello of ", hello.size(), " bytes is over the limit of ", kMaxGrpcHelloBytes));
  }
  std::string peer;
  {
    MutexLock lock(mutex_);
    peer = rpc_->context.peer();
  }
  REPRISE_ASSIGN_OR_RETURN(std::shared_ptr<GrpcSession> session,
                           core_.sessions().Acquire(peer, hello));
  MutexLock lock(mutex_);
  session_ = std::move(session);
  return absl::OkStatus();
}

void GrpcServerCall::AnswerHello(const std::string& message) {
  if (absl::Status status = FindSession(message); !status.ok()) return Complete(std::move(status));
  std::string reply;
  bool hold = false;
  {
    MutexLock lock(mutex_);
    reply = session_->reply.message;
    hold = rpc_->context.client_metadata().count(kHoldMetadata) > 0;
    holds_session_ = hold;
  }
  Send(Part{std::move(reply), SharedBytes()});
  if (!hold) Complete(absl::OkStatus());
}

void GrpcServerCall::HandleRequest(IncomingPart incoming) {
  if (core_.stopping()) return Kill(absl::UnavailableError("the server is shutting down"));
  MethodId method = 0;
  bool has_hello = false;
  Deadline deadline = Deadline::After(kMaxDeadline);
  {
    MutexLock lock(mutex_);
    method = method_;
    has_hello = has_hello_;
    deadline = FromGrpcDeadline(rpc_->context.raw_deadline());
  }
  if (method == kHealthCheck) {
    Send(Part{"\x08\x01", SharedBytes()});  // HealthCheckResponse with status = SERVING
    return Complete(absl::OkStatus());
  }
  if (method == core_.options().hello_method) return AnswerHello(incoming.CopyMessage());
  Request request{.method = method,
                  .message = incoming.CopyMessage(),
                  .bulk = {},
                  .deadline = deadline,
                  .session = nullptr};
  if (incoming.bulk_size() > 0) {
    request.bulk = core_.budget(has_hello).Charge(incoming.CopyBulk(core_.pool()));
  }
  // Gives gRPC's copy back before a handler may take long.
  { const IncomingPart dropped = std::move(incoming); }
  {
    MutexLock lock(mutex_);
    if (session_ != nullptr) request.session = session_->reply.session;
    corked_ = true;
  }
  core_.service().Handle(std::move(request), std::make_unique<GrpcResponder>(shared_from_this()));
  {
    MutexLock lock(mutex_);
    corked_ = false;
  }
  Pump();
}

void GrpcServerCall::OnWritten(bool ok) {
  {
    MutexLock lock(mutex_);
    writing_ = false;
    rpc_->outgoing.Clear();
    if (!ok) peer_gone_ = dead_ = true;
  }
  Pump();
  OperationDone();
}

void GrpcServerCall::OnFinished(bool /*ok*/) { OperationDone(); }

void GrpcServerCall::OnOver(bool /*ok*/) {
  {
    MutexLock lock(mutex_);
    if (rpc_->context.IsCancelled()) peer_gone_ = dead_ = true;
  }
  Pump();
  OperationDone();
}

void GrpcServerCall::OperationDone() {
  std::unique_ptr<Rpc> rpc;
  std::shared_ptr<GrpcSession> session;
  bool held = false;
  {
    MutexLock lock(mutex_);
    if (--pending_ > 0) return;
    rpc = std::move(rpc_);
    session = std::move(session_);
    held = holds_session_;
    dead_ = true;
  }
  rpc.reset();
  if (session != nullptr) {
    if (held) core_.LoseSession(session);
    core_.sessions().Release(session);
  }
  core_.Remove(shared_from_this());
}

void GrpcServerCall::Kill(absl::Status status) {
  {
    MutexLock lock(mutex_);
    if (!accepted_yet_ || rpc_ == nullptr) return;
    dead_ = true;
    if (!completed_.has_value()) completed_ = std::move(status);
  }
  Pump();
}

bool GrpcServerCall::BelongsTo(const GrpcSession* session) {
  MutexLock lock(mutex_);
  return session_.get() == session;
}

void GrpcServerCall::Send(Part part) {
  const absl::Status sizes = CheckPartSizes(part.message.size(), part.bulk.size());
  {
    MutexLock lock(mutex_);
    if (dead_ || completed_.has_value()) return;
    if (sizes.ok()) {
      outbox_.push_back(std::move(part));
    } else {
      completed_ = absl::InternalError(absl::StrCat("the service sent ", sizes.ToString()));
    }
  }
  Pump();
}

void GrpcServerCall::WhenWritable(absl::AnyInvocable<void() &&> ready) {
  {
    MutexLock lock(mutex_);
    if (!dead_ && !outbox_.empty()) {
      ready_ = std::move(ready);
      return;
    }
  }
  std::move(ready)();
}

bool GrpcServerCall::dead() {
  MutexLock lock(mutex_);
  return dead_;
}

void GrpcServerCall::Complete(absl::Status status) {
  {
    MutexLock lock(mutex_);
    if (completed_.has_value()) return;
    completed_ = std::move(status);
  }
  Pump();
}

void GrpcServerCall::Pump() {
  Rpc* rpc = nullptr;
  std::optional<Part> part;
  std::optional<grpc::Status> finish;
  std::deque<Part> dropped;
  absl::AnyInvocable<void() &&> ready;
  {
    MutexLock lock(mutex_);
    if (dead_) {
      dropped.swap(outbox_);
      ready = std::exchange(ready_, nullptr);
    }
    if (rpc_ != nullptr && !corked_ && !writing_ && !finishing_ && !peer_gone_) {
      if (!outbox_.empty()) {
        part = std::move(outbox_.front());
        outbox_.pop_front();
      }
      if (outbox_.empty() && completed_.has_value()) finish = ToGrpcStatus(*completed_);
      if (part.has_value() || finish.has_value()) {
        rpc = rpc_.get();
        ++pending_;
        writing_ = !finish.has_value();
        finishing_ = finish.has_value();
      }
    }
    if (ready_ && outbox_.empty()) ready = std::exchange(ready_, nullptr);
  }
  // What was decided is ours alone to start: the flags and pending_ keep others off, and rpc_ in
  // place.
  if (part.has_value()) {
    rpc->outgoing = EncodePart(part->message, std::move(part->bulk), core_.loans());
  }
  if (finish.has_value() && finish->error_code() == grpc::StatusCode::CANCELLED) {
    rpc->context.AddTrailingMetadata(kCancelledMetadata, "1");
  }
  if (part.has_value() && finish.has_value()) {
    rpc->stream.WriteAndFinish(rpc->outgoing, grpc::WriteOptions(), *finish, finished_.Arm());
  } else if (part.has_value()) {
    rpc->stream.Write(rpc->outgoing, written_.Arm());
  } else if (finish.has_value()) {
    rpc->stream.Finish(*finish, finished_.Arm());
  }
  dropped.clear();
  if (ready) std::move(ready)();
}

}  // namespace reprise::transport
