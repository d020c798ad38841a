// Pieces with a time to live on a simulated disk.

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "common/limits.h"
#include "storage/env/testing/simulated_env.h"
#include "storage/nvme/nvme_tier.h"
#include "storage/nvme/testing/tier_calls.h"

namespace reprise::storage {
namespace {

using std::chrono::seconds;

class NvmeExpiryTest : public ::testing::Test {
 protected:
  void SetUp() override { Open(); }
  void Open() {
    tier_.reset();
    tier_ = OpenSmallTier(env_);
  }
  static std::vector<std::byte> Piece(const std::string& name) {
    return Build({.key = TestKey(name), .plane_bytes = 100'000});
  }
  absl::Status Write(const std::string& name, uint32_t ttl_s) {
    const uint32_t expires_at_s = ttl_s == 0 ? 0 : env_.clock().WallSeconds() + ttl_s;
    return WriteTo(*tier_, Piece(name),
                   {.durable = true, .attributes = {.expires_at_s = expires_at_s}});
  }
  bool Has(const std::string& name) { return tier_->Describe(1, TestKey(name)).has_value(); }

  SimulatedEnv env_{{.seed = 1}};
  std::unique_ptr<NvmeTier> tier_;
};

TEST_F(NvmeExpiryTest, WhatHasExpiredIsAbsentToEveryCall) {
  ASSERT_EQ(Write("a", 10), absl::OkStatus());
  env_.manual_clock().Advance(seconds(9));
  EXPECT_EQ(Look(*tier_, 1, Piece("a")), Found::kIntact);
  EXPECT_EQ(tier_->List(1, nullptr, 10, nullptr).pieces.size(), 1u);
  env_.manual_clock().Advance(seconds(1));
  EXPECT_FALSE(Has("a"));
  EXPECT_EQ(Look(*tier_, 1, Piece("a")), Found::kAbsent);
  EXPECT_TRUE(tier_->List(1, nullptr, 10, nullptr).pieces.empty());
  EXPECT_FALSE(tier_->Hold(1, TestKey("a"), 0, Deadline::After(seconds(5), env_.clock())));
}

TEST_F(NvmeExpiryTest, ARestartNeitherForgetsNorProlongsIt) {
  ASSERT_EQ(Write("a", 10), absl::OkStatus());
  ASSERT_EQ(Write("b", 20), absl::OkStatus());
  ASSERT_EQ(Write("stays", 0), absl::OkStatus());
  env_.manual_clock().Advance(seconds(9));
  Open();
  EXPECT_EQ(Look(*tier_, 1, Piece("a")), Found::kIntact);
  env_.manual_clock().Advance(seconds(1));
  EXPECT_FALSE(Has("a"));
  Open();
  EXPECT_FALSE(Has("a"));
  EXPECT_EQ(tier_->usage().pieces, 2u);
  EXPECT_EQ(tier_->usage().damaged_pieces, 0u);
  EXPECT_EQ(Look(*tier_, 1, Piece("b")), Found::kIntact);
  EXPECT_EQ(Look(*tier_, 1, Piece("stays")), Found::kIntact);
}

TEST_F(NvmeExpiryTest, ItIsWrittenAgainAndLivesAnew) {
  ASSERT_EQ(Write("a", 10), absl::OkStatus());
  env_.manual_clock().Advance(seconds(10));
  ASSERT_EQ(Write("a", 10), absl::OkStatus());
  env_.manual_clock().Advance(seconds(9));
  EXPECT_EQ(Look(*tier_, 1, Piece("a")), Found::kIntact);
  Open();
  EXPECT_EQ(Look(*tier_, 1, Piece("a")), Found::kIntact);
  env_.manual_clock().Advance(seconds(1));
  EXPECT_FALSE(Has("a"));
}

TEST_F(NvmeExpiryTest, ItsRoomIsTakenBeforeThatOfAnyOther) {
  // Half of what is on the disk is brief; what comes then has no room beside all of it.
  for (int i = 0; i < 30; ++i) {
    ASSERT_EQ(Write("stays " + std::to_string(i), 0), absl::OkStatus());
  }
  for (int i = 0; i < 30; ++i) {
    ASSERT_EQ(Write("brief " + std::to_string(i), 10), absl::OkStatus());
  }
  ASSERT_EQ(tier_->usage().evicted_pieces, 0u);
  env_.manual_clock().Advance(seconds(10));
  for (int i = 0; i < 25; ++i) {
    ASSERT_EQ(Write("new " + std::to_string(i), 0), absl::OkStatus());
  }
  EXPECT_EQ(tier_->usage().evicted_pieces, 0u);
  for (int i = 0; i < 30; ++i) EXPECT_TRUE(Has("stays " + std::to_string(i))) << i;
}

}  // namespace
}  // namespace reprise::storage
