#include "common/clock.h"

#include <algorithm>

#include "common/limits.h"

namespace reprise {
namespace {

class SteadyClock final : public Clock {
 public:
  TimePoint Now() const override { return std::chrono::steady_clock::now(); }
  uint32_t WallSeconds() const override {
    const auto since_epoch = std::chrono::system_clock::now().time_since_epoch();
    return static_cast<uint32_t>(
        std::chrono::duration_cast<std::chrono::seconds>(since_epoch).count());
  }
};

}  // namespace

const Clock& Clock::Steady() {
  static const SteadyClock clock;
  return clock;
}

ManualClock::ManualClock(TimePoint start) : now_ns_(Duration(start.time_since_epoch()).count()) {}

TimePoint ManualClock::Now() const { return TimePoint(Duration(now_ns_.load())); }

uint32_t ManualClock::WallSeconds() const {
  return static_cast<uint32_t>(
      std::chrono::duration_cast<std::chrono::seconds>(Duration(now_ns_.load())).count());
}

void ManualClock::Advance(Duration by) { now_ns_.fetch_add(by.count()); }

Deadline Deadline::After(Duration timeout, const Clock& clock) {
  return Deadline(clock.Now() + std::min<Duration>(timeout, kMaxDeadline));
}

}  // namespace reprise
