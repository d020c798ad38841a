// Slows a background loop down to a rate. Not thread-safe.
#pragma once

#include <algorithm>
#include <cstdint>

#include "common/clock.h"

namespace reprise::storage {

class Pacer {
 public:
  // `bytes_per_second` is above 0.
  explicit Pacer(uint64_t bytes_per_second) : bytes_per_second_(bytes_per_second) {}

  // When the loop may go on, having handled that many bytes at `now`. What it was late by is not
  // made up for.
  TimePoint After(uint64_t bytes, TimePoint now) {
    const double seconds = static_cast<double>(bytes) / static_cast<double>(bytes_per_second_);
    ready_at_ = std::max(ready_at_, now) +
                std::chrono::duration_cast<Duration>(std::chrono::duration<double>(seconds));
    return ready_at_;
  }

 private:
  const uint64_t bytes_per_second_;
  TimePoint ready_at_{};
};

}  // namespace reprise::storage
