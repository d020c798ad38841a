#include "transport/faulty/faulty_call.h"

#include <algorithm>
#include <utility>
#include <vector>

namespace reprise::transport {

uint64_t FaultDice::Next() {
  state_ += 0x9e3779b97f4a7c15u;
  uint64_t value = state_;
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9u;
  value = (value ^ (value >> 27)) * 0x94d049bb133111ebu;
  return value ^ (value >> 31);
}

bool FaultDice::Roll(double probability) {
  // 53 bits, the precision of a double: 1 is always, 0 never.
  return static_cast<double>(Next() >> 11) < probability * 0x1p53;
}

FaultyCall::FaultyCall(FaultyChannel& channel, uint64_t number, const CallRequest& request,
                       std::shared_ptr<CallObserver> observer)
    : channel_(channel),
      credit_(request.credit_parts),
      deadline_(request.deadline),
      drop_request_(FaultDice(channel.plan_.seed ^ (4 * number)).Roll(channel.plan_.drop_request)),
      drop_reply_(FaultDice(channel.plan_.seed ^ (4 * number + 1)).Roll(channel.plan_.drop_reply)),
      dice_(channel.plan_.seed ^ (4 * number + 2)),
      observer_(std::move(observer)) {}

void FaultyCall::Start(Channel& inner, CallRequest request) {
  const EventLoop::Timer timer = channel_.loop_.PostAt(deadline_.at(), [self = shared_from_this()] {
    self->Finish(absl::DeadlineExceededError("the call's deadline passed"));
  });
  {
    MutexLock lock(mutex_);
    timer_ = timer;
  }
  if (drop_request_) return channel_.Count(&FaultCounts::requests_dropped);
  std::shared_ptr<Call> inner_call = inner.Start(std::move(request), shared_from_this());
  bool cancel = false;
  {
    MutexLock lock(mutex_);
    inner_call_ = inner_call;
    cancel = finished_;
  }
  if (cancel) inner_call->Cancel();
}

void FaultyCall::End(absl::Status status) {
  // The channel stays until this call has left it, which it does only once finished_ is set.
  MutexLock lock(mutex_);
  if (finished_) return;
  channel_.loop_.Post([self = shared_from_this(), status = std::move(status)]() mutable {
    self->Finish(std::move(status));
  });
}

void FaultyCall::Cancel() { End(absl::CancelledError("the caller cancelled")); }

void FaultyCall::Damage(Part& part) {
  const FaultPlan& plan = channel_.plan_;
  // Always the same number of rolls for a part, so that one probability does not shift the others'
  // luck.
  const bool truncate = dice_.Roll(plan.truncate_bulk);
  const bool flip_message = dice_.Roll(plan.flip_message_bit);
  const bool flip_bulk = dice_.Roll(plan.flip_bulk_bit);
  const uint64_t where = dice_.Next();
  if (truncate && !part.bulk.empty()) {
    part.bulk = part.bulk.Slice(0, where % part.bulk.size());
    channel_.Count(&FaultCounts::bulks_truncated);
  }
  if (flip_message && !part.message.empty()) {
    const uint64_t bit = where % (part.message.size() * 8);
    part.message[bit / 8] = static_cast<char>(part.message[bit / 8] ^ (1 << (bit % 8)));
    channel_.Count(&FaultCounts::message_bits_flipped);
  }
  if (flip_bulk && !part.bulk.empty()) {
    // The damaged copy keeps the original, whose credit is returned only with it.
    struct Copy {
      SharedBytes original;
      std::vector<std::byte> bytes;
    };
    const ByteSpan from = part.bulk.bytes();
    auto copy = std::make_shared<Copy>(Copy{part.bulk, {from.begin(), from.end()}});
    const uint64_t bit = where % (from.size() * 8);
    copy->bytes[bit / 8] ^= static_cast<std::byte>(1 << (bit % 8));
    part.bulk = SharedBytes(copy->bytes, copy);
    channel_.Count(&FaultCounts::bulk_bits_flipped);
  }
}

void FaultyCall::PassOn(EventLoop::Task task) {
  TimePoint when = Clock::Steady().Now();
  if (dice_.Roll(channel_.plan_.delay)) {
    when += channel_.plan_.delay_by;
    channel_.Count(&FaultCounts::delays);
  }
  passed_on_until_ = std::max(passed_on_until_, when);
  channel_.loop_.PostAt(passed_on_until_, std::move(task));
}

void FaultyCall::OnPart(Part part) {
  if (drop_reply_) return;
  Damage(part);
  const bool reorder = dice_.Roll(channel_.plan_.reorder);
  // With a credit of one the next part cannot come while this one is held back.
  if (reorder && !held_back_.has_value() && credit_ > 1) {
    held_back_ = std::move(part);
    return;
  }
  const auto pass_on = [this](Part passed) {
    PassOn([self = shared_from_this(), passed = std::move(passed)]() mutable {
      if (self->observer_ == nullptr) return;
      self->observer_->OnPart(std::move(passed));
      self->channel_.Delivered();
    });
  };
  pass_on(std::move(part));
  if (held_back_.has_value()) {
    pass_on(*std::exchange(held_back_, std::nullopt));
    channel_.Count(&FaultCounts::reorders);
  }
}

void FaultyCall::OnDone(absl::Status status) {
  if (drop_reply_) return channel_.Count(&FaultCounts::replies_dropped);
  if (held_back_.has_value()) {
    PassOn(
        [self = shared_from_this(), passed = *std::exchange(held_back_, std::nullopt)]() mutable {
          if (self->observer_ == nullptr) return;
          self->observer_->OnPart(std::move(passed));
          self->channel_.Delivered();
        });
  }
  PassOn([self = shared_from_this(), status = std::move(status)]() mutable {
    self->Finish(std::move(status));
  });
}

void FaultyCall::Finish(absl::Status status) {
  if (observer_ == nullptr) return;
  std::shared_ptr<Call> inner_call;
  std::optional<EventLoop::Timer> timer;
  {
    MutexLock lock(mutex_);
    finished_ = true;
    inner_call = std::exchange(inner_call_, nullptr);
    timer = std::exchange(timer_, std::nullopt);
  }
  if (timer.has_value()) channel_.loop_.Cancel(*timer);
  if (inner_call != nullptr) inner_call->Cancel();
  std::exchange(observer_, nullptr)->OnDone(std::move(status));
  channel_.Remove(shared_from_this());
}

}  // namespace reprise::transport
