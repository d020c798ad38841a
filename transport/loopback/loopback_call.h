// One call on the loopback carrier, seen from both ends. Internal to the carrier.
#pragma once

#include <deque>
#include <memory>
#include <optional>

#include "absl/functional/any_invocable.h"

#include "common/mutex.h"
#include "transport/loopback/loopback_hub.h"
#include "transport/transport.h"

namespace reprise::transport {

// Whatever happens is noted under the lock and acted on by Drain, on the delivery thread: so the
// observer sees one thing at a time, in order. Thread-safe.
class LoopbackCall final : public Call, public std::enable_shared_from_this<LoopbackCall> {
 public:
  LoopbackCall(std::shared_ptr<LoopbackLink> link, CallRequest request,
               std::shared_ptr<CallObserver> observer);

  // Starts the deadline's timer. Once, before any other.
  void Arm() ABSL_LOCKS_EXCLUDED(mutex_);
  // On the delivery thread: gives the request to the service, unless the call has ended.
  void DeliverRequest() ABSL_LOCKS_EXCLUDED(mutex_);
  // Ends the call early; the first of several wins.
  void End(absl::Status status) ABSL_LOCKS_EXCLUDED(mutex_);

  void Cancel() override;

  // The responder's side.
  void Send(Part part) ABSL_LOCKS_EXCLUDED(mutex_);
  void WhenWritable(absl::AnyInvocable<void() &&> ready) ABSL_LOCKS_EXCLUDED(mutex_);
  bool dead() const ABSL_LOCKS_EXCLUDED(mutex_);
  void Complete(absl::Status status) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  class PartBuffer;

  bool CreditFree() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return credit_used_ < credit_; }
  // Makes sure that Drain will run. Without the lock, because it may run at once.
  void Schedule() ABSL_LOCKS_EXCLUDED(mutex_);
  void Drain() ABSL_LOCKS_EXCLUDED(mutex_);
  // One step of Drain; false when there is nothing to do now.
  bool Step() ABSL_LOCKS_EXCLUDED(mutex_);
  void DeliverPart(Part part);
  void ReturnCredit() ABSL_LOCKS_EXCLUDED(mutex_);
  SharedBytes Receive(const SharedBytes& bulk);

  const std::shared_ptr<LoopbackLink> link_;
  const uint32_t credit_;
  const Deadline deadline_;

  mutable Mutex mutex_;
  CallRequest request_ ABSL_GUARDED_BY(mutex_);
  // Null after OnDone.
  std::shared_ptr<CallObserver> observer_ ABSL_GUARDED_BY(mutex_);
  std::optional<EventLoop::Timer> timer_ ABSL_GUARDED_BY(mutex_);
  bool scheduled_ ABSL_GUARDED_BY(mutex_) = false;
  uint32_t credit_used_ ABSL_GUARDED_BY(mutex_) = 0;
  std::deque<Part> outbox_ ABSL_GUARDED_BY(mutex_);
  absl::AnyInvocable<void() &&> ready_ ABSL_GUARDED_BY(mutex_);
  // What the service completed with, and what ended the call before that.
  std::optional<absl::Status> completed_ ABSL_GUARDED_BY(mutex_);
  std::optional<absl::Status> ended_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace reprise::transport
