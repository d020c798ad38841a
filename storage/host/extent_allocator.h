// Hands out contiguous extents of an offset range: the bookkeeping of the host tier's arena,
// without its memory.
//
// Best fit over the free extents, which are always maximal: freeing merges with both neighbours.
// Among equal fits the lowest offset wins, so that the same calls always give the same offsets.
// Allocate, Free and Shrink take O(log n) for n free extents. The allocator remembers only what is
// free; whoever holds an extent remembers its offset and size. Not thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>

#include "absl/container/btree_map.h"
#include "absl/container/btree_set.h"

namespace reprise::storage {

class ExtentAllocator {
 public:
  // Offsets and sizes are multiples of this: what planes are aligned to and what O_DIRECT needs.
  static constexpr uint64_t kGranularityBytes = 4096;

  // Manages [0, capacity_bytes), rounded down to the granularity.
  explicit ExtentAllocator(uint64_t capacity_bytes);

  // What an extent of `size_bytes` occupies: the next multiple of the granularity. `size_bytes`
  // below 2^63.
  static constexpr uint64_t OccupiedBytes(uint64_t size_bytes) {
    return (size_bytes + kGranularityBytes - 1) & ~(kGranularityBytes - 1);
  }

  // The offset of a free run of OccupiedBytes(size_bytes) bytes, now in use; nullopt when no free
  // run is long enough. `size_bytes` > 0.
  std::optional<uint64_t> Allocate(uint64_t size_bytes);

  // Gives back an extent with the size it was allocated with (or was last shrunk to). Giving back
  // what is free already, or another size, is a defect of the caller and aborts.
  void Free(uint64_t offset, uint64_t size_bytes);

  // Gives back the tail of an extent: it keeps OccupiedBytes(new_size_bytes). 0 < new_size_bytes <=
  // size_bytes.
  void Shrink(uint64_t offset, uint64_t size_bytes, uint64_t new_size_bytes);

  uint64_t capacity_bytes() const { return capacity_bytes_; }
  uint64_t free_bytes() const { return free_bytes_; }
  uint64_t used_bytes() const { return capacity_bytes_ - free_bytes_; }
  // The longest extent that Allocate would give now.
  uint64_t largest_free_bytes() const;
  size_t free_extents() const { return by_offset_.size(); }

 private:
  void Give(uint64_t offset, uint64_t size);

  const uint64_t capacity_bytes_;
  uint64_t free_bytes_ = 0;
  absl::btree_map<uint64_t, uint64_t> by_offset_;           // offset -> size
  absl::btree_set<std::pair<uint64_t, uint64_t>> by_size_;  // (size, offset)
};

}  // namespace reprise::storage
