#include "storage/nvme/record_slab.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <random>
#include <vector>

#include <gtest/gtest.h>

namespace reprise::storage {
namespace {

uint32_t FirstWord(const RecordSlab& slab, RecordSlab::Number number) {
  uint32_t word = 0;
  std::memcpy(&word, slab.Block(number), sizeof(word));
  return word;
}

TEST(RecordSlab, BlocksAreRoundedUpAndAligned) {
  RecordSlab slab;
  EXPECT_EQ(slab.bytes(), 0u);
  for (const size_t bytes : {12u, 13u, 16u, 17u, 511u, 512u}) {
    const RecordSlab::Number number = slab.Allocate(bytes);
    EXPECT_EQ(slab.BlockBytes(number), (bytes + 7) / 8 * 8);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(slab.Block(number)) % RecordSlab::kUnitBytes, 0u);
  }
}

TEST(RecordSlab, AFreedNumberShowsZeroAndIsTakenAgainForTheSameSize) {
  RecordSlab slab;
  const RecordSlab::Number first = slab.Allocate(40);
  std::memset(slab.Block(first), 0xff, 40);
  slab.Free(first);
  EXPECT_EQ(FirstWord(slab, first), 0u);
  EXPECT_EQ(slab.BlockBytes(first), 40u);
  EXPECT_NE(slab.Allocate(48), first);
  EXPECT_EQ(slab.Allocate(40), first);
}

TEST(RecordSlab, TakesNoMoreMemoryForWhatWasFreed) {
  RecordSlab slab;
  std::vector<RecordSlab::Number> numbers;
  for (int i = 0; i < 10'000; ++i) numbers.push_back(slab.Allocate(104));
  const size_t full = slab.bytes();
  // What is lost: the end of each chunk, less than a block, and the last chunk.
  EXPECT_GE(full, 10'000u * 104);
  EXPECT_LE(full, 10'000u * 104 + (64u << 10) + full / (64u << 10) * 104);
  for (int round = 0; round < 3; ++round) {
    for (const RecordSlab::Number number : numbers) slab.Free(number);
    for (RecordSlab::Number& number : numbers) number = slab.Allocate(104);
  }
  EXPECT_EQ(slab.bytes(), full);
}

TEST(RecordSlab, RandomCallsKeepEveryBlocksBytes) {
  RecordSlab slab;
  std::mt19937 random(5);
  std::map<RecordSlab::Number, std::vector<std::byte>> live;
  for (int step = 0; step < 50'000; ++step) {
    if (live.empty() || random() % 5 < 3) {
      std::vector<std::byte> bytes(12 + random() % (RecordSlab::kMaxBlockBytes - 11));
      for (std::byte& byte : bytes) byte = static_cast<std::byte>(1 + random() % 255);
      const RecordSlab::Number number = slab.Allocate(bytes.size());
      ASSERT_FALSE(live.contains(number));
      std::ranges::copy(bytes, slab.Block(number));
      live[number] = std::move(bytes);
    } else {
      auto victim =
          live.lower_bound(static_cast<RecordSlab::Number>(random() % (live.rbegin()->first + 1)));
      ASSERT_TRUE(std::ranges::equal(victim->second,
                                     ByteSpan(slab.Block(victim->first), victim->second.size())));
      slab.Free(victim->first);
      live.erase(victim);
    }
  }
  for (const auto& [number, bytes] : live) {
    EXPECT_TRUE(std::ranges::equal(bytes, ByteSpan(slab.Block(number), bytes.size()))) << number;
  }
}

}  // namespace
}  // namespace reprise::storage
