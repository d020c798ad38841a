// One thread that runs closures, in the order given or at a moment.
//
// The carriers that have no progress engine of their own (loopback, faulty) deliver callbacks and
// notice deadlines on it. Thread-safe. Time is the steady clock's.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <thread>
#include <utility>

#include "absl/container/btree_map.h"
#include "absl/functional/any_invocable.h"

#include "common/clock.h"
#include "common/mutex.h"

namespace reprise::transport {

class EventLoop {
 public:
  using Task = absl::AnyInvocable<void() &&>;
  // Names a timer; the value of a timer that ran or was cancelled is never used again.
  using Timer = std::pair<TimePoint, uint64_t>;

  // `name` is what the thread is called in `top -H` (at most 15 bytes are shown).
  explicit EventLoop(std::string name);
  // Runs what was posted, drops timers, joins. Not from the loop's own thread.
  ~EventLoop();
  EventLoop(const EventLoop&) = delete;
  EventLoop& operator=(const EventLoop&) = delete;

  // Tasks run in the order of Post, never inside Post. A task posted after destruction has begun
  // may be dropped.
  void Post(Task task) ABSL_LOCKS_EXCLUDED(mutex_);

  Timer PostAt(TimePoint when, Task task) ABSL_LOCKS_EXCLUDED(mutex_);
  // The task is dropped unless it is running or has run; does not wait for it.
  void Cancel(const Timer& timer) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  void ThreadMain(const std::string& name);
  // Waits for something due and takes it; a null task when it is time to end.
  Task NextTask() ABSL_LOCKS_EXCLUDED(mutex_);

  Mutex mutex_;
  CondVar wake_;
  std::deque<Task> posted_ ABSL_GUARDED_BY(mutex_);
  absl::btree_map<Timer, Task> timers_ ABSL_GUARDED_BY(mutex_);
  uint64_t next_timer_ ABSL_GUARDED_BY(mutex_) = 0;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace reprise::transport
