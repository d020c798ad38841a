#include "common/executor.h"

#include <pthread.h>

#include <utility>

namespace reprise {

Executor::Executor(std::string name, size_t threads, size_t queue_limit)
    : queue_limit_(queue_limit) {
  threads_.reserve(threads);
  for (size_t i = 0; i < threads; ++i) {
    threads_.emplace_back([this, name] { ThreadMain(name); });
  }
}

Executor::~Executor() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    wake_.notify_all();
  }
  for (std::thread& thread : threads_) thread.join();
}

bool Executor::TryRun(Task task) {
  MutexLock lock(mutex_);
  if (queue_.size() >= queue_limit_) return false;
  queue_.push_back(std::move(task));
  wake_.notify_one();
  return true;
}

size_t Executor::queued() const {
  MutexLock lock(mutex_);
  return queue_.size();
}

void Executor::ThreadMain(const std::string& name) {
  pthread_setname_np(pthread_self(), name.substr(0, 15).c_str());
  mutex_.Lock();
  while (true) {
    while (queue_.empty() && !stopping_) wake_.wait(mutex_);
    if (queue_.empty()) break;
    {
      Task task = std::move(queue_.front());
      queue_.pop_front();
      mutex_.Unlock();
      std::move(task)();
      // `task` and what it owns die here, outside the lock.
    }
    mutex_.Lock();
  }
  mutex_.Unlock();
}

}  // namespace reprise
