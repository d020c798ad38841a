#include "client/session.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace reprise::client {

// Also what wakes the connection thread: it waits here for channels to bury and for word that one
// is wanted.
struct Session::Retired {
  Mutex mutex;
  CondVar changed;
  std::vector<std::unique_ptr<transport::Channel>> channels ABSL_GUARDED_BY(mutex);
  bool attempt_wanted ABSL_GUARDED_BY(mutex) = false;
  bool stopping ABSL_GUARDED_BY(mutex) = false;
};

Session::Session(std::unique_ptr<Connector> connector, std::chrono::milliseconds connect_timeout,
                 const Clock& clock)
    : connector_(std::move(connector)),
      connect_timeout_(connect_timeout),
      clock_(clock),
      retired_(std::make_shared<Retired>()),
      jitter_(std::random_device{}()),
      connections_([this] { RunConnections(); }),
      deadlines_([this] { RunDeadlines(); }) {}

Session::~Session() {
  ChannelRef last;
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    last = std::move(current_);
    deadlines_changed_.notify_all();
  }
  last.reset();
  {
    MutexLock lock(retired_->mutex);
    retired_->stopping = true;
    retired_->changed.notify_all();
  }
  connections_.join();
  deadlines_.join();
}

ChannelRef Session::Wrap(std::unique_ptr<transport::Channel> channel) const {
  return ChannelRef(channel.release(), [retired = retired_](transport::Channel* unreferenced) {
    MutexLock lock(retired->mutex);
    retired->channels.emplace_back(unreferenced);
    retired->changed.notify_all();
  });
}

uint64_t Session::Acquire(Deadline deadline, Ready ready) {
  ChannelRef channel;
  ChannelRef lost;
  absl::Status refused;
  uint64_t ticket = 0;
  {
    MutexLock lock(mutex_);
    if (current_ != nullptr && !current_->alive()) lost = std::move(current_);
    channel = current_;
    ticket = next_ticket_++;
    const TimePoint now = clock_.Now();
    if (channel == nullptr && !attempting_ && now < next_attempt_) {
      const auto wait = std::chrono::ceil<std::chrono::milliseconds>(next_attempt_ - now);
      refused = absl::UnavailableError(absl::StrCat("the store cannot be reached (",
                                                    last_error_.message(), "); next attempt in ",
                                                    wait.count(), " ms"));
    } else if (channel == nullptr) {
      waiters_.emplace(ticket, Waiter{deadline, std::move(ready)});
      deadlines_changed_.notify_all();
      if (!attempting_) {
        attempting_ = true;
        MutexLock retired_lock(retired_->mutex);
        retired_->attempt_wanted = true;
        retired_->changed.notify_all();
      }
      return ticket;
    }
  }
  if (channel != nullptr) {
    std::move(ready)(std::move(channel));
  } else {
    std::move(ready)(std::move(refused));
  }
  return ticket;
}

Session::Ready Session::Withdraw(uint64_t ticket) {
  MutexLock lock(mutex_);
  const auto found = waiters_.find(ticket);
  if (found == waiters_.end()) return nullptr;
  Ready ready = std::move(found->second.ready);
  waiters_.erase(found);
  return ready;
}

void Session::Discard(const transport::Channel* channel) {
  ChannelRef lost;
  MutexLock lock(mutex_);
  if (current_.get() == channel) lost = std::move(current_);
}

std::string_view Session::carrier() const {
  MutexLock lock(mutex_);
  return carrier_;
}

void Session::RunConnections() {
  for (;;) {
    std::vector<std::unique_ptr<transport::Channel>> buried;
    bool attempt = false;
    {
      MutexLock lock(retired_->mutex);
      while (retired_->channels.empty() && !retired_->attempt_wanted && !retired_->stopping) {
        retired_->changed.wait(retired_->mutex);
      }
      if (retired_->channels.empty() && retired_->stopping) return;
      buried.swap(retired_->channels);
      attempt = std::exchange(retired_->attempt_wanted, false);
    }
    buried.clear();
    if (attempt) Attempt();
  }
}

void Session::Attempt() {
  auto opened = connector_->Open(Deadline::After(connect_timeout_));
  std::map<uint64_t, Waiter> waiters;
  absl::StatusOr<ChannelRef> result = absl::UnavailableError("the client is being destroyed");
  {
    MutexLock lock(mutex_);
    attempting_ = false;
    waiters.swap(waiters_);
    if (opened.ok()) {
      back_off_ = std::chrono::milliseconds{0};
      carrier_ = (*opened)->carrier();
      current_ = Wrap(*std::move(opened));
      result = current_;
    } else {
      back_off_ = std::clamp(2 * back_off_, kFirstBackOff, kLongestBackOff);
      std::uniform_int_distribution<int64_t> pause_ms(back_off_.count() / 2, back_off_.count());
      next_attempt_ = clock_.Now() + std::chrono::milliseconds(pause_ms(jitter_));
      last_error_ = opened.status();
      result = opened.status();
    }
  }
  for (auto& [ticket, waiter] : waiters) std::move(waiter.ready)(result);
}

void Session::RunDeadlines() {
  MutexLock lock(mutex_);
  while (!stopping_) {
    if (waiters_.empty()) {
      deadlines_changed_.wait(mutex_);
      continue;
    }
    const auto first = std::min_element(
        waiters_.begin(), waiters_.end(),
        [](const auto& a, const auto& b) { return a.second.deadline < b.second.deadline; });
    const Deadline deadline = first->second.deadline;
    if (!deadline.PassedAt(Clock::Steady().Now())) {
      deadlines_changed_.wait_until(mutex_, deadline.at());
      continue;
    }
    Ready ready = std::move(first->second.ready);
    waiters_.erase(first);
    mutex_.Unlock();
    std::move(ready)(absl::DeadlineExceededError(
        "the deadline passed while the session was being opened; is what listens there a store, "
        "at its --listen address?"));
    mutex_.Lock();
  }
}

}  // namespace reprise::client
