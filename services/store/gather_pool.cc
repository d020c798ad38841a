#include "services/store/gather_pool.h"

#include <utility>

#include "common/limits.h"

namespace reprise::store {

absl::StatusOr<std::shared_ptr<GatherPool>> GatherPool::Create(size_t buffers) {
  REPRISE_ASSIGN_OR_RETURN(std::unique_ptr<MappedRegion> region,
                           MappedRegion::Create(buffers * kMaxPartBytes));
  std::shared_ptr<GatherPool> pool(new GatherPool(std::move(region)));
  MutexLock lock(pool->mutex_);
  for (size_t i = 0; i < buffers; ++i) {
    pool->free_.push_back(pool->region_->bytes().subspan(i * kMaxPartBytes, kMaxPartBytes));
  }
  return pool;
}

GatherPool::Buffer::~Buffer() {
  MutexLock lock(pool_->mutex_);
  pool_->free_.push_back(bytes_);
}

std::shared_ptr<GatherPool::Buffer> GatherPool::TryTake() {
  MutableByteSpan bytes;
  {
    MutexLock lock(mutex_);
    if (free_.empty()) return nullptr;
    bytes = free_.back();
    free_.pop_back();
  }
  return std::make_shared<Buffer>(shared_from_this(), bytes);
}

size_t GatherPool::free() const {
  MutexLock lock(mutex_);
  return free_.size();
}

}  // namespace reprise::store
