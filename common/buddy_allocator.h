// Divides a region into blocks of powers of two, from kMinBlock to kMaxBlock bytes.
//
// So that a small part takes little of the receive memory, which is registered once as a whole.
// Knuth's buddy system (The Art of Computer Programming, volume 1, 2.5): a block is split in two
// halves, and halves that are both free join again. Taking and freeing take at most one step for
// each size, and allocate nothing. Not thread-safe; deals in offsets, touches no memory of the
// region's.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "common/limits.h"

namespace reprise {

class BuddyAllocator {
 public:
  static constexpr size_t kMinBlock = 4 * kKiB;
  static constexpr size_t kMaxBlock = kMaxPartBytes;

  // `region_bytes` is a multiple of kMaxBlock.
  explicit BuddyAllocator(size_t region_bytes);

  // The offset of a block of at least `size` bytes (1 to kMaxBlock), the one freed last if several
  // fit equally well; nullopt when none is free.
  std::optional<size_t> Take(size_t size);
  // `offset` came from Take(`size`) and has not been freed since.
  void Free(size_t offset, size_t size);

  // What Take(`size`) takes away.
  static size_t BlockBytes(size_t size);
  size_t free_bytes() const { return free_bytes_; }

 private:
  static constexpr uint32_t kNone = UINT32_MAX;
  static constexpr size_t kOrders = 12;
  static_assert(kMinBlock << (kOrders - 1) == kMaxBlock);

  // About the block that begins at this kMinBlock of the region, if it is free.
  struct Node {
    uint32_t next = kNone;
    uint32_t previous = kNone;
    bool free = false;
    uint8_t order = 0;
  };

  static size_t OrderOf(size_t size);
  void Push(uint32_t index, size_t order);
  void Remove(uint32_t index);

  std::vector<Node> nodes_;
  std::array<uint32_t, kOrders> heads_;
  size_t free_bytes_ = 0;
};

}  // namespace reprise
