#include "common/status.h"

#include <gtest/gtest.h>

namespace reprise {
namespace {

absl::StatusOr<int> Half(int value) {
  if (value % 2 != 0) return absl::InvalidArgumentError("odd");
  return value / 2;
}

absl::StatusOr<int> Quarter(int value) {
  REPRISE_ASSIGN_OR_RETURN(const int half, Half(value));
  REPRISE_ASSIGN_OR_RETURN(const int quarter, Half(half));
  return quarter;
}

absl::Status Check(int value) {
  REPRISE_RETURN_IF_ERROR(Half(value).status());
  return absl::OkStatus();
}

TEST(StatusTest, MacrosPassErrorsOn) {
  EXPECT_EQ(*Quarter(12), 3);
  EXPECT_EQ(Quarter(6).status(), absl::InvalidArgumentError("odd"));
  EXPECT_TRUE(Check(2).ok());
  EXPECT_EQ(Check(1), absl::InvalidArgumentError("odd"));
}

TEST(StatusTest, AnnotateKeepsTheCode) {
  EXPECT_EQ(Annotate(absl::NotFoundError("gone"), "piece 3"), absl::NotFoundError("piece 3: gone"));
  EXPECT_TRUE(Annotate(absl::OkStatus(), "piece 3").ok());
}

}  // namespace
}  // namespace reprise
