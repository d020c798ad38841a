// Threads that work on many operations in turns, so that a short one need not wait for a long one.
//
// An operation asks for a turn with the time by which it wants it, and the earliest goes first.
// Who goes on with long work asks for the present time, which makes a round of all of them; an
// operation that is to end asks for kAtOnce, and waits for the turn in progress at most. Turns must
// be short. Thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "common/clock.h"
#include "common/mutex.h"

namespace reprise::client {

inline constexpr TimePoint kAtOnce = TimePoint::min();

class TurnQueue;

// What takes turns, in one TurnQueue only.
class TurnTaker {
 public:
  virtual ~TurnTaker() = default;

 protected:
  // On a thread of the queue; never two at a time of one taker. May find nothing left to do.
  virtual void Turn() = 0;

 private:
  friend class TurnQueue;
  // Guarded by the queue's mutex.
  bool running_ = false;
  std::optional<std::pair<TimePoint, uint64_t>> place_;  // in the queue, or of the turn after
};

class TurnQueue {
 public:
  // `name` is what the threads are called in `top -H`.
  TurnQueue(const std::string& name, size_t threads);
  // Waits for the turns in progress; no other begins.
  ~TurnQueue();
  TurnQueue(const TurnQueue&) = delete;
  TurnQueue& operator=(const TurnQueue&) = delete;

  // One turn for `taker`, soon after this call. When it has one coming already it gets only that,
  // at the earlier of both times; while it has one now, it gets another after it.
  void Schedule(std::shared_ptr<TurnTaker> taker, TimePoint due) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  using Place = std::pair<TimePoint, uint64_t>;  // equal times are served in the order asked

  void ThreadMain(const std::string& name) ABSL_LOCKS_EXCLUDED(mutex_);

  Mutex mutex_;
  CondVar wake_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  uint64_t next_number_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<Place, std::shared_ptr<TurnTaker>> queue_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::thread> threads_;
};

}  // namespace reprise::client
