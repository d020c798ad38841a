// Every new and delete of a test program, counted. Linking this replaces the library's and the
// sanitizers' own. Thread-safe.
#pragma once

#include <atomic>
#include <cstdint>

namespace reprise::storage {

struct CountedHeap {
  std::atomic<uint64_t> allocations{0};
  std::atomic<uint64_t> live_bytes{0};  // as the allocator rounds them
  std::atomic<uint64_t> peak_bytes{0};  // of live_bytes; a test may set it back
};
extern CountedHeap counted_heap;

// Of the calling thread.
uint64_t AllocationsOfThread();

}  // namespace reprise::storage
