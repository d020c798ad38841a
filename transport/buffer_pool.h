// Reuse of the buffers that received bulk lands in.
//
// Fresh megabytes from the system cost a page fault for every 4 KiB, more than copying into them. A
// pool keeps freed buffers, by powers of two, up to a bound. Thread-safe; a buffer may outlive
// every other reference to its pool.
#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <vector>

#include "common/bytes.h"
#include "common/limits.h"
#include "common/mutex.h"

namespace reprise::transport {

class BufferPool : public std::enable_shared_from_this<BufferPool> {
 public:
  struct Buffer {
    MutableByteSpan bytes;
    // Dropping the last copy returns the buffer.
    std::shared_ptr<void> owner;
  };

  // At most `keep_bytes` of unused buffers are kept.
  static std::shared_ptr<BufferPool> Create(size_t keep_bytes);
  ~BufferPool();
  BufferPool(const BufferPool&) = delete;
  BufferPool& operator=(const BufferPool&) = delete;

  // A buffer of `size` uninitialized bytes, 1 to kMaxPartBytes (checked by the caller), at a 4 KiB
  // boundary.
  Buffer Take(size_t size) ABSL_LOCKS_EXCLUDED(mutex_);

  // Capacity of the buffers handed out and not returned, and of the unused ones kept.
  size_t bytes_out() const ABSL_LOCKS_EXCLUDED(mutex_);
  size_t bytes_kept() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  // Classes of 4 KiB << index.
  static constexpr size_t kClasses = 12;
  static constexpr size_t kSmallest = 4 * kKiB;
  static_assert(kSmallest << (kClasses - 1) >= kMaxPartBytes);

  explicit BufferPool(size_t keep_bytes) : keep_bytes_(keep_bytes) {}
  void Return(std::byte* memory, size_t index) ABSL_LOCKS_EXCLUDED(mutex_);

  const size_t keep_bytes_;
  mutable Mutex mutex_;
  std::array<std::vector<std::byte*>, kClasses> unused_ ABSL_GUARDED_BY(mutex_);
  size_t bytes_out_ ABSL_GUARDED_BY(mutex_) = 0;
  size_t bytes_kept_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace reprise::transport
