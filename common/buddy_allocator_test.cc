#include "common/buddy_allocator.h"

#include <map>
#include <optional>
#include <random>

#include <gtest/gtest.h>

#include "common/limits.h"

namespace reprise {
namespace {

TEST(BuddyAllocatorTest, BlocksNeverOverlapAndAllComeBack) {
  constexpr size_t kRegion = 4 * kMaxPartBytes;
  BuddyAllocator blocks(kRegion);
  EXPECT_EQ(blocks.free_bytes(), kRegion);
  std::map<size_t, size_t> taken;  // offset to size
  size_t taken_bytes = 0;
  std::mt19937 random(5);
  for (int i = 0; i < 100'000; ++i) {
    if (random() % 2 == 0) {
      const size_t size = 1 + random() % (size_t{1} << (random() % 24));
      if (size > kMaxPartBytes) continue;
      const std::optional<size_t> offset = blocks.Take(size);
      if (!offset.has_value()) continue;
      ASSERT_LE(*offset + BuddyAllocator::BlockBytes(size), kRegion);
      const auto after = taken.lower_bound(*offset);
      if (after != taken.end()) {
        ASSERT_GE(after->first, *offset + BuddyAllocator::BlockBytes(size));
      }
      if (after != taken.begin()) {
        const auto before = std::prev(after);
        ASSERT_LE(before->first + BuddyAllocator::BlockBytes(before->second), *offset);
      }
      taken.emplace(*offset, size);
      taken_bytes += BuddyAllocator::BlockBytes(size);
    } else if (!taken.empty()) {
      auto one = taken.lower_bound(random() % kRegion);
      if (one == taken.end()) one = taken.begin();
      blocks.Free(one->first, one->second);
      taken_bytes -= BuddyAllocator::BlockBytes(one->second);
      taken.erase(one);
    }
    ASSERT_EQ(blocks.free_bytes(), kRegion - taken_bytes);
  }
  for (const auto& [offset, size] : taken) blocks.Free(offset, size);
  // Everything has joined again.
  for (size_t i = 0; i < 4; ++i) EXPECT_TRUE(blocks.Take(kMaxPartBytes).has_value());
  EXPECT_FALSE(blocks.Take(1).has_value());
}

TEST(BuddyAllocatorTest, SmallBlocksDoNotSpreadOverTheRegion) {
  BuddyAllocator blocks(2 * kMaxPartBytes);
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(blocks.Take(1000).has_value());
  EXPECT_EQ(blocks.free_bytes(), 2 * kMaxPartBytes - 100 * BuddyAllocator::kMinBlock);
  EXPECT_TRUE(blocks.Take(kMaxPartBytes).has_value());
}

}  // namespace
}  // namespace reprise
