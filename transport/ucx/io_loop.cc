#include "transport/ucx/io_loop.h"

#include <pthread.h>

#include <algorithm>

namespace reprise::transport {
namespace {

// Calls of progress between two looks at tasks and timers, so that a stream of small messages
// cannot hold them up.
constexpr int kProgressBurst = 16;

}  // namespace

IoLoop::IoLoop(std::unique_ptr<UcxWorker> worker, const Clock& clock)
    : worker_(std::move(worker)), clock_(clock) {}

IoLoop::~IoLoop() { Join(); }

void IoLoop::Start(LoopHandler& handler, const std::string& name) {
  thread_ = std::thread([this, &handler, name] {
    pthread_setname_np(pthread_self(), name.substr(0, 15).c_str());
    Run(handler);
    MutexLock lock(mutex_);
    ended_ = true;
    tasks_.clear();
  });
}

void IoLoop::Join() {
  if (thread_.joinable()) thread_.join();
}

void IoLoop::Schedule(std::shared_ptr<LoopTask> task) {
  if (task->scheduled_.exchange(true)) return;
  {
    MutexLock lock(mutex_);
    if (ended_) return;
    tasks_.push_back(std::move(task));
  }
  // Sleep() sets sleeping_ before it looks at tasks_: either it sees the task, or we see it asleep.
  if (sleeping_.load()) worker_->Signal();
}

bool IoLoop::RunTasks() {
  {
    MutexLock lock(mutex_);
    if (tasks_.empty()) return false;
    running_.swap(tasks_);
  }
  for (std::shared_ptr<LoopTask>& task : running_) {
    task->scheduled_.store(false);
    task->RunOnLoop();
  }
  running_.clear();
  return true;
}

void IoLoop::Sleep(Duration at_most) {
  sleeping_.store(true);
  const bool may_sleep = [this] {
    MutexLock lock(mutex_);
    return tasks_.empty();
  }();
  if (may_sleep) worker_->Wait(at_most);
  sleeping_.store(false);
}

void IoLoop::Run(LoopHandler& handler) {
  using std::chrono::steady_clock;
  steady_clock::time_point last_work = steady_clock::now();
  while (true) {
    bool worked = RunTasks();
    for (int i = 0; i < kProgressBurst && worker_->Progress(); ++i) worked = true;
    const std::optional<Duration> may_sleep = handler.Turn(clock_.Now());
    if (!may_sleep.has_value()) return;
    const steady_clock::time_point now = steady_clock::now();
    if (worked) {
      last_work = now;
    } else if (now - last_work >= kSpin && *may_sleep > Duration::zero()) {
      Sleep(*may_sleep);
    }
  }
}

}  // namespace reprise::transport
