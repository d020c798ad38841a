// Pins and quotas on a simulated disk.

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/limits.h"
#include "storage/env/testing/simulated_env.h"
#include "storage/nvme/nvme_tier.h"
#include "storage/nvme/testing/tier_calls.h"

namespace reprise::storage {
namespace {

using std::chrono::hours;
using std::chrono::seconds;
using ::testing::HasSubstr;

// A page of header and directory and 25 of body.
constexpr uint64_t kRunBytes = 26 * 4096;

class NvmePinTest : public ::testing::Test {
 protected:
  void SetUp() override { Open(); }
  void Open() {
    tier_.reset();
    tier_ = OpenSmallTier(env_);
  }
  static std::vector<std::byte> Piece(const std::string& name) {
    return Build({.key = TestKey(name), .plane_bytes = kRunBytes - 4096});
  }
  absl::Status Write(const std::string& name, TenantId tenant = 1) {
    return WriteTo(*tier_, Piece(name), {.tenant = tenant});
  }
  void Flood() {
    for (int i = 0; i < 150; ++i) {
      ASSERT_EQ(Write("flood " + std::to_string(i), 9), absl::OkStatus());
    }
  }
  bool Has(const std::string& name, TenantId tenant = 1) {
    return Look(*tier_, tenant, Piece(name)) == Found::kIntact;
  }
  absl::Status Pin(const std::string& name, Duration time) {
    return tier_->Pin(1, TestKey(name), Deadline(env_.clock().Now() + time));
  }

  SimulatedEnv env_{{.seed = 1}};
  std::unique_ptr<NvmeTier> tier_;
};

TEST_F(NvmePinTest, APinnedPieceOutlastsWhateverComesUntilItsTimeIsOver) {
  ASSERT_EQ(Write("a"), absl::OkStatus());
  ASSERT_EQ(Write("b"), absl::OkStatus());
  ASSERT_EQ(Pin("a", seconds(100)), absl::OkStatus());
  EXPECT_EQ(tier_->usage().bytes_under_pins, kRunBytes);
  Flood();
  EXPECT_TRUE(Has("a"));
  EXPECT_FALSE(Has("b"));
  env_.manual_clock().Advance(seconds(100));
  Flood();
  EXPECT_FALSE(Has("a"));
  EXPECT_EQ(tier_->usage().bytes_under_pins, 0u);
}

TEST_F(NvmePinTest, UnpinningLetsItGoAndARestartForgetsPins) {
  ASSERT_EQ(Write("a"), absl::OkStatus());
  ASSERT_EQ(Pin("a", hours(1)), absl::OkStatus());
  EXPECT_TRUE(tier_->Unpin(1, TestKey("a")));
  EXPECT_FALSE(tier_->Unpin(1, TestKey("a")));
  ASSERT_EQ(Pin("a", hours(1)), absl::OkStatus());
  Open();
  EXPECT_TRUE(Has("a"));
  EXPECT_FALSE(tier_->Unpin(1, TestKey("a")));
}

TEST_F(NvmePinTest, ATenantsShareIsBoundedAndItIsToldTheNumbers) {
  absl::Status refused;
  uint64_t pinned = 0;
  for (int i = 0; i < 60 && refused.ok(); ++i) {
    ASSERT_EQ(Write(std::to_string(i)), absl::OkStatus());
    refused = Pin(std::to_string(i), hours(1));
    if (refused.ok()) ++pinned;
  }
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(refused.message(), HasSubstr("has pinned " + std::to_string(pinned * kRunBytes)));
  EXPECT_GE(pinned, 5u);
  EXPECT_LE(pinned * kRunBytes, 12 * kMiB / 8);
  EXPECT_EQ(Pin("absent", hours(1)).code(), absl::StatusCode::kNotFound);
}

TEST_F(NvmePinTest, ATenantAtItsQuotaGivesUpItsOwnAndNobodyElses) {
  for (int i = 0; i < 30; ++i) ASSERT_EQ(Write("other " + std::to_string(i), 2), absl::OkStatus());
  tier_->SetQuota(1, 10 * kRunBytes);
  for (int i = 0; i < 60; ++i) ASSERT_EQ(Write(std::to_string(i)), absl::OkStatus());
  for (int i = 0; i < 60; ++i) EXPECT_EQ(Has(std::to_string(i)), i >= 50) << i;
  for (int i = 0; i < 30; ++i) EXPECT_TRUE(Has("other " + std::to_string(i), 2)) << i;
}

TEST_F(NvmePinTest, AQuotaThatShrinksTakesEffectAtOnceAndPinsFillHalfOfIt) {
  for (int i = 0; i < 20; ++i) ASSERT_EQ(Write(std::to_string(i)), absl::OkStatus());
  ASSERT_EQ(Pin("0", hours(1)), absl::OkStatus());
  tier_->SetQuota(1, 4 * kRunBytes);
  for (int i = 0; i < 20; ++i) EXPECT_EQ(Has(std::to_string(i)), i == 0 || i >= 17) << i;
  EXPECT_EQ(Pin("18", hours(1)), absl::OkStatus());
  EXPECT_EQ(Pin("19", hours(1)).code(), absl::StatusCode::kResourceExhausted);
  ASSERT_EQ(Write("new"), absl::OkStatus());
  EXPECT_TRUE(Has("0") && Has("18") && Has("new"));
}

}  // namespace
}  // namespace reprise::storage
