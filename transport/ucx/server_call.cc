#include "transport/ucx/server_call.h"

#include <utility>

#include "absl/strings/str_cat.h"

#include "transport/part_limits.h"

namespace reprise::transport {

// ---- ServerCall, any thread ----

ServerCall::ServerCall(IoLoop& loop, Owner& owner, Endpoint& endpoint, uint64_t call_id,
                       uint32_t credit)
    : loop_(loop),
      owner_(owner),
      call_id_(call_id),
      unsent_bytes_(endpoint.unsent_bytes()),
      credit_(credit),
      endpoint_(&endpoint) {}

void ServerCall::Send(Part part) {
  MutexLock lock(mutex_);
  if (dead_ || completed_.has_value() || !broken_.ok()) return;
  const absl::Status fits = CheckPartSizes(part.message.size(), part.bulk.size());
  if (!fits.ok()) {
    broken_ = absl::InternalError(absl::StrCat("the service's answer: ", fits.message()));
  } else if (!unsent_bytes_->TryAdd(Endpoint::SendCost(part.message.size()))) {
    broken_ = absl::ResourceExhaustedError(absl::StrCat(
        "the client has not read ", unsent_bytes_->load(), " bytes of earlier answers"));
  }
  if (!broken_.ok()) return;
  if (!part.bulk.empty()) ++queued_bulk_;
  queue_.push_back(std::move(part));
  loop_.Schedule(shared_from_this());
}

void ServerCall::WhenWritable(absl::AnyInvocable<void() &&> ready) {
  {
    MutexLock lock(mutex_);
    if (!dead_ && credit_ <= queued_bulk_) {
      waiter_ = std::move(ready);
      return;
    }
  }
  std::move(ready)();
}

void ServerCall::Complete(absl::Status status) {
  MutexLock lock(mutex_);
  if (dead_ || completed_.has_value()) return;
  completed_ = std::move(status);
  loop_.Schedule(shared_from_this());
}

// ---- ServerCall, the loop's thread ----

void ServerCall::Kill() {
  endpoint_ = nullptr;
  RingQueue<Part> dropped;
  absl::AnyInvocable<void() &&> waiter;
  {
    MutexLock lock(mutex_);
    dead_ = true;
    std::swap(dropped, queue_);
    waiter = std::exchange(waiter_, nullptr);
  }
  while (!dropped.empty()) {
    unsent_bytes_->Subtract(Endpoint::SendCost(dropped.pop_front().message.size()));
  }
  request.bulk = SharedBytes();
  if (waiter) std::move(waiter)();
}

absl::Status ServerCall::AddCredit(uint32_t parts) {
  if (parts > uncredited_) {
    return absl::InvalidArgumentError(absl::StrCat("credit for ", parts, " parts when ",
                                                   uncredited_, " were sent in call ", call_id_));
  }
  uncredited_ -= parts;
  absl::AnyInvocable<void() &&> waiter;
  {
    MutexLock lock(mutex_);
    credit_ += parts;
    if (credit_ > queued_bulk_) waiter = std::exchange(waiter_, nullptr);
  }
  if (waiter) std::move(waiter)();
  loop_.Schedule(shared_from_this());
  return absl::OkStatus();
}

void ServerCall::RunOnLoop() {
  if (endpoint_ == nullptr) return;
  while (std::optional<Part> part = NextToSend()) SendPart(*std::move(part));
  const std::optional<absl::Status> status = [this]() -> std::optional<absl::Status> {
    MutexLock lock(mutex_);
    if (!completed_.has_value() || !queue_.empty()) return std::nullopt;
    return broken_.ok() ? *completed_ : broken_;
  }();
  if (!status.has_value()) return;
  SendDone(*status);
  const uint64_t endpoint_id = std::exchange(endpoint_, nullptr)->id();
  {
    MutexLock lock(mutex_);
    dead_ = true;
  }
  owner_.OnCallCompleted(endpoint_id, call_id_);
}

std::optional<Part> ServerCall::NextToSend() {
  if (TooFarAhead()) return std::nullopt;
  MutexLock lock(mutex_);
  if (queue_.empty()) return std::nullopt;
  if (!queue_.front().bulk.empty()) {
    if (credit_ == 0) return std::nullopt;
    --credit_;
    --queued_bulk_;
  }
  return queue_.pop_front();
}

void ServerCall::SendPart(Part part) {
  const bool bulk = !part.bulk.empty();
  const size_t message_bytes = part.message.size();
  ++parts_ahead_;
  bytes_ahead_ += message_bytes;
  if (bulk) {
    ++uncredited_;
    if (bulk_in_flight_++ == 0) parts_ahead_ = bytes_ahead_ = 0;
  }
  endpoint_->Send(
      Frame{.kind = FrameKind::kPart, .call_id = call_id_, .sequence = next_sequence_++},
      std::move(part.message), std::move(part.bulk), bulk ? shared_from_this() : nullptr);
  unsent_bytes_->Subtract(Endpoint::SendCost(message_bytes));
}

void ServerCall::OnBulkSent() {
  const bool was_too_far = TooFarAhead();
  --bulk_in_flight_;
  if (was_too_far && !TooFarAhead() && endpoint_ != nullptr) loop_.Schedule(shared_from_this());
}

void ServerCall::SendDone(const absl::Status& status) {
  std::string text;
  if (!status.ok()) text = std::string(status.message().substr(0, kMaxStatusTextBytes));
  endpoint_->Send(Frame{.kind = FrameKind::kDone,
                        .call_id = call_id_,
                        .sequence = next_sequence_,
                        .status = status.code()},
                  std::move(text));
}

// ---- UcxResponder ----

UcxResponder::UcxResponder(std::shared_ptr<ServerCall> call,
                           std::shared_ptr<std::atomic<size_t>> held)
    : call_(std::move(call)), held_(std::move(held)) {
  ++*held_;
}

UcxResponder::~UcxResponder() {
  if (!completed_) {
    call_->Complete(absl::InternalError("the handler dropped the request without an answer"));
  }
  --*held_;
}

void UcxResponder::Complete(absl::Status status) {
  completed_ = true;
  call_->Complete(std::move(status));
}

}  // namespace reprise::transport
