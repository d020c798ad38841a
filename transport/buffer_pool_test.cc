#include "transport/buffer_pool.h"

#include <cstring>
#include <thread>

#include "gtest/gtest.h"

namespace reprise::transport {
namespace {

TEST(BufferPoolTest, ReusesWhatWasReturned) {
  auto pool = BufferPool::Create(kMiB);
  BufferPool::Buffer buffer = pool->Take(5'000);
  ASSERT_EQ(buffer.bytes.size(), 5'000u);
  EXPECT_EQ(pool->bytes_out(), 8 * kKiB);
  const std::byte* memory = buffer.bytes.data();
  EXPECT_EQ(reinterpret_cast<uintptr_t>(memory) % (4 * kKiB), 0u);
  buffer.owner.reset();
  EXPECT_EQ(pool->bytes_out(), 0u);
  EXPECT_EQ(pool->bytes_kept(), 8 * kKiB);
  EXPECT_EQ(pool->Take(8 * kKiB).bytes.data(), memory);
}

TEST(BufferPoolTest, KeepsNoMoreThanItsBound) {
  auto pool = BufferPool::Create(3 * kMiB);
  std::vector<BufferPool::Buffer> buffers;
  for (int i = 0; i < 10; ++i) {
    buffers.push_back(pool->Take(kMiB));
    std::memset(buffers.back().bytes.data(), i, kMiB);
  }
  EXPECT_EQ(pool->bytes_out(), 10 * kMiB);
  buffers.clear();
  EXPECT_EQ(pool->bytes_out(), 0u);
  EXPECT_EQ(pool->bytes_kept(), 3 * kMiB);
}

TEST(BufferPoolTest, TakesTheSmallestAndTheLargest) {
  auto pool = BufferPool::Create(0);
  for (size_t size : {size_t{1}, 4 * kKiB, 4 * kKiB + 1, kMaxPartBytes - 1, kMaxPartBytes}) {
    BufferPool::Buffer buffer = pool->Take(size);
    ASSERT_EQ(buffer.bytes.size(), size);
    std::memset(buffer.bytes.data(), 1, size);
  }
  EXPECT_EQ(pool->bytes_kept(), 0u);
}

TEST(BufferPoolTest, BufferOutlivesItsPool) {
  auto pool = BufferPool::Create(kMiB);
  BufferPool::Buffer buffer = pool->Take(100);
  pool.reset();
  std::memset(buffer.bytes.data(), 1, buffer.bytes.size());
}

TEST(BufferPoolTest, ManyThreads) {
  auto pool = BufferPool::Create(kMiB);
  std::vector<std::thread> threads;
  threads.reserve(4);
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&pool, t] {
      for (size_t i = 1; i < 500; ++i) {
        BufferPool::Buffer buffer = pool->Take(i * 97);
        std::memset(buffer.bytes.data(), t, buffer.bytes.size());
        EXPECT_EQ(buffer.bytes[i * 97 - 1], static_cast<std::byte>(t));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(pool->bytes_out(), 0u);
}

}  // namespace
}  // namespace reprise::transport
