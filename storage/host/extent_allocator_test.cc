#include "storage/host/extent_allocator.h"

#include <algorithm>
#include <cstdint>
#include <map>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace reprise::storage {
namespace {

constexpr uint64_t kPage = 4096;

TEST(ExtentAllocator, RoundsToTheGranularity) {
  ExtentAllocator allocator(10 * kPage + 1);
  EXPECT_EQ(allocator.capacity_bytes(), 10 * kPage);
  EXPECT_EQ(allocator.Allocate(1), 0u);
  EXPECT_EQ(allocator.used_bytes(), kPage);
  EXPECT_EQ(allocator.Allocate(kPage + 1), kPage);
  EXPECT_EQ(allocator.used_bytes(), 3 * kPage);
}

TEST(ExtentAllocator, TakesTheSmallestRunThatFits) {
  ExtentAllocator allocator(100 * kPage);
  // Leaves free runs of 5, 3 and 4 pages and the rest, each behind one page in use.
  for (const uint64_t pages : {1u, 5u, 1u, 3u, 1u, 4u, 1u}) {
    ASSERT_TRUE(allocator.Allocate(pages * kPage));
  }
  allocator.Free(1 * kPage, 5 * kPage);
  allocator.Free(7 * kPage, 3 * kPage);
  allocator.Free(11 * kPage, 4 * kPage);
  EXPECT_EQ(allocator.Allocate(3 * kPage), 7 * kPage);
  EXPECT_EQ(allocator.Allocate(4 * kPage), 11 * kPage);
  EXPECT_EQ(allocator.Allocate(2 * kPage), 1 * kPage);
  EXPECT_EQ(allocator.Allocate(3 * kPage), 3 * kPage);
  EXPECT_EQ(allocator.free_extents(), 1u);
}

TEST(ExtentAllocator, MergesWithBothNeighbours) {
  ExtentAllocator allocator(3 * kPage);
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(allocator.Allocate(kPage));
  EXPECT_EQ(allocator.Allocate(1), std::nullopt);
  EXPECT_EQ(allocator.largest_free_bytes(), 0u);
  allocator.Free(0, kPage);
  allocator.Free(2 * kPage, kPage);
  EXPECT_EQ(allocator.Allocate(2 * kPage), std::nullopt);
  allocator.Free(kPage, kPage);
  EXPECT_EQ(allocator.free_extents(), 1u);
  EXPECT_EQ(allocator.Allocate(3 * kPage), 0u);
}

TEST(ExtentAllocator, ShrinkGivesBackWholePagesOfTheTail) {
  ExtentAllocator allocator(8 * kPage);
  ASSERT_EQ(allocator.Allocate(8 * kPage), 0u);
  allocator.Shrink(0, 8 * kPage, 5 * kPage + 1);
  EXPECT_EQ(allocator.used_bytes(), 6 * kPage);
  allocator.Shrink(0, 5 * kPage + 1, 5 * kPage + 1);
  EXPECT_EQ(allocator.used_bytes(), 6 * kPage);
  EXPECT_EQ(allocator.Allocate(2 * kPage), 6 * kPage);
  allocator.Free(0, 5 * kPage + 1);
  EXPECT_EQ(allocator.used_bytes(), 2 * kPage);
}

TEST(ExtentAllocatorDeathTest, AbortsOnWhatWouldCorruptTheFreeList) {
  ExtentAllocator allocator(8 * kPage);
  ASSERT_TRUE(allocator.Allocate(2 * kPage));
  EXPECT_DEATH(allocator.Free(2 * kPage, kPage), "");
  EXPECT_DEATH(allocator.Free(kPage, 2 * kPage), "");
  EXPECT_DEATH(allocator.Free(8 * kPage, kPage), "");
  EXPECT_DEATH(allocator.Free(1, kPage), "");
}

// Every page's owner, kept apart from the allocator.
TEST(ExtentAllocator, RandomCallsNeverHandOutAPageTwice) {
  constexpr uint64_t kPages = 512;
  ExtentAllocator allocator(kPages * kPage);
  std::vector<bool> taken(kPages, false);
  std::map<uint64_t, uint64_t> live;  // first page -> pages
  uint64_t taken_pages = 0;
  std::mt19937_64 random(11);
  const auto longest_free_run = [&] {
    uint64_t longest = 0;
    uint64_t run = 0;
    for (const bool page_taken : taken) {
      run = page_taken ? 0 : run + 1;
      longest = std::max(longest, run);
    }
    return longest;
  };
  for (int step = 0; step < 20'000; ++step) {
    const uint64_t choice = random() % 4;
    if (choice < 2) {
      const uint64_t pages = 1 + random() % 40;
      const auto offset = allocator.Allocate(pages * kPage - random() % kPage);
      ASSERT_EQ(offset.has_value(), longest_free_run() >= pages);
      if (!offset.has_value()) continue;
      for (uint64_t page = *offset / kPage; page < *offset / kPage + pages; ++page) {
        ASSERT_FALSE(taken[page]);
        taken[page] = true;
      }
      live[*offset / kPage] = pages;
      taken_pages += pages;
    } else if (!live.empty()) {
      auto victim = live.lower_bound(random() % kPages);
      if (victim == live.end()) victim = live.begin();
      auto& [first, pages] = *victim;
      const uint64_t kept = choice == 2 ? 0 : 1 + random() % pages;
      if (kept == 0) {
        allocator.Free(first * kPage, pages * kPage);
      } else {
        allocator.Shrink(first * kPage, pages * kPage, kept * kPage);
      }
      for (uint64_t page = first + kept; page < first + pages; ++page) taken[page] = false;
      taken_pages -= pages - kept;
      pages = kept;
      if (kept == 0) live.erase(victim);
    }
    ASSERT_EQ(allocator.used_bytes(), taken_pages * kPage);
    ASSERT_EQ(allocator.largest_free_bytes(), longest_free_run() * kPage);
  }
}

uint64_t Uniform(std::mt19937_64& random) { return kPage + random() % (uint64_t{64} << 20); }

uint64_t LogUniform(std::mt19937_64& random) {
  const uint64_t octave = kPage << (random() % 14);
  return octave + random() % octave;
}

// Four piece sizes, each compressed to 0.8 to 1.0 of it.
uint64_t Compressed(std::mt19937_64& random) {
  const uint64_t raw = uint64_t{512 << 10} << (2 * (random() % 4));
  return raw - random() % (raw / 5);
}

// The trace's mix: pieces of one model, all of 256 tokens, that differ by what the codec makes of
// them.
uint64_t OneModel(std::mt19937_64& random) {
  constexpr uint64_t kRaw = uint64_t{3} << 20;
  return kRaw - random() % (kRaw / 5);
}

struct Mix {
  const char* name;
  uint64_t capacity_bytes;
  uint64_t (*size)(std::mt19937_64&);
  double max_loss;
};

class Fragmentation : public ::testing::TestWithParam<Mix> {};

// Random sizes up to 64 MiB with random lifetimes, 100,000 allocations: the share of the capacity
// that is free on average although something had to go to make room.
TEST_P(Fragmentation, LosesLittle) {
  const Mix& mix = GetParam();
  ExtentAllocator allocator(mix.capacity_bytes);
  std::mt19937_64 random(3);
  std::vector<std::pair<uint64_t, uint64_t>> live;
  double used_share = 0;
  int samples = 0;
  for (int i = 0; i < 100'000; ++i) {
    const uint64_t size = mix.size(random);
    std::optional<uint64_t> offset;
    while (!(offset = allocator.Allocate(size)).has_value()) {
      std::swap(live[random() % live.size()], live.back());
      allocator.Free(live.back().first, live.back().second);
      live.pop_back();
    }
    live.emplace_back(*offset, size);
    if (i < 30'000) continue;  // until the first filling has been replaced
    used_share +=
        static_cast<double>(allocator.used_bytes()) / static_cast<double>(mix.capacity_bytes);
    ++samples;
  }
  const double loss = 1 - used_share / samples;
  RecordProperty("loss", std::to_string(loss));
  EXPECT_LT(loss, mix.max_loss);
}

INSTANTIATE_TEST_SUITE_P(
    Mixes, Fragmentation,
    ::testing::Values(Mix{"Uniform64GiB", uint64_t{64} << 30, Uniform, 0.10},
                      Mix{"LogUniform64GiB", uint64_t{64} << 30, LogUniform, 0.10},
                      Mix{"Compressed64GiB", uint64_t{64} << 30, Compressed, 0.10},
                      Mix{"OneModel64GiB", uint64_t{64} << 30, OneModel, 0.10},
                      Mix{"OneModel4GiB", uint64_t{4} << 30, OneModel, 0.10},
                      // The largest extents are a 64th of the capacity here.
                      Mix{"LogUniform4GiB", uint64_t{4} << 30, LogUniform, 0.25},
                      Mix{"Compressed4GiB", uint64_t{4} << 30, Compressed, 0.15}),
    [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace reprise::storage
