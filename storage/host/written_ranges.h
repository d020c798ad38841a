// Which bytes of an upload have been claimed by a writer.
//
// Parts may come in any order, but not over each other: a byte is written once, so what was checked
// cannot change afterwards. Neighbouring ranges merge; memory is fixed, and parts that leave more
// gaps than that are refused. Not thread-safe.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "common/status.h"

namespace reprise::storage {

class WrittenRanges {
 public:
  // Ranges apart from each other that are remembered at once: what parts in flight out of order can
  // leave.
  static constexpr size_t kMaxRanges = 128;

  // Claims [begin, end), begin < end. INVALID_ARGUMENT, changing nothing, when a byte of it is
  // claimed already; RESOURCE_EXHAUSTED when there are too many gaps.
  absl::Status Claim(uint64_t begin, uint64_t end);

 private:
  struct Range {
    uint64_t begin = 0;
    uint64_t end = 0;
  };

  std::array<Range, kMaxRanges> ranges_;  // ascending, apart from each other
  size_t count_ = 0;
};

}  // namespace reprise::storage
