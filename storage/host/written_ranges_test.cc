#include "storage/host/written_ranges.h"

#include <random>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace reprise::storage {
namespace {

using ::testing::HasSubstr;

TEST(WrittenRanges, RefusesOverlapsWithTheirNumbers) {
  WrittenRanges ranges;
  ASSERT_TRUE(ranges.Claim(10, 20).ok());
  for (const auto& [begin, end] : std::vector<std::pair<uint64_t, uint64_t>>{
           {10, 20}, {0, 11}, {19, 30}, {12, 13}, {0, 100}}) {
    const absl::Status status = ranges.Claim(begin, end);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << begin << " to " << end;
    EXPECT_THAT(status.message(), HasSubstr("10 to 20"));
  }
  EXPECT_TRUE(ranges.Claim(0, 10).ok());
  EXPECT_TRUE(ranges.Claim(20, 21).ok());
  EXPECT_FALSE(ranges.Claim(20, 21).ok());
}

TEST(WrittenRanges, BoundsTheGapsAndRecoversWhenTheyClose) {
  WrittenRanges ranges;
  for (uint64_t i = 0; i < WrittenRanges::kMaxRanges; ++i)
    ASSERT_TRUE(ranges.Claim(2 * i, 2 * i + 1).ok());
  const uint64_t next = 2 * WrittenRanges::kMaxRanges;
  EXPECT_EQ(ranges.Claim(next, next + 1).code(), absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE(ranges.Claim(1, 2).ok());
  EXPECT_TRUE(ranges.Claim(next, next + 1).ok());
}

TEST(WrittenRanges, AgreesWithOneFlagPerByte) {
  std::mt19937 random(5);
  for (int round = 0; round < 50; ++round) {
    WrittenRanges ranges;
    std::vector<bool> written(200, false);
    for (int i = 0; i < 400; ++i) {
      const size_t begin = random() % 199;
      const size_t end = begin + 1 + random() % std::min<size_t>(10, 200 - begin);
      bool overlap = false;
      for (size_t at = begin; at < end; ++at) overlap = overlap || written[at];
      ASSERT_EQ(ranges.Claim(begin, end).ok(), !overlap) << begin << " to " << end;
      for (size_t at = begin; at < end && !overlap; ++at) written[at] = true;
    }
  }
}

}  // namespace
}  // namespace reprise::storage
