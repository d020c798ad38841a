// A bounded set of part-sized buffers in which scattered ranges are gathered before they are sent.
//
// One mapping, so that a carrier registers it once. Thread-safe; never blocks: when every buffer is
// on its way to some reader, the caller sends the ranges one by one instead, so a slow reader
// cannot stop the others.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "common/bytes.h"
#include "common/mapped_region.h"
#include "common/mutex.h"
#include "common/status.h"

namespace reprise::store {

class GatherPool : public std::enable_shared_from_this<GatherPool> {
 public:
  // `buffers` of kMaxPartBytes each. RESOURCE_EXHAUSTED when the memory cannot be mapped.
  static absl::StatusOr<std::shared_ptr<GatherPool>> Create(size_t buffers);

  // A buffer that returns to the pool when its last owner goes.
  class Buffer {
   public:
    Buffer(std::shared_ptr<GatherPool> pool, MutableByteSpan bytes)
        : pool_(std::move(pool)), bytes_(bytes) {}
    ~Buffer();
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;
    MutableByteSpan bytes() const { return bytes_; }

   private:
    const std::shared_ptr<GatherPool> pool_;
    const MutableByteSpan bytes_;
  };
  // nullptr when none is free.
  std::shared_ptr<Buffer> TryTake() ABSL_LOCKS_EXCLUDED(mutex_);

  size_t free() const ABSL_LOCKS_EXCLUDED(mutex_);
  // All of them, for registration.
  MutableByteSpan memory() const { return region_->bytes(); }

 private:
  explicit GatherPool(std::unique_ptr<MappedRegion> region) : region_(std::move(region)) {}

  const std::unique_ptr<MappedRegion> region_;
  mutable Mutex mutex_;
  std::vector<MutableByteSpan> free_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace reprise::store
