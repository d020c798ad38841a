#include "transport/loopback/loopback_call.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"

#include "transport/part_limits.h"

namespace reprise::transport {
namespace {

// Steps of one call before others get their turn.
constexpr int kStepsAtOnce = 16;

class LoopbackResponder final : public Responder {
 public:
  explicit LoopbackResponder(std::shared_ptr<LoopbackCall> call) : call_(std::move(call)) {}
  ~LoopbackResponder() override {
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
  const std::shared_ptr<LoopbackCall> call_;
  bool completed_ = false;
};

}  // namespace

LoopbackCall::LoopbackCall(std::shared_ptr<LoopbackLink> link, CallRequest request,
                           std::shared_ptr<CallObserver> observer)
    : link_(std::move(link)),
      credit_(std::max<uint32_t>(request.credit_parts, 1)),
      deadline_(request.deadline),
      request_(std::move(request)),
      observer_(std::move(observer)) {}

void LoopbackCall::Arm() {
  EventLoop::Timer timer;
  // Weak: a call that has ended should not live until its deadline.
  if (!link_->hub().PostAt(
          deadline_.at(),
          [weak = weak_from_this()] {
            if (std::shared_ptr<LoopbackCall> call = weak.lock()) {
              call->End(absl::DeadlineExceededError("the call's deadline passed"));
            }
          },
          timer)) {
    return;
  }
  {
    MutexLock lock(mutex_);
    if (observer_ != nullptr) {
      timer_ = timer;
      return;
    }
  }
  link_->hub().Cancel(timer);
}

void LoopbackCall::DeliverRequest() {
  Request request{
      .method = 0, .message = {}, .bulk = {}, .deadline = deadline_, .session = link_->session()};
  SharedBytes sent;
  {
    MutexLock lock(mutex_);
    if (ended_.has_value()) return;
    request.method = request_.method;
    request.message = std::move(request_.message);
    sent = std::exchange(request_.bulk, SharedBytes());
  }
  if (!sent.empty()) {
    BufferPool::Buffer buffer = link_->hub().pool().Take(sent.size());
    std::memcpy(buffer.bytes.data(), sent.data(), sent.size());
    request.bulk = SharedBytes(buffer.bytes, std::move(buffer.owner));
    sent = SharedBytes();
  }
  link_->hub().service().Handle(std::move(request),
                                std::make_unique<LoopbackResponder>(shared_from_this()));
}

void LoopbackCall::End(absl::Status status) {
  {
    MutexLock lock(mutex_);
    if (ended_.has_value()) return;
    ended_ = std::move(status);
  }
  Schedule();
}

void LoopbackCall::Cancel() { End(absl::CancelledError("the caller cancelled")); }

void LoopbackCall::Send(Part part) {
  const absl::Status sizes = CheckPartSizes(part.message.size(), part.bulk.size());
  {
    MutexLock lock(mutex_);
    if (ended_.has_value() || completed_.has_value()) return;
    if (sizes.ok()) {
      outbox_.push_back(std::move(part));
    } else {
      completed_ = absl::InternalError(absl::StrCat("the service sent ", sizes.ToString()));
    }
  }
  Schedule();
}

void LoopbackCall::WhenWritable(absl::AnyInvocable<void() &&> ready) {
  {
    MutexLock lock(mutex_);
    if (!ended_.has_value() && observer_ != nullptr && (!outbox_.empty() || !CreditFree())) {
      ready_ = std::move(ready);
      return;
    }
  }
  std::move(ready)();
}

bool LoopbackCall::dead() const {
  MutexLock lock(mutex_);
  return ended_.has_value() || observer_ == nullptr;
}

void LoopbackCall::Complete(absl::Status status) {
  {
    MutexLock lock(mutex_);
    if (completed_.has_value()) return;
    completed_ = std::move(status);
  }
  Schedule();
}

void LoopbackCall::Schedule() {
  {
    MutexLock lock(mutex_);
    if (scheduled_ || observer_ == nullptr) return;
    scheduled_ = true;
  }
  link_->hub().PostOrRun([self = shared_from_this()] { self->Drain(); });
}

void LoopbackCall::Drain() {
  for (int i = 0; i < kStepsAtOnce; ++i) {
    if (!Step()) return;
  }
  link_->hub().PostOrRun([self = shared_from_this()] { self->Drain(); });
}

bool LoopbackCall::Step() {
  std::deque<Part> dropped;
  absl::AnyInvocable<void() &&> ready;
  std::optional<Part> part;
  std::shared_ptr<CallObserver> observer;
  std::optional<EventLoop::Timer> timer;
  absl::Status status;
  SharedBytes bulk;
  {
    MutexLock lock(mutex_);
    if (observer_ == nullptr) return false;
    const bool all_sent = outbox_.empty() && completed_.has_value();
    if (ended_.has_value() || all_sent) {
      status = ended_.has_value() ? *ended_ : *completed_;
      observer = std::exchange(observer_, nullptr);
      timer = std::exchange(timer_, std::nullopt);
      dropped.swap(outbox_);
      bulk = std::exchange(request_.bulk, SharedBytes());
      ready = std::exchange(ready_, nullptr);
    } else if (!outbox_.empty() && (outbox_.front().bulk.empty() || CreditFree())) {
      part = std::move(outbox_.front());
      outbox_.pop_front();
      if (!part->bulk.empty()) ++credit_used_;
    } else if (ready_ && outbox_.empty() && CreditFree()) {
      ready = std::exchange(ready_, nullptr);
    } else {
      scheduled_ = false;
      return false;
    }
  }
  if (part.has_value()) {
    DeliverPart(*std::move(part));
    return true;
  }
  if (observer == nullptr) {
    std::move(ready)();
    return true;
  }
  if (timer.has_value()) link_->hub().Cancel(*timer);
  dropped.clear();
  bulk = SharedBytes();
  observer->OnDone(std::move(status));
  observer.reset();
  link_->Ended(shared_from_this());
  if (ready) std::move(ready)();
  return false;
}

// Gives back the credit of one part together with its memory.
class LoopbackCall::PartBuffer {
 public:
  PartBuffer(std::shared_ptr<LoopbackCall> call, BufferPool::Buffer buffer)
      : call_(std::move(call)), buffer_(std::move(buffer)) {}
  ~PartBuffer() {
    buffer_.owner.reset();
    call_->ReturnCredit();
  }
  PartBuffer(const PartBuffer&) = delete;
  PartBuffer& operator=(const PartBuffer&) = delete;

 private:
  const std::shared_ptr<LoopbackCall> call_;
  BufferPool::Buffer buffer_;
};

SharedBytes LoopbackCall::Receive(const SharedBytes& bulk) {
  if (bulk.empty()) return SharedBytes();
  BufferPool::Buffer buffer = link_->hub().pool().Take(bulk.size());
  std::memcpy(buffer.bytes.data(), bulk.data(), bulk.size());
  const ByteSpan bytes = buffer.bytes;
  return SharedBytes(bytes, std::make_shared<PartBuffer>(shared_from_this(), std::move(buffer)));
}

void LoopbackCall::DeliverPart(Part part) {
  std::shared_ptr<CallObserver> observer;
  {
    MutexLock lock(mutex_);
    observer = observer_;
  }
  part.bulk = Receive(part.bulk);
  observer->OnPart(std::move(part));
}

void LoopbackCall::ReturnCredit() {
  {
    MutexLock lock(mutex_);
    --credit_used_;
  }
  Schedule();
}

}  // namespace reprise::transport
