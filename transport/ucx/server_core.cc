#include "transport/ucx/server_core.h"

#include <unistd.h>

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

ServerCore::ServerCore(IoLoop& loop, CarrierMemory memory, const UcxServerOptions& options,
                       std::vector<SocketAddress> addresses)
    : loop_(loop),
      service_(*options.service),
      clock_(*options.clock),
      addresses_(std::move(addresses)),
      memory_(std::move(memory)),
      same_host_(options.same_host ? SameHostIdentity() : std::nullopt) {
  if (options.same_host) AllowReaders();
}

absl::StatusOr<std::shared_ptr<ServerCore>> ServerCore::Create(
    IoLoop& loop, const UcxServerOptions& options, std::vector<SocketAddress> addresses) {
  REPRISE_ASSIGN_OR_RETURN(CarrierMemory memory,
                           CarrierMemory::Create(loop.context(), options.receive_bytes));
  std::shared_ptr<ServerCore> core(
      new ServerCore(loop, std::move(memory), options, std::move(addresses)));
  core->memory_.slots->Attach(&loop, core);
  loop.Attach(core);
  return core;
}

absl::StatusOr<std::string> ServerCore::WaitUntilListening() {
  MutexLock lock(mutex_);
  while (!listening_.has_value()) changed_.wait(mutex_);
  return *listening_;
}

void ServerCore::Close() {
  closing_ = true;
  memory_.slots->Detach();
  loop_.Schedule(shared_from_this());
  MutexLock lock(mutex_);
  while (!detached_) changed_.wait(mutex_);
}

void ServerCore::OnDetached() {
  MutexLock lock(mutex_);
  detached_ = true;
  changed_.notify_all();
}

// ---- turns ----

void ServerCore::RunOnLoop() {
  memory_.slots->Reclaim(released_);
  memory_.counters->free_receive_bytes = memory_.slots->free_bytes();
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
}

std::optional<Duration> ServerCore::Turn() {
  if (!started_) Listen();
  while (!failed_.empty()) {
    const uint64_t id = failed_.back();
    failed_.pop_back();
    EndSession(id);
  }
  std::erase_if(draining_, [](const auto& session) { return session->endpoint->drained(); });
  if (closing_) {
    if (FinishClosing()) return std::nullopt;
    return IoLoop::kBusySleep;
  }
  const bool busy = open_calls_ > 0 || !draining_.empty();
  Duration sleep = busy ? IoLoop::kBusySleep : IoLoop::kIdleSleep;
  if (!hello_deadlines_.next().has_value() && !call_deadlines_.next().has_value()) return sleep;
  const TimePoint now = clock_.Now();
  EndDue(now);
  for (const std::optional<TimePoint> next : {hello_deadlines_.next(), call_deadlines_.next()}) {
    if (next.has_value()) sleep = std::clamp<Duration>(*next - now, Duration::zero(), sleep);
  }
  return sleep;
}

void ServerCore::EndDue(TimePoint now) {
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

bool ServerCore::FinishClosing() {
  const auto now = std::chrono::steady_clock::now();
  if (!close_by_.has_value()) {
    close_by_ = now + kCloseTimeout;
    listener_ = nullptr;
    while (!sessions_.empty()) EndSession(sessions_.begin()->first);
  }
  if (draining_.empty()) return true;
  if (now < *close_by_) return false;
  LogWarning("UCX did not let go of closed endpoints' buffers", {{"endpoints", draining_.size()}});
  OnDetached();
  close_by_ = std::chrono::steady_clock::time_point::max();
  return false;
}

// ---- sessions ----

void ServerCore::Listen() {
  started_ = true;
  absl::StatusOr<std::string> result = absl::InternalError("no address to listen on");
  for (const SocketAddress& address : addresses_) {
    absl::StatusOr<std::unique_ptr<Listener>> listener = Listener::Create(
        loop_.wire().worker(), address,
        [this](const ConnectionRequest& request) { return OnConnection(request); });
    if (listener.ok()) {
      listener_ = *std::move(listener);
      result = listener_->address().ToString();
      break;
    }
    result = listener.status();
  }
  MutexLock lock(mutex_);
  listening_ = std::move(result);
  changed_.notify_all();
}

bool ServerCore::OnConnection(const ConnectionRequest& request) {
  if (sessions_.size() >= kMaxEndpoints || half_open_ >= kMaxHalfOpenEndpoints) {
    ++memory_.counters->refused_endpoints;
    return false;
  }
  const uint64_t id = next_id_++;
  auto session = std::make_unique<ServerSession>();
  session->endpoint = std::make_unique<Endpoint>(loop_.wire(), memory_, *this, id, request.peer,
                                                 memory_.slots->total_bytes() / 2);
  if (const absl::Status status = session->endpoint->Accept(request.request); !status.ok()) {
    LogWarning("cannot accept a data endpoint",
               {{"peer", request.peer}, {"reason", std::string(status.message())}});
    return true;  // UCX has disposed of the request
  }
  hello_deadlines_.Push(Deadline::After(kHelloTimeout, clock_), id);
  sessions_.emplace(id, std::move(session));
  ++half_open_;
  return true;
}

void ServerCore::OnHello(ServerSession& session, const Frame& hello, ByteSpan message) {
  if (session.said_hello) {
    session.endpoint->FailForViolation(absl::InvalidArgumentError("hello came twice"));
    return;
  }
  session.said_hello = true;
  --half_open_;
  absl::StatusOr<HelloReply> reply = service_.Hello(AsText(message), session.endpoint->peer());
  Frame frame{.kind = FrameKind::kWelcome};
  if (reply.ok()) {
    session.session = std::move(reply->session);
    if (hello.kind == FrameKind::kHelloSameHost && same_host_ == hello.call_id) {
      session.to_prove = std::make_unique<SameHostLender>();
      session.endpoint->Send(Frame{.kind = FrameKind::kToken,
                                   .sequence = static_cast<uint32_t>(getpid()),
                                   .address = session.to_prove->token_address()},
                             "");
    }
    session.endpoint->Send(frame, std::move(reply->message));
    return;
  }
  // The client closes the endpoint when it has read this; until then nothing is accepted on it.
  frame.status = reply.status().code();
  session.endpoint->Send(frame,
                         std::string(reply.status().message().substr(0, kMaxStatusTextBytes)));
}

void ServerCore::OnProof(ServerSession& session, ByteSpan proof) {
  std::unique_ptr<SameHostLender> lender = std::move(session.to_prove);
  if (lender == nullptr) {
    session.endpoint->FailForViolation(
        absl::InvalidArgumentError("a proof came that was not asked for"));
  } else if (proof.empty()) {
    LogInfo("a client on this host may not read this process: it gets bulk over the network",
            {{"peer", session.endpoint->peer()}});
  } else if (!lender->IsProof(proof)) {
    session.endpoint->FailForViolation(absl::InvalidArgumentError("the proof is wrong"));
  } else {
    session.endpoint->LendFrom(std::move(lender));
  }
}

void ServerCore::EndSession(uint64_t id) {
  const auto found = sessions_.find(id);
  if (found == sessions_.end()) return;
  std::unique_ptr<ServerSession> session = std::move(found->second);
  sessions_.erase(found);
  session->endpoint->Close();
  open_calls_ -= session->calls.size();
  for (const auto& [call_id, call] : session->calls) call->Kill();
  session->calls.clear();
  if (!session->said_hello) --half_open_;
  if (session->session != nullptr) {
    service_.SessionLost(session->session);
    session->session = nullptr;
  }
  draining_.push_back(std::move(session));
}

// ---- calls ----

std::shared_ptr<ServerCall> ServerCore::OpenCall(ServerSession& session, const Frame& frame) {
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
    Refuse(endpoint, frame.call_id,
           absl::StrCat("the session has ", kMaxCallsPerSession, " calls open already"));
    return nullptr;
  }
  const size_t unsent = endpoint.unsent_bytes()->load();
  if (unsent > 2 * kMaxUnsentBytes) {
    // Refusals alone fill the second half: this peer asks on and on and reads nothing.
    endpoint.FailForViolation(absl::ResourceExhaustedError("the client does not read its answers"));
    return nullptr;
  }
  if (unsent > endpoint.unsent_bytes()->limit()) {
    Refuse(endpoint, frame.call_id,
           absl::StrCat("the client has not read ", unsent, " bytes of earlier answers"));
    return nullptr;
  }
  auto call = std::make_shared<ServerCall>(loop_, *this, endpoint, frame.call_id, frame.credit);
  call->request.method = frame.method;
  call->request.deadline = Deadline::After(std::chrono::milliseconds(frame.deadline_ms), clock_);
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

void ServerCore::Refuse(Endpoint& endpoint, uint64_t call_id, std::string why) {
  ++memory_.counters->refused_requests;
  endpoint.Send(Frame{.kind = FrameKind::kDone,
                      .call_id = call_id,
                      .status = absl::StatusCode::kResourceExhausted},
                std::move(why));
}

void ServerCore::Handle(ServerSession& session, std::shared_ptr<ServerCall> call) {
  Request request = std::move(call->request);
  service_.Handle(std::move(request),
                  std::make_unique<UcxResponder>(std::move(call), session.responders));
}

void ServerCore::KillCall(ServerSession& session, uint64_t call_id) {
  const auto found = session.calls.find(call_id);
  if (found == session.calls.end()) return;
  const std::shared_ptr<ServerCall> call = std::move(found->second);
  session.calls.erase(found);
  --open_calls_;
  session.endpoint->DropParked(call_id);
  call->Kill();
}

void ServerCore::OnCallCompleted(uint64_t endpoint_id, uint64_t call_id) {
  const auto found = sessions_.find(endpoint_id);
  if (found != sessions_.end()) open_calls_ -= found->second->calls.erase(call_id);
}

// ---- frames from clients ----

void ServerCore::OnMessage(Endpoint& endpoint, const Frame& frame, ByteSpan message) {
  ServerSession& session = SessionOf(endpoint);
  switch (frame.kind) {
    case FrameKind::kHello:
    case FrameKind::kHelloSameHost:
      OnHello(session, frame, message);
      return;
    case FrameKind::kProof:
      OnProof(session, message);
      return;
    case FrameKind::kRead:
      endpoint.OnPartRead(frame);
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

bool ServerCore::AdmitBulk(Endpoint& endpoint, const Frame& frame) {
  if (frame.kind != FrameKind::kRequest) {
    endpoint.FailForViolation(absl::InvalidArgumentError("a client sent a part"));
    return false;
  }
  return OpenCall(SessionOf(endpoint), frame) != nullptr;
}

void ServerCore::OnNoRoom(Endpoint& endpoint, const Frame& frame) {
  KillCall(SessionOf(endpoint), frame.call_id);
  Refuse(endpoint, frame.call_id, "the server has no room for this request's bulk now; try again");
}

void ServerCore::OnBulk(Endpoint& endpoint, const Frame& frame, std::string message,
                        SharedBytes bulk) {
  ServerSession& session = SessionOf(endpoint);
  const auto found = session.calls.find(frame.call_id);
  if (found == session.calls.end()) return;  // cancelled meanwhile; the slot returns
  found->second->request.message = std::move(message);
  found->second->request.bulk = std::move(bulk);
  Handle(session, found->second);
}

}  // namespace reprise::transport
