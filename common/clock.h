// Time as an injected interface, so that a test can stop it, and deadlines on it.
//
// Everything is timed by monotonic time; nothing may depend on the wall clock going forward. That
// only says when what outlives the process expires. Clock implementations are thread-safe.
#pragma once

#include <atomic>
#include <chrono>
#include <compare>
#include <cstdint>

namespace reprise {

using TimePoint = std::chrono::steady_clock::time_point;
using Duration = std::chrono::nanoseconds;

class Clock {
 public:
  virtual ~Clock() = default;
  virtual TimePoint Now() const = 0;
  // Seconds since 1970, UTC; 32 bits last until 2106.
  virtual uint32_t WallSeconds() const = 0;

  // The machine's steady clock; lives for ever.
  static const Clock& Steady();
};

// A clock that moves only when told to, its wall time too. Thread-safe.
class ManualClock final : public Clock {
 public:
  explicit ManualClock(TimePoint start = TimePoint{} + std::chrono::hours(1));
  TimePoint Now() const override;
  uint32_t WallSeconds() const override;
  void Advance(Duration by);

 private:
  std::atomic<Duration::rep> now_ns_;
};

// The moment by which a call must have ended. A value type.
class Deadline {
 public:
  // No default: every blocking call states its deadline.
  explicit Deadline(TimePoint at) : at_(at) {}
  // `timeout` is cut to kMaxDeadline; a negative one has already passed.
  static Deadline After(Duration timeout, const Clock& clock = Clock::Steady());

  TimePoint at() const { return at_; }
  bool PassedAt(TimePoint now) const { return now >= at_; }
  // Never negative.
  Duration RemainingAt(TimePoint now) const { return now >= at_ ? Duration::zero() : at_ - now; }

  friend auto operator<=>(const Deadline&, const Deadline&) = default;

 private:
  TimePoint at_;
};

}  // namespace reprise
