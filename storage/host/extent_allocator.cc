#include "storage/host/extent_allocator.h"

#include <cstdlib>
#include <iterator>

namespace reprise::storage {
namespace {

// The free lists decide whose bytes are whose: going on with broken ones would serve one piece's
// bytes as another's.
void AbortUnless(bool condition) {
  if (!condition) std::abort();
}

}  // namespace

ExtentAllocator::ExtentAllocator(uint64_t capacity_bytes)
    : capacity_bytes_(capacity_bytes / kGranularityBytes * kGranularityBytes) {
  if (capacity_bytes_ > 0) Give(0, capacity_bytes_);
}

std::optional<uint64_t> ExtentAllocator::Allocate(uint64_t size_bytes) {
  AbortUnless(size_bytes > 0);
  const uint64_t size = OccupiedBytes(size_bytes);
  const auto fit = by_size_.lower_bound({size, 0});
  if (fit == by_size_.end()) return std::nullopt;
  const auto [found, offset] = *fit;
  by_size_.erase(fit);
  const auto at = by_offset_.find(offset);
  by_offset_.erase(at);
  free_bytes_ -= found;
  if (found > size) Give(offset + size, found - size);
  return offset;
}

void ExtentAllocator::Free(uint64_t offset, uint64_t size_bytes) {
  const uint64_t size = OccupiedBytes(size_bytes);
  AbortUnless(size > 0 && offset % kGranularityBytes == 0 && offset <= capacity_bytes_ &&
              size <= capacity_bytes_ - offset);
  Give(offset, size);
}

void ExtentAllocator::Shrink(uint64_t offset, uint64_t size_bytes, uint64_t new_size_bytes) {
  AbortUnless(new_size_bytes > 0 && new_size_bytes <= size_bytes);
  const uint64_t kept = OccupiedBytes(new_size_bytes);
  const uint64_t size = OccupiedBytes(size_bytes);
  if (kept < size) Free(offset + kept, size - kept);
}

uint64_t ExtentAllocator::largest_free_bytes() const {
  return by_size_.empty() ? 0 : by_size_.rbegin()->first;
}

void ExtentAllocator::Give(uint64_t offset, uint64_t size) {
  free_bytes_ += size;
  auto next = by_offset_.lower_bound(offset);
  if (next != by_offset_.end()) {
    AbortUnless(offset + size <= next->first);
    if (offset + size == next->first) {
      size += next->second;
      by_size_.erase({next->second, next->first});
      next = by_offset_.erase(next);
    }
  }
  if (next != by_offset_.begin()) {
    const auto previous = std::prev(next);
    AbortUnless(previous->first + previous->second <= offset);
    if (previous->first + previous->second == offset) {
      by_size_.erase({previous->second, previous->first});
      previous->second += size;
      by_size_.emplace(previous->second, previous->first);
      return;
    }
  }
  by_offset_.emplace(offset, size);
  by_size_.emplace(size, offset);
}

}  // namespace reprise::storage
