#include "services/store/store_call.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace reprise::store {

CountedCall::CountedCall(StoreContext& context) : context_(context) {
  MutexLock lock(context_.calls_mutex);
  ++context_.calls;
}

CountedCall::~CountedCall() {
  MutexLock lock(context_.calls_mutex);
  if (--context_.calls == 0) context_.calls_gone.notify_all();
}

StoreCall::StoreCall(StoreContext& context, transport::Request request,
                     std::unique_ptr<transport::Responder> responder, const CarrierMetrics& carrier)
    : counted_(context),
      context_(context),
      request_(std::move(request)),
      responder_(std::move(responder)),
      session_(std::static_pointer_cast<StoreSession>(request_.session)),
      carrier_(carrier),
      arrived_(context.clock.Now()) {
  carrier_.CountIn(request_.message.size() + request_.bulk.size());
}

StoreCall::~StoreCall() {
  if (!completed_) Complete(absl::InternalError("the store gave no answer to this request"));
  if (!admitted_) return;
  context_.request_bytes.fetch_sub(charged_bytes_, std::memory_order_relaxed);
  if (session_ != nullptr) session_->Leave(charged_bytes_);
}

absl::Status StoreCall::Admit() {
  const size_t bytes = request_.message.size();
  if (bytes > kMaxRequestBytes) {
    return absl::InvalidArgumentError(absl::StrCat(
        "a request message of ", bytes, " bytes; at most ", kMaxRequestBytes, " are allowed"));
  }
  if (session_ != nullptr && !session_->Enter(bytes)) {
    context_.metrics.CountRefused();
    return absl::ResourceExhaustedError(
        "this session has too many requests under way; wait for some to end");
  }
  const size_t before = context_.request_bytes.fetch_add(bytes, std::memory_order_relaxed);
  admitted_ = true;
  charged_bytes_ = bytes;
  if (before + bytes > kMaxRequestBytesInAll) {
    context_.metrics.CountRefused();
    return absl::ResourceExhaustedError("the store has too many requests under way; try again");
  }
  return absl::OkStatus();
}

bool StoreCall::Begin(WorkClass work_class) {
  context_.metrics.CountQueueDelay(work_class, context_.clock.Now() - arrived_);
  absl::Status wanted = StillWanted();
  if (wanted.ok()) return true;
  Fail(std::move(wanted));
  return false;
}

absl::Status StoreCall::StillWanted() const {
  if (request_.deadline.PassedAt(context_.clock.Now())) {
    return absl::DeadlineExceededError("the deadline passed while the store had the request");
  }
  if (responder_->dead()) return absl::CancelledError("nobody waits for the answer");
  return absl::OkStatus();
}

void StoreCall::Send(transport::Part part) {
  carrier_.CountOut(part.message.size() + part.bulk.size());
  responder_->Send(std::move(part));
}

void StoreCall::Reply(std::string message) {
  Send({std::move(message), {}});
  Complete(absl::OkStatus());
}

void StoreCall::Complete(absl::Status status) {
  completed_ = true;
  request_.bulk = SharedBytes();
  context_.metrics.CountRequest(request_.method, status.code(), context_.clock.Now() - arrived_);
  responder_->Complete(std::move(status));
}

}  // namespace reprise::store
