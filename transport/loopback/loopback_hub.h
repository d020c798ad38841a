// What a loopback server, its channels and their calls share. Internal to the carrier.
//
// Locks are taken in the order link, call, hub; none is held while foreign code (observers, the
// service, owners of bulk) runs.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_set.h"

#include "common/limits.h"
#include "common/mutex.h"
#include "transport/buffer_pool.h"
#include "transport/event_loop.h"
#include "transport/transport.h"

namespace reprise::transport {

class LoopbackCall;
class LoopbackLink;

// Calls of one channel that may be with the service at once; more wait their turn.
inline constexpr size_t kMaxLoopbackCallsInFlight = 256;
// Unused receive buffers that one server keeps.
inline constexpr size_t kLoopbackPoolBytes = 64 * kMiB;

// The delivery thread and the links to it, until the server is destroyed.
class LoopbackHub {
 public:
  explicit LoopbackHub(Service& service)
      : service_(service),
        pool_(BufferPool::Create(kLoopbackPoolBytes)),
        loop_(std::make_unique<EventLoop>("loopback")) {}

  // On the delivery thread; at once on this one when the server is gone.
  void PostOrRun(EventLoop::Task task) ABSL_LOCKS_EXCLUDED(mutex_);
  // False, and no timer, when the server is gone.
  bool PostAt(TimePoint when, EventLoop::Task task, EventLoop::Timer& timer)
      ABSL_LOCKS_EXCLUDED(mutex_);
  void Cancel(const EventLoop::Timer& timer) ABSL_LOCKS_EXCLUDED(mutex_);

  // False when the server is gone.
  bool Add(const std::shared_ptr<LoopbackLink>& link) ABSL_LOCKS_EXCLUDED(mutex_);
  void Remove(const std::shared_ptr<LoopbackLink>& link) ABSL_LOCKS_EXCLUDED(mutex_);

  // Ends every call with UNAVAILABLE and returns when the delivery thread has ended.
  void Close() ABSL_LOCKS_EXCLUDED(mutex_);

  // Only on the delivery thread, or before Close.
  Service& service() { return service_; }
  BufferPool& pool() { return *pool_; }

 private:
  Service& service_;
  const std::shared_ptr<BufferPool> pool_;
  Mutex mutex_;
  std::unique_ptr<EventLoop> loop_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_set<std::shared_ptr<LoopbackLink>> links_ ABSL_GUARDED_BY(mutex_);
};

// One connection: its session and its calls. Owned by the channel and, until it is severed, by the
// hub.
class LoopbackLink : public std::enable_shared_from_this<LoopbackLink> {
 public:
  LoopbackLink(std::shared_ptr<LoopbackHub> hub, std::shared_ptr<Session> session)
      : hub_(std::move(hub)), session_(std::move(session)) {}

  std::shared_ptr<Call> Start(CallRequest request, std::shared_ptr<CallObserver> observer);

  // Ends every call with `status`, refuses new ones, and tells the service that the session is
  // lost. A second caller waits for the first, so that a server is not destroyed in the middle of a
  // channel's farewell.
  void Sever(const absl::Status& status) ABSL_LOCKS_EXCLUDED(mutex_);
  void WaitUntilIdle() ABSL_LOCKS_EXCLUDED(mutex_);
  bool severed() const ABSL_LOCKS_EXCLUDED(mutex_);

  // By a call that has run OnDone.
  void Ended(const std::shared_ptr<LoopbackCall>& call) ABSL_LOCKS_EXCLUDED(mutex_);

  LoopbackHub& hub() { return *hub_; }
  const std::shared_ptr<Session>& session() const { return session_; }

 private:
  const std::shared_ptr<LoopbackHub> hub_;
  const std::shared_ptr<Session> session_;
  mutable Mutex mutex_;
  CondVar idle_;
  CondVar severed_all_;
  bool severed_ ABSL_GUARDED_BY(mutex_) = false;
  bool severing_ ABSL_GUARDED_BY(mutex_) = false;
  absl::flat_hash_set<std::shared_ptr<LoopbackCall>> calls_ ABSL_GUARDED_BY(mutex_);
  // Of calls_, those given to the service, and the others in their order.
  absl::flat_hash_set<LoopbackCall*> in_flight_ ABSL_GUARDED_BY(mutex_);
  std::deque<std::shared_ptr<LoopbackCall>> waiting_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace reprise::transport
