#include "services/store/gather_pool.h"

#include <gtest/gtest.h>

#include "common/limits.h"

namespace reprise::store {
namespace {

TEST(GatherPool, HandsOutItsBuffersAndTakesThemBack) {
  std::shared_ptr<GatherPool> pool = GatherPool::Create(2).value();
  EXPECT_GE(pool->memory().size(), 2 * kMaxPartBytes);
  auto first = pool->TryTake();
  auto second = pool->TryTake();
  ASSERT_NE(first, nullptr);
  ASSERT_NE(second, nullptr);
  EXPECT_EQ(first->bytes().size(), kMaxPartBytes);
  EXPECT_NE(first->bytes().data(), second->bytes().data());
  EXPECT_EQ(pool->TryTake(), nullptr);
  const std::byte* freed = second->bytes().data();
  second.reset();
  EXPECT_EQ(pool->free(), 1u);
  second = pool->TryTake();
  ASSERT_NE(second, nullptr);
  EXPECT_EQ(second->bytes().data(), freed);
}

TEST(GatherPool, ABufferKeepsThePoolAlive) {
  std::shared_ptr<GatherPool> pool = GatherPool::Create(1).value();
  auto buffer = pool->TryTake();
  pool.reset();
  buffer->bytes().back() = std::byte{7};
  EXPECT_EQ(buffer->bytes().back(), std::byte{7});
}

}  // namespace
}  // namespace reprise::store
