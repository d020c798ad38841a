#include "transport/part_limits.h"

#include "gtest/gtest.h"

#include "common/limits.h"

namespace reprise::transport {
namespace {

TEST(PartLimitsTest, AtAndOverEachLimit) {
  EXPECT_TRUE(CheckPartSizes(0, 0).ok());
  EXPECT_TRUE(CheckPartSizes(kMaxMessageBytes, 0).ok());
  EXPECT_TRUE(CheckPartSizes(kMaxBulkMessageBytes, 1).ok());
  EXPECT_TRUE(CheckPartSizes(kMaxBulkMessageBytes, kMaxPartBytes).ok());
  EXPECT_TRUE(absl::IsInvalidArgument(CheckPartSizes(kMaxMessageBytes + 1, 0)));
  EXPECT_TRUE(absl::IsInvalidArgument(CheckPartSizes(kMaxBulkMessageBytes + 1, 1)));
  EXPECT_TRUE(absl::IsInvalidArgument(CheckPartSizes(0, kMaxPartBytes + 1)));
}

}  // namespace
}  // namespace reprise::transport
