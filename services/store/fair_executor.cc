#include "services/store/fair_executor.h"

#include <pthread.h>

#include <utility>

namespace reprise::store {

size_t WorkQueue::size() const {
  size_t sum = 0;
  for (const Class& each : classes_) sum += each.queue.size();
  return sum;
}

size_t WorkQueue::size(WorkClass work_class) const {
  return classes_[static_cast<size_t>(work_class)].queue.size();
}

void WorkQueue::Push(WorkClass work_class, SessionName session, uint64_t cost_bytes, Task task) {
  classes_[static_cast<size_t>(work_class)].queue.Push(session, cost_bytes, std::move(task));
}

std::optional<WorkQueue::Work> WorkQueue::Pop(bool only_fetch) {
  std::optional<size_t> next;
  for (size_t i = 0; i < (only_fetch ? 1 : kWorkClasses); ++i) {
    if (classes_[i].queue.empty()) continue;
    if (!next.has_value() || classes_[i].passed_over >= kMaxPassedOver) next = i;
  }
  if (!next.has_value()) return std::nullopt;
  for (size_t i = *next + 1; i < kWorkClasses && !only_fetch; ++i) {
    if (!classes_[i].queue.empty()) ++classes_[i].passed_over;
  }
  Class& chosen = classes_[*next];
  chosen.passed_over = 0;
  return Work{static_cast<WorkClass>(*next), chosen.queue.Pop()};
}

FairExecutor::FairExecutor(std::string name, size_t threads, size_t fetch_threads,
                           size_t queue_limit)
    : max_other_(threads - fetch_threads), queue_limit_(queue_limit) {
  threads_.reserve(threads);
  for (size_t i = 0; i < threads; ++i) {
    threads_.emplace_back([this, name] { ThreadMain(name); });
  }
}

FairExecutor::~FairExecutor() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    wake_.notify_all();
  }
  for (std::thread& thread : threads_) thread.join();
}

bool FairExecutor::TryRun(WorkClass work_class, SessionName session, uint64_t cost_bytes,
                          Task task) {
  MutexLock lock(mutex_);
  if (queue_.size(work_class) >= queue_limit_) return false;
  queue_.Push(work_class, session, cost_bytes, std::move(task));
  wake_.notify_one();
  return true;
}

void FairExecutor::ThreadMain(const std::string& name) {
  pthread_setname_np(pthread_self(), name.substr(0, 15).c_str());
  mutex_.Lock();
  while (true) {
    std::optional<WorkQueue::Work> work = queue_.Pop(/*only_fetch=*/other_ >= max_other_);
    if (!work.has_value()) {
      if (stopping_ && queue_.size() == 0) break;
      wake_.wait(mutex_);
      continue;
    }
    const bool is_other = work->work_class != WorkClass::kFetch;
    if (is_other) ++other_;
    mutex_.Unlock();
    std::move(work->task)();
    // The task and what it owns die here, outside the lock.
    work.reset();
    mutex_.Lock();
    if (!is_other) continue;
    // This thread may take a fetch next, and what the limit kept waiting goes to another.
    --other_;
    if (stopping_) {
      wake_.notify_all();
    } else if (queue_.size() > 0) {
      wake_.notify_one();
    }
  }
  mutex_.Unlock();
}

}  // namespace reprise::store
