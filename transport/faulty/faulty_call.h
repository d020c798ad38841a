// One call on a faulty channel: between the observer outside and the call inside. Internal to the
// carrier.
#pragma once

#include <memory>
#include <optional>

#include "common/mutex.h"
#include "transport/faulty/faulty.h"

namespace reprise::transport {

// SplitMix64 (Steele, Lea, Flood 2014): small, and the same on every platform.
class FaultDice {
 public:
  explicit FaultDice(uint64_t seed) : state_(seed) {}
  uint64_t Next();
  bool Roll(double probability);

 private:
  uint64_t state_;
};

class FaultyCall final : public Call,
                         public CallObserver,
                         public std::enable_shared_from_this<FaultyCall> {
 public:
  // `number` counts the channel's calls; `channel` outlives the call's callbacks.
  FaultyCall(FaultyChannel& channel, uint64_t number, const CallRequest& request,
             std::shared_ptr<CallObserver> observer);

  // Once, first; what `inner` yields comes to this object.
  void Start(Channel& inner, CallRequest request);
  // The first of several wins. A handle may outlive its channel: then the call has finished, and
  // this does nothing.
  void End(absl::Status status) ABSL_LOCKS_EXCLUDED(mutex_);
  void Cancel() override;
  // On the channel's loop: OnDone now, unless that was.
  void Finish(absl::Status status) ABSL_LOCKS_EXCLUDED(mutex_);

  // From the channel inside.
  void OnPart(Part part) override;
  void OnDone(absl::Status status) override;

 private:
  void Damage(Part& part);
  // On the channel's loop: now or, when a delay was rolled, later; never before what was passed on
  // earlier.
  void PassOn(EventLoop::Task task);

  FaultyChannel& channel_;
  const uint32_t credit_;
  const Deadline deadline_;
  const bool drop_request_;
  const bool drop_reply_;

  // Used in the callbacks from inside, which come one at a time.
  FaultDice dice_;
  TimePoint passed_on_until_;
  std::optional<Part> held_back_;

  Mutex mutex_;
  std::shared_ptr<Call> inner_call_ ABSL_GUARDED_BY(mutex_);
  std::optional<EventLoop::Timer> timer_ ABSL_GUARDED_BY(mutex_);
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;

  // Used on the channel's loop only; null after OnDone.
  std::shared_ptr<CallObserver> observer_;
};

}  // namespace reprise::transport
