#include "transport/event_loop.h"

#include <pthread.h>

namespace reprise::transport {

EventLoop::EventLoop(std::string name)
    : thread_([this, name = std::move(name)] { ThreadMain(name); }) {}

EventLoop::~EventLoop() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    wake_.notify_all();
  }
  thread_.join();
}

void EventLoop::Post(Task task) {
  MutexLock lock(mutex_);
  posted_.push_back(std::move(task));
  wake_.notify_one();
}

EventLoop::Timer EventLoop::PostAt(TimePoint when, Task task) {
  MutexLock lock(mutex_);
  const Timer timer(when, next_timer_++);
  const auto inserted = timers_.emplace(timer, std::move(task)).first;
  if (inserted == timers_.begin()) wake_.notify_one();
  return timer;
}

void EventLoop::Cancel(const Timer& timer) {
  Task dropped;  // destroyed without the lock: what it captured may come back here
  MutexLock lock(mutex_);
  const auto found = timers_.find(timer);
  if (found == timers_.end()) return;
  dropped = std::move(found->second);
  timers_.erase(found);
}

EventLoop::Task EventLoop::NextTask() {
  MutexLock lock(mutex_);
  while (true) {
    // A due timer goes first, so that a flood of posted tasks cannot hold back a deadline.
    if (!timers_.empty() && timers_.begin()->first.first <= Clock::Steady().Now()) {
      Task task = std::move(timers_.begin()->second);
      timers_.erase(timers_.begin());
      return task;
    }
    if (!posted_.empty()) {
      Task task = std::move(posted_.front());
      posted_.pop_front();
      return task;
    }
    if (stopping_) return nullptr;
    if (timers_.empty()) {
      wake_.wait(mutex_);
    } else {
      // A copy: another thread may cancel the timer, and free its key, during the wait.
      const TimePoint next = timers_.begin()->first.first;
      wake_.wait_until(mutex_, next);
    }
  }
}

void EventLoop::ThreadMain(const std::string& name) {
  pthread_setname_np(pthread_self(), name.substr(0, 15).c_str());
  while (Task task = NextTask()) {
    std::move(task)();
  }
}

}  // namespace reprise::transport
