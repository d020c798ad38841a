#include "transport/ucx/slot_pool.h"

#include <optional>

#include "absl/strings/str_cat.h"

#include "common/limits.h"

namespace reprise::transport {

// Gives a shared_ptr the slot's own memory for its control block, and learns from the deallocation
// that neither bytes nor control block are in use any more.
template <typename T>
struct SlotPool::ControlBlockAllocator {
  using value_type = T;

  ControlBlockAllocator(std::shared_ptr<SlotPool> pool_in, const Dropped& dropped_in)
      : pool(std::move(pool_in)), dropped(dropped_in) {}
  template <typename U>
  ControlBlockAllocator(const ControlBlockAllocator<U>& other)  // NOLINT: allocators convert
      : pool(other.pool), dropped(other.dropped) {}

  T* allocate(size_t count) {
    static_assert(sizeof(T) <= sizeof(Slot::control_block));
    static_assert(alignof(T) <= alignof(std::max_align_t));
    static_cast<void>(count);
    return reinterpret_cast<T*>(dropped.slot->control_block.data());
  }
  void deallocate(T*, size_t) { pool->OnDropped(dropped); }

  friend bool operator==(const ControlBlockAllocator& a, const ControlBlockAllocator& b) {
    return a.dropped.slot == b.dropped.slot;
  }

  std::shared_ptr<SlotPool> pool;
  Dropped dropped;
};

absl::StatusOr<std::shared_ptr<SlotPool>> SlotPool::Create(std::shared_ptr<UcxContext> context,
                                                           size_t bytes) {
  if (bytes % kMaxPartBytes != 0 || bytes < 2 * kMaxPartBytes) {
    return absl::InvalidArgumentError(absl::StrCat("receive_bytes is ", bytes,
                                                   "; it must be a multiple of ", kMaxPartBytes,
                                                   " and at least twice that"));
  }
  REPRISE_ASSIGN_OR_RETURN(std::unique_ptr<MappedRegion> region,
                           MappedRegion::Create(bytes, PageKind::kHugeTransparent));
  REPRISE_ASSIGN_OR_RETURN(
      std::shared_ptr<const UcxMemory> memory,
      UcxMemory::Map(std::move(context), region->bytes(), UcxMemory::Access::kReceive));
  return std::shared_ptr<SlotPool>(new SlotPool(std::move(region), std::move(memory)));
}

SlotPool::SlotPool(std::unique_ptr<MappedRegion> region, std::shared_ptr<const UcxMemory> memory)
    : region_(std::move(region)), memory_(std::move(memory)), blocks_(region_->size()) {}

void SlotPool::Attach(IoLoop* loop, std::shared_ptr<LoopTask> woken) {
  MutexLock lock(mutex_);
  loop_ = loop;
  woken_ = std::move(woken);
}

Slot* SlotPool::TryTake(size_t size) {
  const std::optional<size_t> offset = blocks_.Take(size);
  if (!offset.has_value()) return nullptr;
  if (unused_slots_.empty()) {
    slots_.push_back(std::make_unique<Slot>());
    unused_slots_.push_back(slots_.back().get());
  }
  Slot* slot = unused_slots_.back();
  unused_slots_.pop_back();
  slot->offset = *offset;
  slot->bytes = region_->bytes().subspan(*offset, size);
  return slot;
}

void SlotPool::GiveBack(Slot* slot) {
  blocks_.Free(slot->offset, slot->bytes.size());
  slot->endpoint = nullptr;
  slot->message.clear();
  unused_slots_.push_back(slot);
}

SharedBytes SlotPool::HandOver(Slot* slot, uint64_t endpoint_id, uint64_t call_id) {
  const ByteSpan bytes = slot->bytes;
  const Dropped dropped{slot, {endpoint_id, call_id, bytes.size()}};
  std::shared_ptr<const std::byte> owner(
      bytes.data(), [](const std::byte*) {},
      ControlBlockAllocator<std::byte>(shared_from_this(), dropped));
  return SharedBytes(bytes, std::move(owner));
}

void SlotPool::OnDropped(const Dropped& dropped) {
  MutexLock lock(mutex_);
  dropped_.push_back(dropped);
  if (loop_ != nullptr) loop_->Schedule(woken_);
}

void SlotPool::Reclaim(std::vector<Released>& released) {
  released.clear();
  MutexLock lock(mutex_);
  for (const Dropped& dropped : dropped_) {
    GiveBack(dropped.slot);
    released.push_back(dropped.released);
  }
  dropped_.clear();
}

}  // namespace reprise::transport
