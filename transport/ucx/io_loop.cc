#include "transport/ucx/io_loop.h"

#include <pthread.h>

#include <algorithm>
#include <utility>

#include <sched.h>

namespace reprise::transport {
namespace {

// Calls of progress between two looks at tasks and timers, so that a stream of small messages
// cannot hold them up.
constexpr int kProgressBurst = 16;

// Where others want the cores, a yield takes their whole time slices, milliseconds, and a sleeper
// is woken at once: for so long after a long yield the loop sleeps instead of polling.
constexpr Duration kCrowded = std::chrono::milliseconds(100);

}  // namespace

absl::StatusOr<std::shared_ptr<IoLoop>> IoLoop::Shared() {
  static Mutex mutex;
  static std::weak_ptr<IoLoop> living;
  MutexLock lock(mutex);
  if (std::shared_ptr<IoLoop> loop = living.lock()) return loop;
  REPRISE_ASSIGN_OR_RETURN(std::shared_ptr<UcxContext> context, UcxContext::Shared());
  std::shared_ptr<IoLoop> loop(new IoLoop(std::move(context)));
  REPRISE_ASSIGN_OR_RETURN(loop->wire_, Wire::Create(loop->context_));
  loop->thread_ = std::thread([self = loop.get()] { self->Run(); });
  pthread_setname_np(loop->thread_.native_handle(), "reprise-ucx");
  living = loop;
  return loop;
}

IoLoop::~IoLoop() {
  stopping_ = true;
  if (thread_.joinable()) {
    wire_->worker().Signal();
    thread_.join();
  }
  // The worker goes first: what UCX may still use belongs to handlers that it did not let go.
  wire_ = nullptr;
}

void IoLoop::Attach(std::shared_ptr<LoopHandler> handler) {
  {
    MutexLock lock(mutex_);
    attaching_.push_back(std::move(handler));
  }
  Wake();
}

void IoLoop::Schedule(std::shared_ptr<LoopTask> task) {
  if (task->scheduled_.exchange(true)) return;
  {
    MutexLock lock(mutex_);
    tasks_.push_back(std::move(task));
  }
  Wake();
}

void IoLoop::Wake() {
  // Sleep sets sleeping_ before it looks at the queues: either it sees what was queued, or we see
  // it asleep.
  if (sleeping_.load()) wire_->worker().Signal();
}

bool IoLoop::RunTasks() {
  {
    MutexLock lock(mutex_);
    for (std::shared_ptr<LoopHandler>& handler : attaching_)
      handlers_.push_back(std::move(handler));
    attaching_.clear();
    if (tasks_.empty()) return false;
    running_.swap(tasks_);
  }
  for (const std::shared_ptr<LoopTask>& task : running_) {
    task->scheduled_.store(false);
    task->RunOnLoop();
  }
  running_.clear();
  return true;
}

Duration IoLoop::GiveTurns() {
  Duration may_sleep = kIdleSleep;
  for (size_t i = 0; i < handlers_.size();) {
    const std::optional<Duration> handler_may_sleep = handlers_[i]->Turn();
    if (handler_may_sleep.has_value()) {
      may_sleep = std::min(may_sleep, *handler_may_sleep);
      ++i;
      continue;
    }
    const std::shared_ptr<LoopHandler> ended = std::move(handlers_[i]);
    handlers_.erase(handlers_.begin() + static_cast<std::ptrdiff_t>(i));
    ended->OnDetached();
  }
  return may_sleep;
}

void IoLoop::Sleep(Duration at_most) {
  sleeping_.store(true);
  const bool may_sleep = [this] {
    MutexLock lock(mutex_);
    return tasks_.empty() && attaching_.empty();
  }();
  if (may_sleep && !stopping_) wire_->worker().Wait(at_most);
  sleeping_.store(false);
}

void IoLoop::Run() {
  using std::chrono::steady_clock;
  steady_clock::time_point last_work = steady_clock::now();
  steady_clock::time_point crowded_until = last_work;
  while (!stopping_) {
    bool worked = RunTasks();
    for (int i = 0; i < kProgressBurst && wire_->worker().Progress(); ++i) worked = true;
    const Duration may_sleep = GiveTurns();
    const steady_clock::time_point now = steady_clock::now();
    if (worked || may_sleep <= Duration::zero()) {
      last_work = now;
    } else if (now - last_work >= kSpin || now < crowded_until) {
      Sleep(may_sleep);
    } else {
      // The thread that waits for an answer, or will ask the next question, needs a core too. On
      // two cores this takes a call of 2 KB from 140 us to 25.
      sched_yield();
      const steady_clock::time_point back = steady_clock::now();
      if (back - now > kSpin) crowded_until = back + kCrowded;
    }
  }
}

}  // namespace reprise::transport
