#include "storage/host/arena.h"

#include <algorithm>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/limits.h"
#include "storage/host/byte_budget.h"

namespace reprise::storage {
namespace {

TEST(Arena, GivesExtentsBackWhenTheyGo) {
  auto arena = Arena::Create(1 * kMiB);
  ASSERT_TRUE(arena.ok()) << arena.status();
  {
    std::optional<Extent> first = (*arena)->Allocate(300'000);
    std::optional<Extent> second = (*arena)->Allocate(5000);
    ASSERT_TRUE(first.has_value() && second.has_value());
    EXPECT_EQ(first->bytes().size(), 300'000u);
    EXPECT_EQ(first->occupied_bytes(), 74u * 4096);  // 300,000 / 4,096 = 73.2
    EXPECT_EQ((*arena)->used_bytes(), 76u * 4096);
    EXPECT_GE(first->bytes().data(), (*arena)->bytes().data());
    Extent moved = std::move(*first);
    first.reset();
    EXPECT_EQ((*arena)->used_bytes(), 76u * 4096);
    moved.Shrink(4096);
    EXPECT_EQ(moved.bytes().size(), 4096u);
    EXPECT_EQ((*arena)->used_bytes(), 3u * 4096);
    EXPECT_FALSE((*arena)->Allocate(1 * kMiB).has_value());
  }
  EXPECT_EQ((*arena)->used_bytes(), 0u);
  EXPECT_EQ((*arena)->largest_free_bytes(), 1 * kMiB);
}

TEST(Arena, RefusesSizesThatMakeNoSense) {
  EXPECT_EQ(Arena::Create(4095).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Arena::Create(uint64_t{1} << 60).status().code(), absl::StatusCode::kResourceExhausted);
}

TEST(Arena, LargeArenasAreWholeHugePages) {
  auto arena = Arena::Create(65 * kMiB);
  ASSERT_TRUE(arena.ok()) << arena.status();
  EXPECT_EQ((*arena)->capacity_bytes(), 64 * kMiB);
  EXPECT_EQ(reinterpret_cast<uintptr_t>((*arena)->bytes().data()) % 4096, 0u);
}

TEST(Arena, ExtentsOfSeveralThreadsNeverOverlap) {
  auto arena = Arena::Create(1 * kMiB);
  ASSERT_TRUE(arena.ok()) << arena.status();
  std::atomic<int> overlaps{0};
  std::vector<std::thread> threads;
  for (uint8_t id = 1; id <= 4; ++id) {
    threads.emplace_back([&arena, &overlaps, id] {
      for (size_t i = 0; i < 2000; ++i) {
        std::optional<Extent> extent = (*arena)->Allocate(1 + (i * 37) % 60'000);
        if (!extent.has_value()) continue;
        const MutableByteSpan bytes = extent->bytes();
        std::ranges::fill(bytes, std::byte{id});
        if (!std::ranges::all_of(bytes, [id](std::byte b) { return b == std::byte{id}; })) {
          ++overlaps;
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(overlaps, 0);
  EXPECT_EQ((*arena)->used_bytes(), 0u);
}

TEST(ByteBudget, ChargesAreBoundedAndGivenBack) {
  ByteBudget budget(100);
  {
    ByteCharge first(budget);
    EXPECT_TRUE(first.TryGrow(60));
    ByteCharge second(budget);
    EXPECT_FALSE(second.TryGrow(41));
    EXPECT_EQ(second.bytes(), 0u);
    EXPECT_TRUE(second.TryGrow(40));
    EXPECT_FALSE(second.TryGrow(UINT64_MAX));
    first.ShrinkTo(10);
    EXPECT_EQ(budget.used_bytes(), 50u);
    const ByteCharge moved = std::move(second);
    EXPECT_EQ(budget.used_bytes(), 50u);
  }
  EXPECT_EQ(budget.used_bytes(), 0u);
}

}  // namespace
}  // namespace reprise::storage
