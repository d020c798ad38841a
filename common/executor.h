// A fixed set of threads that run closures from a bounded queue.
//
// Handlers and verification run here so that the thread that moves bytes never blocks. Thread-safe.
// Destruction runs what is queued, then joins.
#pragma once

#include <cstddef>
#include <deque>
#include <string>
#include <thread>
#include <vector>

#include "absl/functional/any_invocable.h"

#include "common/mutex.h"

namespace reprise {

class Executor {
 public:
  using Task = absl::AnyInvocable<void() &&>;

  // `name` is what the threads are called in `top -H` (at most 15 bytes are shown).
  Executor(std::string name, size_t threads, size_t queue_limit);
  ~Executor();
  Executor(const Executor&) = delete;
  Executor& operator=(const Executor&) = delete;

  // False, without running or keeping `task`, when `queue_limit` tasks are already waiting. Never
  // blocks.
  [[nodiscard]] bool TryRun(Task task) ABSL_LOCKS_EXCLUDED(mutex_);

  size_t queued() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  void ThreadMain(const std::string& name);

  const size_t queue_limit_;
  mutable Mutex mutex_;
  CondVar wake_;
  std::deque<Task> queue_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace reprise
