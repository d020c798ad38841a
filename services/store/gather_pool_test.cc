#include "services/store/gather_pool.h"

#include <array>
#include <vector>

#include <gtest/gtest.h>

#include "common/limits.h"

namespace reprise::store {
namespace {

constexpr std::array<char, 64> kNames{};
SessionName Session(size_t i) { return &kNames[i]; }

using Buffers = std::vector<std::shared_ptr<GatherPool::Buffer>>;

TEST(GatherPool, ABufferReturnsWithItsLastOwner) {
  std::shared_ptr<GatherPool> pool = GatherPool::Create(2 * kMaxPartBytes).value();
  EXPECT_GE(pool->memory().size(), 2 * kMaxPartBytes);
  auto buffer = pool->TryTake(Session(0), 3 * kMiB);
  ASSERT_NE(buffer, nullptr);
  EXPECT_GE(buffer->bytes().size(), 3 * kMiB);
  EXPECT_EQ(pool->free_bytes(), 12 * kMiB) << "a block of 4 MiB is gone";
  buffer.reset();
  EXPECT_EQ(pool->free_bytes(), 16 * kMiB);
}

TEST(GatherPool, ABufferKeepsThePoolAlive) {
  std::shared_ptr<GatherPool> pool = GatherPool::Create(kMaxPartBytes).value();
  auto buffer = pool->TryTake(Session(0), 100);
  pool.reset();
  buffer->bytes().back() = std::byte{7};
  EXPECT_EQ(buffer->bytes().back(), std::byte{7});
}

TEST(GatherPool, OneSessionAloneGetsHalf) {
  std::shared_ptr<GatherPool> pool = GatherPool::Create(4 * kMaxPartBytes).value();
  Buffers held;
  while (auto buffer = pool->TryTake(Session(0), kMaxPartBytes)) held.push_back(buffer);
  EXPECT_EQ(pool->free_bytes(), 2 * kMaxPartBytes);
}

// Readers that stop keep what they hold, and their requests under way ask for more.
TEST(GatherPool, SixteenThatStopLeaveTheOthersRoom) {
  std::shared_ptr<GatherPool> pool = GatherPool::Create(4 * kMaxPartBytes).value();
  Buffers stopped;
  for (size_t round = 0; round < 3; ++round) {
    for (size_t i = 0; i < 16; ++i) {
      if (auto buffer = pool->TryTake(Session(i), kMaxPartBytes)) stopped.push_back(buffer);
    }
  }
  EXPECT_GE(pool->free_bytes(), 2 * kMaxPartBytes - 16 * GatherPool::kLeastBytes);
  Buffers others;
  for (size_t i = 16; i < 64; ++i) {
    others.push_back(pool->TryTake(Session(i), kMaxPartBytes));
    ASSERT_NE(others.back(), nullptr) << i;
  }
}

TEST(GatherPool, AFullPoolHasNothing) {
  std::shared_ptr<GatherPool> pool = GatherPool::Create(kMaxPartBytes).value();
  Buffers held;
  for (size_t i = 0; i < 32; ++i) {
    held.push_back(pool->TryTake(Session(i), GatherPool::kLeastBytes));
    ASSERT_NE(held.back(), nullptr) << i;
  }
  EXPECT_EQ(pool->free_bytes(), 0u);
  EXPECT_EQ(pool->TryTake(Session(32), 1), nullptr);
}

}  // namespace
}  // namespace reprise::store
