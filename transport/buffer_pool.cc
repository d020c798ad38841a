#include "transport/buffer_pool.h"

#include <algorithm>
#include <bit>
#include <new>

namespace reprise::transport {
namespace {

constexpr std::align_val_t kAlignment{4 * kKiB};

}  // namespace

std::shared_ptr<BufferPool> BufferPool::Create(size_t keep_bytes) {
  return std::shared_ptr<BufferPool>(new BufferPool(keep_bytes));
}

BufferPool::~BufferPool() {
  for (std::vector<std::byte*>& buffers : unused_) {
    for (std::byte* memory : buffers) ::operator delete(memory, kAlignment);
  }
}

BufferPool::Buffer BufferPool::Take(size_t size) {
  const size_t capacity = std::bit_ceil(std::max(size, kSmallest));
  const size_t index = static_cast<size_t>(std::countr_zero(capacity / kSmallest));
  std::byte* memory = nullptr;
  {
    MutexLock lock(mutex_);
    std::vector<std::byte*>& buffers = unused_.at(index);
    bytes_out_ += capacity;
    if (!buffers.empty()) {
      memory = buffers.back();
      buffers.pop_back();
      bytes_kept_ -= capacity;
    }
  }
  if (memory == nullptr) memory = static_cast<std::byte*>(::operator new(capacity, kAlignment));
  return Buffer{MutableByteSpan(memory, size),
                std::shared_ptr<void>(memory, [pool = shared_from_this(), memory, index](void*) {
                  pool->Return(memory, index);
                })};
}

void BufferPool::Return(std::byte* memory, size_t index) {
  const size_t capacity = kSmallest << index;
  {
    MutexLock lock(mutex_);
    bytes_out_ -= capacity;
    if (bytes_kept_ + capacity <= keep_bytes_) {
      bytes_kept_ += capacity;
      unused_.at(index).push_back(memory);
      return;
    }
  }
  ::operator delete(memory, kAlignment);
}

size_t BufferPool::bytes_out() const {
  MutexLock lock(mutex_);
  return bytes_out_;
}

size_t BufferPool::bytes_kept() const {
  MutexLock lock(mutex_);
  return bytes_kept_;
}

}  // namespace reprise::transport
