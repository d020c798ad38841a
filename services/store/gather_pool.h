// A bounded region out of which buffers are cut, in which scattered ranges are gathered before they
// are sent.
//
// One mapping, so that a carrier registers it once. Thread-safe; never blocks. Half of the region
// is for whoever asks: a session may hold as much of it as is still free then (Choudhury and Hahne,
// "Dynamic Queue Length Thresholds for Shared-Memory Packet Switches", 1998). The other half is
// handed out in kLeastBytes, once to a session: so readers that stop, which keep what they have,
// leave the others room. Where there is none the caller sends the ranges one by one instead.
#pragma once

#include <cstddef>
#include <memory>

#include "absl/container/flat_hash_map.h"

#include "common/buddy_allocator.h"
#include "common/bytes.h"
#include "common/limits.h"
#include "common/mapped_region.h"
#include "common/mutex.h"
#include "common/status.h"
#include "services/store/fair_queue.h"

namespace reprise::store {

class GatherPool : public std::enable_shared_from_this<GatherPool> {
 public:
  // Nobody gets less, unless they ask for less.
  static constexpr size_t kLeastBytes = 256 * kKiB;

  // A region of `bytes`, a multiple of kMaxPartBytes. RESOURCE_EXHAUSTED when it cannot be mapped.
  static absl::StatusOr<std::shared_ptr<GatherPool>> Create(size_t bytes);

  // A buffer that returns to the pool when its last owner goes.
  class Buffer {
   public:
    Buffer(std::shared_ptr<GatherPool> pool, SessionName session, MutableByteSpan bytes)
        : pool_(std::move(pool)), session_(session), bytes_(bytes) {}
    ~Buffer() { pool_->GiveBack(session_, bytes_); }
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;
    MutableByteSpan bytes() const { return bytes_; }

   private:
    const std::shared_ptr<GatherPool> pool_;
    const SessionName session_;
    const MutableByteSpan bytes_;
  };
  // Of `wanted_bytes` (1 to kMaxPartBytes), or fewer but kLeastBytes; nullptr when `session` holds
  // its share or no room is left.
  std::shared_ptr<Buffer> TryTake(SessionName session, size_t wanted_bytes)
      ABSL_LOCKS_EXCLUDED(mutex_);

  size_t free_bytes() const ABSL_LOCKS_EXCLUDED(mutex_);
  // All of it, for registration.
  MutableByteSpan memory() const { return region_->bytes(); }

 private:
  GatherPool(std::unique_ptr<MappedRegion> region, size_t bytes)
      : region_(std::move(region)), bytes_(bytes), blocks_(bytes) {}
  // Whether a session that holds `held_bytes` may have `more_bytes`.
  bool Allows(size_t held_bytes, size_t more_bytes) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void GiveBack(SessionName session, MutableByteSpan bytes) ABSL_LOCKS_EXCLUDED(mutex_);

  const std::unique_ptr<MappedRegion> region_;
  const size_t bytes_;  // of it; huge pages may have made it longer
  mutable Mutex mutex_;
  BuddyAllocator blocks_ ABSL_GUARDED_BY(mutex_);
  // Of the sessions that hold any, by the name they had; a later session may get the same one.
  absl::flat_hash_map<SessionName, size_t> held_bytes_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace reprise::store
