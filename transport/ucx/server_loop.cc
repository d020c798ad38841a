#include "transport/ucx/server_loop.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

#include "common/limits.h"
#include "common/log.h"
#include "transport/ucx/channel_core.h"

namespace reprise::transport {

static_assert(kMaxCallsPerSession >= 2 * kMaxOpenCalls,
              "a client's full window must fit beside as many calls that it has just cancelled");

// ---- life ----

ServerLoop::ServerLoop(ServerShared& shared, std::shared_ptr<SlotPool> slots)
    : shared_(shared), slots_(std::move(slots)), free_bytes_(slots_->free_bytes()) {}

ServerLoop::~ServerLoop() = default;

absl::StatusOr<std::shared_ptr<ServerLoop>> ServerLoop::Create(
    const std::shared_ptr<UcxContext>& context, size_t receive_bytes, ServerShared& shared) {
  REPRISE_ASSIGN_OR_RETURN(std::shared_ptr<SlotPool> slots,
                           SlotPool::Create(context, receive_bytes));
  std::shared_ptr<ServerLoop> loop(new ServerLoop(shared, std::move(slots)));
  REPRISE_ASSIGN_OR_RETURN(std::unique_ptr<UcxWorker> worker, UcxWorker::Create(context));
  loop->loop_ = std::make_unique<IoLoop>(std::move(worker), shared.clock);
  REPRISE_ASSIGN_OR_RETURN(loop->wire_, Wire::Create(loop->loop_->worker(), loop->slots_,
                                                     *shared.memory, shared.counters));
  return loop;
}

void ServerLoop::Start(std::unique_ptr<Listener> listener) {
  listener_ = std::move(listener);
  slots_->Attach(loop_.get(), shared_from_this());
  loop_->Start(*this, "reprise-ucx");
}

void ServerLoop::Adopt(ConnectionRequest request) {
  {
    MutexLock lock(mutex_);
    adopted_.push_back(std::move(request));
  }
  loop_->Schedule(shared_from_this());
}

void ServerLoop::BeginShutdown() {
  {
    MutexLock lock(mutex_);
    shutting_down_ = true;
  }
  loop_->Schedule(shared_from_this());
}

void ServerLoop::Join() {
  loop_->Join();
  slots_->Detach();
}

// ---- turns ----

void ServerLoop::RunOnLoop() {
  {
    MutexLock lock(mutex_);
    adopting_.swap(adopted_);
  }
  for (const ConnectionRequest& request : adopting_) Accept(request);
  adopting_.clear();
  ReclaimSlots();
}

std::optional<Duration> ServerLoop::Turn(TimePoint now) {
  while (!failed_.empty()) {
    const uint64_t id = failed_.back();
    failed_.pop_back();
    EndSession(id);
  }
  EndDue(now);
  std::erase_if(draining_, [](const auto& session) { return session->endpoint->drained(); });
  const bool shutting_down = [this] {
    MutexLock lock(mutex_);
    return shutting_down_;
  }();
  if (shutting_down && ShutDown()) return std::nullopt;
  const bool busy = open_calls_ > 0 || !draining_.empty();
  Duration sleep = busy ? IoLoop::kBusySleep : IoLoop::kIdleSleep;
  for (const std::optional<TimePoint> next : {hello_deadlines_.next(), call_deadlines_.next()}) {
    if (!next.has_value()) continue;
    sleep = std::min<Duration>(sleep, std::max<Duration>(*next - now, Duration::zero()));
  }
  return sleep;
}

bool ServerLoop::ShutDown() {
  const auto steady_now = std::chrono::steady_clock::now();
  if (!close_by_.has_value()) {
    close_by_ = steady_now + kCloseTimeout;
    listener_ = nullptr;
    while (!sessions_.empty()) EndSession(sessions_.begin()->first);
    failed_.clear();
  }
  if (draining_.empty()) {
    MutexLock lock(mutex_);
    return adopted_.empty();
  }
  if (steady_now < *close_by_) return false;
  LogWarning("UCX did not let go of closed endpoints' buffers", {{"endpoints", draining_.size()}});
  return true;
}

void ServerLoop::EndDue(TimePoint now) {
  while (const std::optional<uint64_t> id = hello_deadlines_.PopDue(now)) {
    const auto found = sessions_.find(*id);
    if (found == sessions_.end() || found->second->said_hello) continue;
    LogWarning("closing a data endpoint that did not say hello",
               {{"peer", found->second->endpoint->peer()}});
    EndSession(*id);
  }
  while (const std::optional<CallName> call = call_deadlines_.PopDue(now)) {
    const auto found = sessions_.find(call->endpoint_id);
    if (found != sessions_.end()) KillCall(*found->second, call->call_id);
  }
}

void ServerLoop::ReclaimSlots() {
  slots_->Reclaim(released_);
  free_bytes_ = slots_->free_bytes();
  if (released_.empty()) return;
  for (const SlotPool::Released& released : released_) {
    const auto found = sessions_.find(released.endpoint_id);
    if (found != sessions_.end()) found->second->endpoint->OnSlotReleased(released.bytes);
  }
  // Sessions take turns at being the first.
  auto at = sessions_.upper_bound(last_served_);
  if (at == sessions_.end()) at = sessions_.begin();
  if (at != sessions_.end()) last_served_ = at->first;
  for (size_t i = 0; i < sessions_.size(); ++i) {
    at->second->endpoint->StartParked();
    if (++at == sessions_.end()) at = sessions_.begin();
  }
  free_bytes_ = slots_->free_bytes();
}

// ---- sessions ----

void ServerLoop::Accept(const ConnectionRequest& request) {
  const uint64_t id = next_id_++;
  auto session = std::make_unique<ServerSession>();
  session->endpoint =
      std::make_unique<Endpoint>(*wire_, *this, id, request.peer, slots_->total_bytes() / 2);
  if (const absl::Status status = session->endpoint->Accept(request.request); !status.ok()) {
    LogWarning("cannot accept a data endpoint",
               {{"peer", request.peer}, {"reason", std::string(status.message())}});
    --shared_.half_open;
    --shared_.endpoints;
    return;
  }
  hello_deadlines_.Push(Deadline::After(kHelloTimeout, shared_.clock), id);
  sessions_.emplace(id, std::move(session));
  if (close_by_.has_value()) EndSession(id);
}

void ServerLoop::OnHello(ServerSession& session, ByteSpan message) {
  if (session.said_hello) {
    session.endpoint->FailForViolation(absl::InvalidArgumentError("hello came twice"));
    return;
  }
  session.said_hello = true;
  --shared_.half_open;
  absl::StatusOr<HelloReply> reply =
      shared_.service.Hello(AsText(message), session.endpoint->peer());
  Frame frame{.kind = FrameKind::kWelcome};
  if (reply.ok()) {
    session.session = std::move(reply->session);
    session.endpoint->Send(frame, std::move(reply->message));
    return;
  }
  // The client closes the endpoint when it has read this; until then nothing is accepted on it.
  frame.status = reply.status().code();
  session.endpoint->Send(frame,
                         std::string(reply.status().message().substr(0, kMaxStatusTextBytes)));
}

void ServerLoop::EndSession(uint64_t id) {
  const auto found = sessions_.find(id);
  if (found == sessions_.end()) return;
  std::unique_ptr<ServerSession> session = std::move(found->second);
  sessions_.erase(found);
  session->endpoint->Close();
  open_calls_ -= session->calls.size();
  for (const auto& [call_id, call] : session->calls) call->Kill();
  session->calls.clear();
  if (!session->said_hello) --shared_.half_open;
  --shared_.endpoints;
  if (session->session != nullptr) {
    shared_.service.SessionLost(session->session);
    session->session = nullptr;
  }
  draining_.push_back(std::move(session));
}

// ---- calls ----

std::shared_ptr<ServerCall> ServerLoop::OpenCall(ServerSession& session, const Frame& frame) {
  Endpoint& endpoint = *session.endpoint;
  if (session.session == nullptr) {
    endpoint.FailForViolation(absl::InvalidArgumentError("a request came before hello"));
    return nullptr;
  }
  if (session.calls.contains(frame.call_id)) {
    endpoint.FailForViolation(
        absl::InvalidArgumentError(absl::StrCat("call ", frame.call_id, " was opened twice")));
    return nullptr;
  }
  if (std::max(session.calls.size(), session.responders->load()) >= kMaxCallsPerSession) {
    ++shared_.counters.refused_requests;
    endpoint.Send(Frame{.kind = FrameKind::kDone,
                        .call_id = frame.call_id,
                        .status = absl::StatusCode::kResourceExhausted},
                  absl::StrCat("the session has ", kMaxCallsPerSession, " calls open already"));
    return nullptr;
  }
  auto call = std::make_shared<ServerCall>(*loop_, *this, endpoint, frame.call_id, frame.credit);
  call->request.method = frame.method;
  call->request.deadline =
      Deadline::After(std::chrono::milliseconds(frame.deadline_ms), shared_.clock);
  call->request.session = session.session;
  call_deadlines_.Prune(open_calls_, [this](const CallName& name) {
    const auto found = sessions_.find(name.endpoint_id);
    return found == sessions_.end() || !found->second->calls.contains(name.call_id);
  });
  call_deadlines_.Push(call->request.deadline, CallName{endpoint.id(), frame.call_id});
  session.calls.emplace(frame.call_id, call);
  ++open_calls_;
  return call;
}

void ServerLoop::Handle(ServerSession& session, std::shared_ptr<ServerCall> call) {
  Request request = std::move(call->request);
  shared_.service.Handle(std::move(request),
                         std::make_unique<UcxResponder>(std::move(call), session.responders));
}

void ServerLoop::KillCall(ServerSession& session, uint64_t call_id) {
  const auto found = session.calls.find(call_id);
  if (found == session.calls.end()) return;
  const std::shared_ptr<ServerCall> call = std::move(found->second);
  session.calls.erase(found);
  --open_calls_;
  session.endpoint->DropParked(call_id);
  call->Kill();
}

void ServerLoop::OnCallCompleted(uint64_t endpoint_id, uint64_t call_id) {
  const auto found = sessions_.find(endpoint_id);
  if (found != sessions_.end()) open_calls_ -= found->second->calls.erase(call_id);
}

// ---- frames from clients ----

void ServerLoop::OnMessage(Endpoint& endpoint, const Frame& frame, ByteSpan message) {
  ServerSession& session = SessionOf(endpoint);
  switch (frame.kind) {
    case FrameKind::kHello:
      OnHello(session, message);
      return;
    case FrameKind::kRequest:
      if (std::shared_ptr<ServerCall> call = OpenCall(session, frame)) {
        call->request.message = std::string(AsText(message));
        Handle(session, std::move(call));
      }
      return;
    case FrameKind::kCancel:
      KillCall(session, frame.call_id);
      return;
    case FrameKind::kCredit: {
      const auto found = session.calls.find(frame.call_id);
      if (found == session.calls.end()) return;  // ended meanwhile
      const absl::Status status = found->second->AddCredit(frame.credit);
      if (!status.ok()) endpoint.FailForViolation(status);
      return;
    }
    default:
      endpoint.FailForViolation(absl::InvalidArgumentError(
          absl::StrCat("a client sent a frame of kind ", static_cast<int>(frame.kind))));
  }
}

bool ServerLoop::AdmitBulk(Endpoint& endpoint, const Frame& frame) {
  if (frame.kind != FrameKind::kRequest) {
    endpoint.FailForViolation(absl::InvalidArgumentError("a client sent a part"));
    return false;
  }
  return OpenCall(SessionOf(endpoint), frame) != nullptr;
}

void ServerLoop::OnBulk(Endpoint& endpoint, const Frame& frame, std::string message,
                        SharedBytes bulk) {
  ServerSession& session = SessionOf(endpoint);
  const auto found = session.calls.find(frame.call_id);
  if (found == session.calls.end()) return;  // cancelled meanwhile; the slot returns
  found->second->request.message = std::move(message);
  found->second->request.bulk = std::move(bulk);
  Handle(session, found->second);
}

}  // namespace reprise::transport
