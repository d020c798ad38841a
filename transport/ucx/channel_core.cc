#include "transport/ucx/channel_core.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

#include "common/limits.h"
#include "common/log.h"
#include "transport/part_limits.h"

namespace reprise::transport {
namespace {

uint32_t MillisecondsLeft(Deadline deadline, TimePoint now) {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline.RemainingAt(now));
  return static_cast<uint32_t>(std::min<std::chrono::milliseconds>(left, kMaxDeadline).count());
}

}  // namespace

ClientCall::ClientCall(std::weak_ptr<ChannelCore> core, uint64_t id, CallRequest request,
                       std::shared_ptr<CallObserver> observer)
    : core_(std::move(core)),
      id_(id),
      deadline_(request.deadline),
      request_(std::move(request)),
      observer_(std::move(observer)),
      credit_granted_(request_.credit_parts) {}

void ClientCall::Cancel() {
  if (const std::shared_ptr<ChannelCore> core = core_.lock()) core->Cancel(id_);
}

// ---- life ----

ChannelCore::ChannelCore(IoLoop& loop, CarrierMemory memory, const UcxConnectOptions& options,
                         const SocketAddress& address, Deadline deadline)
    : memory_(std::move(memory)),
      peer_(address.ToString()),
      address_(address),
      hello_(options.hello),
      same_host_(options.same_host ? SameHostIdentity() : std::nullopt),
      hello_deadline_(deadline),
      clock_(*options.clock),
      loop_(&loop),
      wire_(loop.wire()) {}

absl::StatusOr<std::shared_ptr<ChannelCore>> ChannelCore::Create(IoLoop& loop,
                                                                 const UcxConnectOptions& options,
                                                                 const SocketAddress& address,
                                                                 Deadline deadline) {
  REPRISE_ASSIGN_OR_RETURN(CarrierMemory memory,
                           CarrierMemory::Create(loop.context(), options.receive_bytes));
  memory.parked_copy_limit = kMaxChannelParkedCopyBytes;
  std::shared_ptr<ChannelCore> core(
      new ChannelCore(loop, std::move(memory), options, address, deadline));
  core->memory_.slots->Attach(&loop, core);
  loop.Attach(core);
  return core;
}

absl::StatusOr<std::string> ChannelCore::WaitForHello() {
  MutexLock lock(mutex_);
  while (!hello_result_.has_value()) changed_.wait(mutex_);
  return *hello_result_;
}

void ChannelCore::Close() {
  closing_ = true;
  memory_.slots->Detach();
  MutexLock lock(mutex_);
  loop_->Schedule(shared_from_this());
  loop_ = nullptr;
  while (!detached_) changed_.wait(mutex_);
}

void ChannelCore::OnDetached() {
  MutexLock lock(mutex_);
  detached_ = true;
  changed_.notify_all();
}

// ---- calls, from any thread ----

std::shared_ptr<Call> ChannelCore::Start(CallRequest request,
                                         std::shared_ptr<CallObserver> observer) {
  request.credit_parts = std::clamp<uint32_t>(request.credit_parts, 1, kMaxCreditParts);
  const absl::Status fits = CheckPartSizes(request.message.size(), request.bulk.size());
  const auto call = std::make_shared<ClientCall>(weak_from_this(), next_call_id_.fetch_add(1),
                                                 std::move(request), std::move(observer));
  if (!fits.ok()) {
    call->observer_->OnDone(fits);
    call->observer_ = nullptr;
    return call;
  }
  MutexLock lock(mutex_);
  started_.push_back(call);
  loop_->Schedule(shared_from_this());
  return call;
}

void ChannelCore::Cancel(uint64_t call_id) {
  MutexLock lock(mutex_);
  if (loop_ == nullptr) return;  // every call has ended
  cancelled_.push_back(call_id);
  loop_->Schedule(shared_from_this());
}

// ---- the loop's turns ----

void ChannelCore::RunOnLoop() {
  {
    MutexLock lock(mutex_);
    starting_.swap(started_);
    cancelling_.swap(cancelled_);
  }
  for (std::shared_ptr<ClientCall>& call : starting_) Admit(std::move(call));
  starting_.clear();
  for (const uint64_t id : cancelling_) {
    const auto found = calls_.find(id);
    if (found == calls_.end()) continue;
    const std::shared_ptr<ClientCall> call = found->second;
    EndCall(call, absl::CancelledError("the caller cancelled"));
  }
  cancelling_.clear();
  GrantCredit();
}

std::optional<Duration> ChannelCore::Turn() {
  if (endpoint_ == nullptr) Connect();
  if (!lost_ && !endpoint_->failure().ok()) OnLost();
  if (closing_) {
    if (FinishClosing()) return std::nullopt;
    return IoLoop::kBusySleep;
  }
  // A lent part a turn: others on this loop wait for no longer than one takes to copy.
  const bool more_to_read = !lost_ && endpoint_->StartParked();
  const std::optional<TimePoint> next = deadlines_.next();
  if (!hello_pending_ && !next.has_value()) return IoLoop::kIdleSleep;
  const TimePoint now = clock_.Now();
  EndDue(now);
  Duration sleep = hello_pending_ || !calls_.empty() ? IoLoop::kBusySleep : IoLoop::kIdleSleep;
  if (next.has_value()) sleep = std::clamp<Duration>(*next - now, Duration::zero(), sleep);
  return more_to_read ? Duration::zero() : sleep;
}

void ChannelCore::EndDue(TimePoint now) {
  if (hello_pending_ && hello_deadline_.PassedAt(now)) {
    FinishHello(absl::DeadlineExceededError(
        absl::StrCat("no answer from ", peer_, " before the deadline")));
  }
  while (const std::optional<uint64_t> due = deadlines_.PopDue(now)) {
    const auto found = calls_.find(*due);
    if (found == calls_.end()) continue;
    const std::shared_ptr<ClientCall> call = found->second;
    EndCall(call, absl::DeadlineExceededError(
                      absl::StrCat("the call to ", peer_, " did not end before its deadline")));
  }
}

void ChannelCore::OnLost() {
  lost_ = true;
  lost_why_ = endpoint_->failure();
  alive_ = false;
  FinishHello(
      absl::UnavailableError(absl::StrCat("cannot connect to ", peer_, ": ", lost_why_.message())));
  EndAllCalls(absl::UnavailableError(
      absl::StrCat("the connection to ", peer_, " is lost: ", lost_why_.message())));
  endpoint_->Close();
}

bool ChannelCore::FinishClosing() {
  const auto now = std::chrono::steady_clock::now();
  if (!close_by_.has_value()) {
    close_by_ = now + kCloseTimeout;
    alive_ = false;
    RunOnLoop();  // what was started just before
    EndAllCalls(absl::CancelledError("the channel was closed"));
    endpoint_->Close();
  }
  if (endpoint_->drained()) return true;
  if (now < *close_by_) return false;
  LogWarning("UCX did not let go of a closed endpoint's buffers", {{"peer", peer_}});
  OnDetached();
  close_by_ = std::chrono::steady_clock::time_point::max();
  return false;
}

// ---- hello ----

void ChannelCore::Connect() {
  endpoint_ = std::make_unique<Endpoint>(wire_, memory_, *this, /*id=*/0, peer_,
                                         memory_.slots->total_bytes());
  if (const absl::Status status = endpoint_->Connect(address_); !status.ok()) {
    endpoint_->Fail(status);
    return;
  }
  Frame hello{.kind = FrameKind::kHello};
  if (same_host_.has_value()) {
    hello = {.kind = FrameKind::kHelloSameHost, .call_id = *same_host_};
  }
  endpoint_->Send(hello, hello_);
}

void ChannelCore::FinishHello(absl::StatusOr<std::string> result) {
  if (!hello_pending_) return;
  hello_pending_ = false;
  MutexLock lock(mutex_);
  hello_result_ = std::move(result);
  changed_.notify_all();
}

void ChannelCore::OnHelloReply(const Frame& frame, ByteSpan message) {
  if (!hello_pending_) {
    endpoint_->FailForViolation(absl::InvalidArgumentError("hello was answered twice"));
  } else if (frame.status != absl::StatusCode::kOk) {
    FinishHello(absl::Status(frame.status, std::string(AsText(message))));
  } else {
    FinishHello(std::string(AsText(message)));
  }
}

void ChannelCore::OnToken(const Frame& frame) {
  if (!same_host_.has_value() || !hello_pending_ || std::exchange(token_seen_, true)) {
    endpoint_->FailForViolation(absl::InvalidArgumentError("a token came that was not asked for"));
    return;
  }
  std::string proof;
  absl::StatusOr<SameHostReader> reader = SameHostReader::Create(frame.sequence, frame.address);
  if (reader.ok()) {
    proof = reader->proof();
    endpoint_->ReadWith(*std::move(reader));
  } else {
    LogInfo("bulk comes over the network though the server is on this host",
            {{"peer", peer_}, {"reason", std::string(reader.status().message())}});
  }
  endpoint_->Send(Frame{.kind = FrameKind::kProof}, std::move(proof));
}

// ---- calls, on the loop's thread ----

void ChannelCore::Admit(std::shared_ptr<ClientCall> call) {
  absl::Status refusal;
  if (lost_) {
    refusal = absl::UnavailableError(
        absl::StrCat("the connection to ", peer_, " was lost before: ", lost_why_.message()));
  } else if (closing_) {
    refusal = absl::CancelledError("the channel was closed");
  } else if (waiting_.size() >= kMaxWaitingCalls) {
    refusal = absl::ResourceExhaustedError(
        absl::StrCat(kMaxWaitingCalls, " calls wait for their turn already"));
  }
  if (!refusal.ok()) {
    EndCall(call, refusal);
    return;
  }
  deadlines_.Prune(calls_.size(), [this](uint64_t id) { return !calls_.contains(id); });
  deadlines_.Push(call->deadline_, call->id_);
  calls_.emplace(call->id_, call);
  waiting_.push_back(std::move(call));
  SendWaiting();
}

void ChannelCore::SendWaiting() {
  while (open_calls_ < kMaxOpenCalls && !waiting_.empty()) {
    const std::shared_ptr<ClientCall> call = waiting_.pop_front();
    if (call->ended_) continue;
    call->sent_ = true;
    ++open_calls_;
    CallRequest& request = call->request_;
    endpoint_->Send(Frame{.kind = FrameKind::kRequest,
                          .method = request.method,
                          .call_id = call->id_,
                          .deadline_ms = MillisecondsLeft(call->deadline_, clock_.Now()),
                          .credit = request.credit_parts},
                    std::move(request.message), std::exchange(request.bulk, SharedBytes()));
  }
}

void ChannelCore::EndCall(const std::shared_ptr<ClientCall>& call, const absl::Status& status) {
  call->ended_ = true;
  calls_.erase(call->id_);
  if (call->sent_) {
    --open_calls_;
    if (!call->status_.has_value()) {
      endpoint_->DropParked(call->id_);
      endpoint_->Send(Frame{.kind = FrameKind::kCancel, .call_id = call->id_}, "");
    }
  }
  call->request_.bulk = SharedBytes();
  call->parts_ = PartWindow();
  const std::shared_ptr<CallObserver> observer = std::move(call->observer_);
  observer->OnDone(status);
  SendWaiting();
}

void ChannelCore::EndAllCalls(const absl::Status& status) {
  std::vector<std::shared_ptr<ClientCall>> all;
  all.reserve(calls_.size());
  for (const auto& [id, call] : calls_) all.push_back(call);
  waiting_.clear();
  for (const std::shared_ptr<ClientCall>& call : all) EndCall(call, status);
}

void ChannelCore::GrantCredit() {
  memory_.slots->Reclaim(released_);
  memory_.counters->free_receive_bytes = memory_.slots->free_bytes();
  if (released_.empty()) return;
  for (const SlotPool::Released& released : released_) {
    endpoint_->OnSlotReleased(released.bytes);
    const auto found = calls_.find(released.call_id);
    if (found == calls_.end() || found->second->status_.has_value()) continue;
    if (found->second->credit_to_grant_++ == 0) to_credit_.push_back(found->second);
  }
  for (const std::shared_ptr<ClientCall>& call : to_credit_) {
    const uint32_t credit = std::exchange(call->credit_to_grant_, 0);
    call->credit_granted_ += credit;
    endpoint_->Send(Frame{.kind = FrameKind::kCredit, .call_id = call->id_, .credit = credit}, "");
  }
  to_credit_.clear();
}

// ---- frames from the server ----

std::shared_ptr<ClientCall> ChannelCore::FindCall(const Frame& frame) {
  const auto found = calls_.find(frame.call_id);
  if (found != calls_.end() && found->second->sent_) return found->second;
  // What was asked for may arrive after its call has ended; what never was is the peer's mistake.
  const bool asked = frame.call_id > 0 && frame.call_id < next_call_id_;
  if (!asked || found != calls_.end()) ++memory_.counters->unknown_calls;
  return nullptr;
}

void ChannelCore::OnMessage(Endpoint& endpoint, const Frame& frame, ByteSpan message) {
  switch (frame.kind) {
    case FrameKind::kWelcome:
      OnHelloReply(frame, message);
      return;
    case FrameKind::kToken:
      OnToken(frame);
      return;
    case FrameKind::kPart:
    case FrameKind::kDone: {
      const std::shared_ptr<ClientCall> call = FindCall(frame);
      if (call == nullptr) return;
      if (frame.kind == FrameKind::kPart) {
        OnPart(*call, frame, message);
      } else {
        OnCallDone(*call, frame, message);
      }
      Deliver(call);
      return;
    }
    default:
      endpoint.FailForViolation(absl::InvalidArgumentError(
          absl::StrCat("a server sent a frame of kind ", static_cast<int>(frame.kind))));
  }
}

void ChannelCore::OnPart(ClientCall& call, const Frame& frame, ByteSpan message) {
  const absl::Status in_order = call.parts_.Announce(frame.sequence, frame.message_bytes);
  if (!in_order.ok()) {
    endpoint_->FailForViolation(in_order);
    return;
  }
  call.parts_.Arrive(frame.sequence, Part{std::string(AsText(message)), SharedBytes()});
}

void ChannelCore::OnCallDone(ClientCall& call, const Frame& frame, ByteSpan message) {
  const absl::Status in_order = call.parts_.End(frame.sequence);
  if (!in_order.ok()) {
    endpoint_->FailForViolation(in_order);
    return;
  }
  call.status_ = absl::Status(frame.status, std::string(AsText(message)));
}

bool ChannelCore::AdmitBulk(Endpoint& endpoint, const Frame& frame) {
  if (frame.kind != FrameKind::kPart && frame.kind != FrameKind::kLentPart) {
    endpoint.FailForViolation(absl::InvalidArgumentError("a server sent a request"));
    return false;
  }
  const std::shared_ptr<ClientCall> call = FindCall(frame);
  if (call == nullptr) return false;
  absl::Status allowed = call->parts_.Announce(frame.sequence, frame.message_bytes);
  if (++call->bulk_parts_ > call->credit_granted_) {
    allowed = absl::InvalidArgumentError(
        absl::StrCat("bulk part ", call->bulk_parts_, " on a credit of ", call->credit_granted_));
  }
  if (!allowed.ok()) endpoint.FailForViolation(allowed);
  return allowed.ok();
}

void ChannelCore::OnNoRoom(Endpoint& /*endpoint*/, const Frame& frame) {
  const std::shared_ptr<ClientCall> call = calls_.at(frame.call_id);
  EndCall(call,
          absl::ResourceExhaustedError(absl::StrCat("small parts of ", kMaxChannelParkedCopyBytes,
                                                    " bytes wait for parts held to be released")));
}

void ChannelCore::OnBulk(Endpoint& /*endpoint*/, const Frame& frame, std::string message,
                         SharedBytes bulk) {
  const auto found = calls_.find(frame.call_id);
  if (found == calls_.end()) return;  // ended meanwhile; the slot returns
  const std::shared_ptr<ClientCall> call = found->second;
  call->parts_.Arrive(frame.sequence, Part{std::move(message), std::move(bulk)});
  Deliver(call);
}

void ChannelCore::Deliver(const std::shared_ptr<ClientCall>& call) {
  while (std::optional<Part> part = call->parts_.TakeNext()) {
    call->observer_->OnPart(*std::move(part));
  }
  if (call->parts_.complete()) EndCall(call, *call->status_);
}

}  // namespace reprise::transport
