#include "storage/testing/counted_heap.h"

#include <cstdlib>
#include <new>

#include <malloc.h>

namespace reprise::storage {

CountedHeap counted_heap;

namespace {

thread_local uint64_t allocations_of_thread = 0;

void* Counted(void* block) {
  if (block == nullptr) std::abort();
  ++allocations_of_thread;
  ++counted_heap.allocations;
  const uint64_t live = counted_heap.live_bytes += malloc_usable_size(block);
  uint64_t peak = counted_heap.peak_bytes;
  while (live > peak && !counted_heap.peak_bytes.compare_exchange_weak(peak, live)) {
  }
  return block;
}

void* New(size_t size) { return Counted(std::malloc(size)); }

void* NewAligned(size_t size, std::align_val_t alignment) {
  const auto to = static_cast<size_t>(alignment);
  return Counted(std::aligned_alloc(to, (size + to - 1) / to * to));
}

void Delete(void* block) {
  if (block == nullptr) return;
  counted_heap.live_bytes -= malloc_usable_size(block);
  std::free(block);
}

}  // namespace

uint64_t AllocationsOfThread() { return allocations_of_thread; }

}  // namespace reprise::storage

using reprise::storage::Delete;
using reprise::storage::New;
using reprise::storage::NewAligned;

void* operator new(size_t size) { return New(size); }
void* operator new[](size_t size) { return New(size); }
void* operator new(size_t size, const std::nothrow_t& /*tag*/) noexcept { return New(size); }
void* operator new[](size_t size, const std::nothrow_t& /*tag*/) noexcept { return New(size); }
void* operator new(size_t size, std::align_val_t to) { return NewAligned(size, to); }
void* operator new[](size_t size, std::align_val_t to) { return NewAligned(size, to); }
void operator delete(void* block) noexcept { Delete(block); }
void operator delete[](void* block) noexcept { Delete(block); }
void operator delete(void* block, size_t) noexcept { Delete(block); }
void operator delete[](void* block, size_t) noexcept { Delete(block); }
void operator delete(void* block, std::align_val_t) noexcept { Delete(block); }
void operator delete[](void* block, std::align_val_t) noexcept { Delete(block); }
void operator delete(void* block, size_t, std::align_val_t) noexcept { Delete(block); }
void operator delete[](void* block, size_t, std::align_val_t) noexcept { Delete(block); }
