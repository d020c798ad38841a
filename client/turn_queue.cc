#include "client/turn_queue.h"

#include <pthread.h>

#include <utility>

namespace reprise::client {

TurnQueue::TurnQueue(const std::string& name, size_t threads) {
  threads_.reserve(threads);
  for (size_t i = 0; i < threads; ++i) {
    threads_.emplace_back([this, name] { ThreadMain(name); });
  }
}

TurnQueue::~TurnQueue() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    wake_.notify_all();
  }
  for (std::thread& thread : threads_) thread.join();
}

void TurnQueue::Schedule(std::shared_ptr<TurnTaker> taker, TimePoint due) {
  MutexLock lock(mutex_);
  if (taker->place_ && taker->place_->first <= due) return;
  if (taker->place_) queue_.erase(*taker->place_);
  taker->place_ = Place(due, next_number_++);
  if (taker->running_) return;  // the running thread queues it when its turn is over
  const Place place = *taker->place_;
  queue_.emplace(place, std::move(taker));
  wake_.notify_one();
}

void TurnQueue::ThreadMain(const std::string& name) {
  pthread_setname_np(pthread_self(), name.substr(0, 15).c_str());
  MutexLock lock(mutex_);
  for (;;) {
    while (queue_.empty() && !stopping_) wake_.wait(mutex_);
    if (stopping_) return;
    std::shared_ptr<TurnTaker> taker = std::move(queue_.begin()->second);
    queue_.erase(queue_.begin());
    taker->place_.reset();
    taker->running_ = true;
    mutex_.Unlock();
    taker->Turn();
    mutex_.Lock();
    taker->running_ = false;
    if (taker->place_) {
      const Place place = *taker->place_;
      queue_.emplace(place, std::move(taker));
      wake_.notify_one();
      continue;
    }
    // What it owns dies outside the lock.
    mutex_.Unlock();
    taker.reset();
    mutex_.Lock();
  }
}

}  // namespace reprise::client
