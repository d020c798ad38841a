// The threads that work on requests, and which request is next.
//
// Fetches and lookups come before publishes, and those before background work; within a class
// sessions share by deficit round robin. Publishes and background work never have all threads, so
// that a fetch finds one, and are passed over kMaxPassedOver times in a row at most, so that
// fetches do not keep them out for ever. Thread-safe. Destruction runs what is queued, then joins.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/functional/any_invocable.h"

#include "common/limits.h"
#include "common/mutex.h"
#include "services/store/fair_queue.h"
#include "services/store/work_class.h"

namespace reprise::store {

// What a request that moves no bulk counts as: about what the processor copies meanwhile.
inline constexpr uint64_t kSmallWorkBytes = 64 * kKiB;

// The order of work, without threads. Not thread-safe.
class WorkQueue {
 public:
  using Task = absl::AnyInvocable<void() &&>;
  struct Work {
    WorkClass work_class = WorkClass::kFetch;
    Task task;
  };
  static constexpr size_t kMaxPassedOver = 15;

  size_t size() const;
  size_t size(WorkClass work_class) const;
  void Push(WorkClass work_class, SessionName session, uint64_t cost_bytes, Task task);
  // The next work, of the class kFetch when `only_fetch`; nullopt when there is none.
  std::optional<Work> Pop(bool only_fetch);

 private:
  struct Class {
    FairQueue<Task> queue;
    size_t passed_over = 0;  // in a row, while it had work
  };
  std::array<Class, kWorkClasses> classes_;
};

class FairExecutor {
 public:
  using Task = WorkQueue::Task;

  // `fetch_threads` are for fetches alone, at least 1; `threads` in all. At most `queue_limit`
  // tasks wait. `name` is what the threads are called in `top -H` (at most 15 bytes are shown).
  FairExecutor(std::string name, size_t threads, size_t fetch_threads, size_t queue_limit);
  ~FairExecutor();
  FairExecutor(const FairExecutor&) = delete;
  FairExecutor& operator=(const FairExecutor&) = delete;

  // False, without running or keeping `task`, when the queue is full. `cost_bytes` is how many
  // bytes the task moves. Never blocks.
  [[nodiscard]] bool TryRun(WorkClass work_class, SessionName session, uint64_t cost_bytes,
                            Task task) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  void ThreadMain(const std::string& name);

  const size_t max_other_;  // threads at work that is no fetch
  const size_t queue_limit_;
  Mutex mutex_;
  CondVar wake_;
  WorkQueue queue_ ABSL_GUARDED_BY(mutex_);
  size_t other_ ABSL_GUARDED_BY(mutex_) = 0;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace reprise::store
