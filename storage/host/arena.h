// The memory that the host tier keeps pieces in: one mapped region, cut into extents.
//
// One region, because carriers register memory once and cheaply only when it is large; huge pages
// where the machine gives them. Extents are RAII: dropping one, on any thread, makes its bytes free
// at once. Thread-safe.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "common/bytes.h"
#include "common/mapped_region.h"
#include "common/mutex.h"
#include "common/status.h"
#include "storage/host/extent_allocator.h"

namespace reprise::storage {

class Arena;

// A part of an arena, which must outlive it. Its bytes are the owner's alone, and start as whatever
// was there before.
class Extent {
 public:
  ~Extent();
  Extent(Extent&& other) noexcept;
  Extent& operator=(Extent&& other) noexcept;

  uint64_t offset() const { return offset_; }
  // As asked for; occupied_bytes() is what it takes from the arena.
  uint64_t size_bytes() const { return size_bytes_; }
  uint64_t occupied_bytes() const { return ExtentAllocator::OccupiedBytes(size_bytes_); }
  MutableByteSpan bytes() const;
  // From an address and to a length that are multiples of the granularity: all that it takes.
  MutableByteSpan occupied() const;

  // Gives back the tail. 0 < size_bytes <= size_bytes().
  void Shrink(uint64_t size_bytes);

 private:
  friend class Arena;
  Extent(Arena* arena, uint64_t offset, uint64_t size_bytes)
      : arena_(arena), offset_(offset), size_bytes_(size_bytes) {}

  Arena* arena_;
  uint64_t offset_;
  uint64_t size_bytes_;
};

class Arena {
 public:
  // Maps `capacity_bytes`, rounded down to whole extents, and logs which pages it got.
  // INVALID_ARGUMENT when that leaves nothing; RESOURCE_EXHAUSTED when the kernel refuses.
  static absl::StatusOr<std::unique_ptr<Arena>> Create(uint64_t capacity_bytes);

  // nullopt when no run of free bytes is long enough. `size_bytes` > 0.
  std::optional<Extent> Allocate(uint64_t size_bytes) ABSL_LOCKS_EXCLUDED(mutex_);

  MutableByteSpan bytes() const { return bytes_; }
  uint64_t capacity_bytes() const { return bytes_.size(); }
  PageKind page_kind() const { return region_->page_kind(); }
  uint64_t used_bytes() const ABSL_LOCKS_EXCLUDED(mutex_);
  uint64_t largest_free_bytes() const ABSL_LOCKS_EXCLUDED(mutex_);

  // What the bookkeeping of free space takes at most for each extent in use.
  static constexpr uint64_t kBookkeepingBytesPerExtent = 3 * 2 * 2 * sizeof(uint64_t);

 private:
  friend class Extent;
  Arena(std::unique_ptr<MappedRegion> region, uint64_t capacity_bytes);

  void Free(uint64_t offset, uint64_t size_bytes) ABSL_LOCKS_EXCLUDED(mutex_);
  void Shrink(uint64_t offset, uint64_t size_bytes, uint64_t new_size_bytes)
      ABSL_LOCKS_EXCLUDED(mutex_);

  const std::unique_ptr<MappedRegion> region_;
  const MutableByteSpan bytes_;
  mutable Mutex mutex_;
  ExtentAllocator allocator_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace reprise::storage
