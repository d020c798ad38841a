#include "services/store/gather_pool.h"

#include <algorithm>
#include <optional>
#include <utility>

namespace reprise::store {

absl::StatusOr<std::shared_ptr<GatherPool>> GatherPool::Create(size_t bytes) {
  REPRISE_ASSIGN_OR_RETURN(std::unique_ptr<MappedRegion> region, MappedRegion::Create(bytes));
  return std::shared_ptr<GatherPool>(new GatherPool(std::move(region), bytes));
}

bool GatherPool::Allows(size_t held_bytes, size_t more_bytes) const {
  const size_t free = blocks_.free_bytes();
  if (more_bytes > free) return false;
  if (held_bytes == 0 && more_bytes <= kLeastBytes) return true;
  const size_t left = free - more_bytes;
  return left >= bytes_ / 2 && held_bytes + more_bytes <= left;
}

std::shared_ptr<GatherPool::Buffer> GatherPool::TryTake(SessionName session, size_t wanted_bytes) {
  MutableByteSpan bytes;
  {
    MutexLock lock(mutex_);
    const auto found = held_bytes_.find(session);
    const size_t held = found == held_bytes_.end() ? 0 : found->second;
    size_t size = BuddyAllocator::BlockBytes(wanted_bytes);
    std::optional<size_t> offset;
    while (true) {
      if (Allows(held, size)) offset = blocks_.Take(size);
      if (offset.has_value() || size <= kLeastBytes) break;
      size = std::max(size / 2, kLeastBytes);
    }
    if (!offset.has_value()) return nullptr;
    held_bytes_[session] = held + size;
    bytes = region_->bytes().subspan(*offset, size);
  }
  return std::make_shared<Buffer>(shared_from_this(), session, bytes);
}

void GatherPool::GiveBack(SessionName session, MutableByteSpan bytes) {
  MutexLock lock(mutex_);
  blocks_.Free(static_cast<size_t>(bytes.data() - region_->bytes().data()), bytes.size());
  const auto found = held_bytes_.find(session);
  found->second -= bytes.size();
  if (found->second == 0) held_bytes_.erase(found);
}

size_t GatherPool::free_bytes() const {
  MutexLock lock(mutex_);
  return blocks_.free_bytes();
}

}  // namespace reprise::store
