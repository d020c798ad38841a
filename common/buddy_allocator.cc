#include "common/buddy_allocator.h"

#include <algorithm>
#include <bit>

namespace reprise {

BuddyAllocator::BuddyAllocator(size_t region_bytes) : nodes_(region_bytes / kMinBlock) {
  heads_.fill(kNone);
  // Backwards, so that the first block taken is the region's first.
  for (size_t end = region_bytes; end >= kMaxBlock; end -= kMaxBlock) {
    Push(static_cast<uint32_t>((end - kMaxBlock) / kMinBlock), kOrders - 1);
  }
}

size_t BuddyAllocator::BlockBytes(size_t size) { return std::bit_ceil(std::max(size, kMinBlock)); }

size_t BuddyAllocator::OrderOf(size_t size) {
  return static_cast<size_t>(std::countr_zero(BlockBytes(size) / kMinBlock));
}

void BuddyAllocator::Push(uint32_t index, size_t order) {
  const uint32_t next = heads_.at(order);
  nodes_[index] =
      Node{.next = next, .previous = kNone, .free = true, .order = static_cast<uint8_t>(order)};
  if (next != kNone) nodes_[next].previous = index;
  heads_.at(order) = index;
  free_bytes_ += kMinBlock << order;
}

void BuddyAllocator::Remove(uint32_t index) {
  Node& node = nodes_[index];
  (node.previous == kNone ? heads_.at(node.order) : nodes_[node.previous].next) = node.next;
  if (node.next != kNone) nodes_[node.next].previous = node.previous;
  node.free = false;
  free_bytes_ -= kMinBlock << node.order;
}

std::optional<size_t> BuddyAllocator::Take(size_t size) {
  const size_t wanted = OrderOf(size);
  size_t order = wanted;
  while (order < kOrders && heads_.at(order) == kNone) ++order;
  if (order == kOrders) return std::nullopt;
  const uint32_t index = heads_.at(order);
  Remove(index);
  while (order > wanted) {
    --order;
    Push(index + (1u << order), order);
  }
  return index * kMinBlock;
}

void BuddyAllocator::Free(size_t offset, size_t size) {
  auto index = static_cast<uint32_t>(offset / kMinBlock);
  size_t order = OrderOf(size);
  while (order + 1 < kOrders) {
    const uint32_t buddy = index ^ (1u << order);
    if (!nodes_[buddy].free || nodes_[buddy].order != order) break;
    Remove(buddy);
    index = std::min(index, buddy);
    ++order;
  }
  Push(index, order);
}

}  // namespace reprise
