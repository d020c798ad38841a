// The client's one connection to its store, reopened when an operation finds it lost.
//
// Operations never wait for a store that is known to be gone: after a failed attempt, Acquire
// answers UNAVAILABLE at once until a back-off (doubling, with jitter) has passed; the first
// Acquire after that makes the next attempt. An engine thus falls back to recomputing without
// delay.
//
// A channel may block while it is destroyed and must not be destroyed from its own thread, so
// ChannelRef hands the channel back to the session's thread when the last reference goes. Every
// ChannelRef must be gone before the session is destroyed. Thread-safe.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <random>
#include <string_view>
#include <thread>
#include <vector>

#include "absl/functional/any_invocable.h"

#include "client/connector.h"
#include "common/clock.h"
#include "common/mutex.h"
#include "common/status.h"
#include "transport/transport.h"

namespace reprise::client {

using ChannelRef = std::shared_ptr<transport::Channel>;

// Pauses between attempts: half to all of a length that doubles from the first to the second of
// these.
inline constexpr std::chrono::milliseconds kFirstBackOff{20};
inline constexpr std::chrono::milliseconds kLongestBackOff{2'000};

class Session {
 public:
  // Runs exactly once, on the caller's thread or one of the session's; must not block.
  using Ready = absl::AnyInvocable<void(absl::StatusOr<ChannelRef>) &&>;

  Session(std::unique_ptr<Connector> connector, std::chrono::milliseconds connect_timeout,
          const Clock& clock);
  // Waits for an attempt under way: connect_timeout at most. No Acquire may be waiting.
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // Gives `ready` the live channel, at once when there is one, else after the attempt to open one.
  // UNAVAILABLE when there is none to be had, DEADLINE_EXCEEDED at `deadline`. Returns a ticket,
  // never 0, for Withdraw.
  uint64_t Acquire(Deadline deadline, Ready ready) ABSL_LOCKS_EXCLUDED(mutex_);

  // Takes back the `ready` of an Acquire that still waits: it is the caller's to run now. Null when
  // it has run already.
  Ready Withdraw(uint64_t ticket) ABSL_LOCKS_EXCLUDED(mutex_);

  // The store no longer knows the session of `channel`: the next Acquire opens another.
  void Discard(const transport::Channel* channel) ABSL_LOCKS_EXCLUDED(mutex_);

  // Carrier of the current or last channel; empty before the first.
  std::string_view carrier() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  struct Waiter {
    Deadline deadline;
    Ready ready;
  };
  // Channels that wait to be destroyed, outliving the session for the sake of late references.
  struct Retired;

  ChannelRef Wrap(std::unique_ptr<transport::Channel> channel) const;
  void RunConnections() ABSL_LOCKS_EXCLUDED(mutex_);
  void Attempt() ABSL_LOCKS_EXCLUDED(mutex_);
  void RunDeadlines() ABSL_LOCKS_EXCLUDED(mutex_);

  const std::unique_ptr<Connector> connector_;
  const std::chrono::milliseconds connect_timeout_;
  const Clock& clock_;
  const std::shared_ptr<Retired> retired_;

  mutable Mutex mutex_;
  CondVar deadlines_changed_;
  ChannelRef current_ ABSL_GUARDED_BY(mutex_);
  std::string_view carrier_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  bool attempting_ ABSL_GUARDED_BY(mutex_) = false;
  std::map<uint64_t, Waiter> waiters_ ABSL_GUARDED_BY(mutex_);
  uint64_t next_ticket_ ABSL_GUARDED_BY(mutex_) = 1;
  std::chrono::milliseconds back_off_ ABSL_GUARDED_BY(mutex_){0};
  TimePoint next_attempt_ ABSL_GUARDED_BY(mutex_){};
  absl::Status last_error_ ABSL_GUARDED_BY(mutex_);
  std::minstd_rand jitter_ ABSL_GUARDED_BY(mutex_);

  std::thread connections_;
  std::thread deadlines_;
};

}  // namespace reprise::client
