// The thread that drives one UCX worker, and the only one that touches it.
//
// Other threads hand it work by scheduling a LoopTask. While there is traffic the loop polls; after
// kSpin without any it sleeps on the worker's event descriptor, and wakes up by itself now and then
// because UCX can miss an event.
#pragma once

#include <atomic>
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "common/clock.h"
#include "common/mutex.h"
#include "transport/ucx/ucx_resources.h"

namespace reprise::transport {

// Something with work for a loop's thread. Owned by shared_ptr.
class LoopTask {
 public:
  virtual ~LoopTask() = default;
  // Called on the loop's thread, once or more after each Schedule.
  virtual void RunOnLoop() = 0;

 private:
  friend class IoLoop;
  std::atomic<bool> scheduled_{false};
};

// Who the loop works for.
class LoopHandler {
 public:
  virtual ~LoopHandler() = default;
  // Called on the loop's thread in every turn, outside UCX's callbacks. Returns for how long the
  // loop may sleep if nothing happens; nullopt ends the loop.
  virtual std::optional<Duration> Turn(TimePoint now) = 0;
};

class IoLoop {
 public:
  // Longest sleep: with nothing under way, and with calls that a missed event would delay.
  static constexpr Duration kIdleSleep = std::chrono::milliseconds(100);
  static constexpr Duration kBusySleep = std::chrono::milliseconds(5);
  // How long the loop polls before it sleeps: about what waking up costs.
  static constexpr Duration kSpin = std::chrono::microseconds(50);

  // `clock` is what Turn's moments come from.
  IoLoop(std::unique_ptr<UcxWorker> worker, const Clock& clock);
  // Joins; the handler must have ended the loop or be about to.
  ~IoLoop();
  IoLoop(const IoLoop&) = delete;
  IoLoop& operator=(const IoLoop&) = delete;

  // Starts the thread. `handler` must outlive it. `name` is what `top -H` shows, 15 bytes at most.
  void Start(LoopHandler& handler, const std::string& name);
  // Waits for the thread to end.
  void Join();

  // Runs `task` on the loop's thread soon; once, when scheduled again before it has run. Never
  // blocks. Thread-safe, also on the loop's thread. A task scheduled after the loop has ended is
  // dropped.
  void Schedule(std::shared_ptr<LoopTask> task) ABSL_LOCKS_EXCLUDED(mutex_);

  // Only for the loop's thread, or before Start and after Join.
  UcxWorker& worker() { return *worker_; }
  const Clock& clock() const { return clock_; }

 private:
  void Run(LoopHandler& handler);
  bool RunTasks() ABSL_LOCKS_EXCLUDED(mutex_);
  void Sleep(Duration at_most) ABSL_LOCKS_EXCLUDED(mutex_);

  const std::unique_ptr<UcxWorker> worker_;
  const Clock& clock_;
  std::thread thread_;

  std::atomic<bool> sleeping_{false};
  Mutex mutex_;
  std::vector<std::shared_ptr<LoopTask>> tasks_ ABSL_GUARDED_BY(mutex_);
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::shared_ptr<LoopTask>> running_;  // the loop's thread only
};

}  // namespace reprise::transport
