// Pins and quotas in the host tier.

#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/limits.h"
#include "storage/host/host_store.h"
#include "storage/testing/planes_first.h"
#include "storage/testing/test_piece.h"

namespace reprise::storage {
namespace {

using std::chrono::hours;
using std::chrono::seconds;
using ::testing::HasSubstr;

// With one page of header and directory, exactly 256 KiB: 28 fit into the 7 MiB and more that 8
// leave for pieces, of which a tenant may pin an eighth, 3.
constexpr uint64_t kPieceBytes = 256 * kKiB;
constexpr uint64_t kBody = kPieceBytes - 4096;

class HostPinTest : public ::testing::Test {
 protected:
  void SetUp() override { Start({}); }
  void Start(PolicyFactory policy) {
    auto store = HostStore::Create(
        {.budget_bytes = 8 * kMiB, .make_policy = std::move(policy), .clock = &clock_});
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = *std::move(store);
  }
  absl::Status Publish(const std::string& name, TenantId tenant = 1, uint64_t body = kBody) {
    const Key key = TestKey(name);
    return Put(*store_, tenant, key, Build({.key = key, .plane_bytes = body})).status();
  }
  // As much as pushes everything out that may go.
  void Flood(TenantId tenant = 9) {
    for (int i = 0; i < 40; ++i) {
      ASSERT_EQ(Publish("flood " + std::to_string(i), tenant), absl::OkStatus());
    }
  }
  bool Has(const std::string& name, TenantId tenant = 1) {
    return store_->Peek(tenant, TestKey(name)) != nullptr;
  }
  absl::Status Pin(const std::string& name, Duration time, TenantId tenant = 1) {
    absl::Status status = absl::UnknownError("not called back");
    store_->Pin(tenant, TestKey(name), Deadline(clock_.Now() + time),
                [&status](absl::Status pinned) { status = std::move(pinned); });
    return status;
  }

  ManualClock clock_;
  std::unique_ptr<HostStore> store_;
};

TEST_F(HostPinTest, APinnedPieceOutlastsWhateverComesUntilItsTimeIsOver) {
  ASSERT_EQ(Publish("a"), absl::OkStatus());
  ASSERT_EQ(Pin("a", seconds(100)), absl::OkStatus());
  EXPECT_EQ(store_->usage().bytes_under_pins, kPieceBytes);
  clock_.Advance(seconds(99));
  Flood();
  EXPECT_TRUE(Has("a"));
  clock_.Advance(seconds(1));
  EXPECT_EQ(store_->usage().bytes_under_pins, 0u);
  Flood();
  EXPECT_FALSE(Has("a"));
}

TEST_F(HostPinTest, AnotherPinProlongsItAndAShorterOneDoesNotShortenIt) {
  ASSERT_EQ(Publish("a"), absl::OkStatus());
  ASSERT_EQ(Pin("a", seconds(100)), absl::OkStatus());
  ASSERT_EQ(Pin("a", seconds(10)), absl::OkStatus());
  clock_.Advance(seconds(50));
  ASSERT_EQ(Pin("a", seconds(100)), absl::OkStatus());
  EXPECT_EQ(store_->usage().bytes_under_pins, kPieceBytes);
  clock_.Advance(seconds(99));
  Flood();
  EXPECT_TRUE(Has("a"));
}

TEST_F(HostPinTest, NoPinLastsLongerThanADay) {
  ASSERT_EQ(Publish("a"), absl::OkStatus());
  ASSERT_EQ(Pin("a", hours(1000)), absl::OkStatus());
  clock_.Advance(hours(24));
  Flood();
  EXPECT_FALSE(Has("a"));
}

TEST_F(HostPinTest, UnpinningLetsItGo) {
  ASSERT_EQ(Publish("a"), absl::OkStatus());
  EXPECT_FALSE(store_->Unpin(1, TestKey("a")));
  ASSERT_EQ(Pin("a", hours(1)), absl::OkStatus());
  EXPECT_FALSE(store_->Unpin(2, TestKey("a")));
  EXPECT_TRUE(store_->Unpin(1, TestKey("a")));
  EXPECT_FALSE(store_->Unpin(1, TestKey("a")));
  Flood();
  EXPECT_FALSE(Has("a"));
}

TEST_F(HostPinTest, AHoldAndAPinEndEachByItself) {
  ASSERT_EQ(Publish("a"), absl::OkStatus());
  ASSERT_EQ(Pin("a", seconds(100)), absl::OkStatus());
  ASSERT_TRUE(store_->Hold(1, TestKey("a"), 0, Deadline::After(seconds(10), clock_)));
  clock_.Advance(seconds(10));
  Flood();
  EXPECT_TRUE(Has("a"));
  ASSERT_TRUE(store_->Hold(1, TestKey("a"), 0, Deadline::After(seconds(10), clock_)));
  EXPECT_TRUE(store_->Unpin(1, TestKey("a")));
  Flood();
  EXPECT_TRUE(Has("a"));
  clock_.Advance(seconds(10));
  Flood();
  EXPECT_FALSE(Has("a"));
}

TEST_F(HostPinTest, ATenantPinsAnEighthAndIsToldTheNumbers) {
  for (const char* name : {"a", "b", "c", "d"}) ASSERT_EQ(Publish(name), absl::OkStatus());
  for (const char* name : {"a", "b", "c"}) EXPECT_EQ(Pin(name, hours(1)), absl::OkStatus());
  const absl::Status refused = Pin("d", hours(1));
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(refused.message(), HasSubstr("has pinned 786432 of at most"));
  EXPECT_TRUE(store_->Unpin(1, TestKey("a")));
  EXPECT_EQ(Pin("d", hours(1)), absl::OkStatus());
  EXPECT_EQ(Pin("absent", hours(1)).code(), absl::StatusCode::kNotFound);
}

TEST_F(HostPinTest, AllTenantsPinAQuarter) {
  uint64_t pinned = 0;
  for (TenantId tenant = 1; tenant <= 4; ++tenant) {
    for (const char* name : {"a", "b", "c"}) {
      ASSERT_EQ(Publish(name, tenant), absl::OkStatus());
      if (Pin(name, hours(1), tenant).ok()) ++pinned;
    }
  }
  EXPECT_EQ(pinned, 7u);
  EXPECT_EQ(store_->usage().bytes_under_pins, 7 * kPieceBytes);
}

TEST_F(HostPinTest, APinnedPieceKeepsItsPlanes) {
  Start([](size_t) { return std::make_unique<PlanesFirst>(); });
  const Key key = TestKey("planes");
  ASSERT_TRUE(Put(*store_, 1, key, Build({.key = key, .plane_bytes = 40'000, .planes = 4})).ok());
  ASSERT_EQ(Pin("planes", hours(1)), absl::OkStatus());
  Flood();
  ASSERT_NE(store_->Peek(1, key), nullptr);
  EXPECT_EQ(store_->Peek(1, key)->level(), 3u);
}

TEST_F(HostPinTest, WhatReplacesThePieceIsPinnedToo) {
  const Key key = TestKey("a");
  const TestPiece worse{.key = key, .plane_bytes = 1000, .seed = 1, .distortion = 0.5F};
  const TestPiece better{.key = key, .plane_bytes = 1000, .seed = 2, .distortion = 0.1F};
  ASSERT_TRUE(Put(*store_, 1, key, Build(worse)).ok());
  ASSERT_EQ(Pin("a", hours(1)), absl::OkStatus());
  const auto outcome = Put(*store_, 1, key, Build(better));
  ASSERT_TRUE(outcome.ok()) << outcome.status();
  ASSERT_EQ(*outcome, CommitOutcome::kStored);
  Flood();
  EXPECT_TRUE(Has("a"));
}

TEST_F(HostPinTest, ATenantAtItsQuotaGivesUpItsOwnAndNobodyElses) {
  for (int i = 0; i < 8; ++i) {
    ASSERT_EQ(Publish("other " + std::to_string(i), 2), absl::OkStatus());
  }
  store_->SetQuota(1, {.memory_bytes = 4 * kPieceBytes});
  for (int i = 0; i < 30; ++i) ASSERT_EQ(Publish(std::to_string(i)), absl::OkStatus());
  for (int i = 0; i < 30; ++i) EXPECT_EQ(Has(std::to_string(i)), i >= 26) << i;
  for (int i = 0; i < 8; ++i) EXPECT_TRUE(Has("other " + std::to_string(i), 2)) << i;
}

TEST_F(HostPinTest, AQuotaThatShrinksTakesEffectAtOnce) {
  for (int i = 0; i < 8; ++i) ASSERT_EQ(Publish(std::to_string(i)), absl::OkStatus());
  store_->SetQuota(1, {.memory_bytes = 2 * kPieceBytes});
  for (int i = 0; i < 8; ++i) EXPECT_EQ(Has(std::to_string(i)), i >= 6) << i;
}

TEST_F(HostPinTest, WhatDoesNotFitTheQuotaIsRefusedAndNothingGoesForIt) {
  store_->SetQuota(1, {.memory_bytes = 4 * kPieceBytes});
  ASSERT_EQ(Publish("a"), absl::OkStatus());
  const absl::Status refused = Publish("large", 1, 5 * kPieceBytes);
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(refused.message(), HasSubstr("of 1048576 bytes, 262144 are in pieces"));
  EXPECT_TRUE(Has("a"));
  EXPECT_EQ(Publish("large", 2, 5 * kPieceBytes), absl::OkStatus());
}

TEST_F(HostPinTest, PinsAreHalfOfAQuotaAtMost) {
  store_->SetQuota(1, {.memory_bytes = 4 * kPieceBytes});
  for (const char* name : {"a", "b", "c"}) ASSERT_EQ(Publish(name), absl::OkStatus());
  EXPECT_EQ(Pin("a", hours(1)), absl::OkStatus());
  EXPECT_EQ(Pin("b", hours(1)), absl::OkStatus());
  EXPECT_EQ(Pin("c", hours(1)).code(), absl::StatusCode::kResourceExhausted);
  for (int i = 0; i < 10; ++i) ASSERT_EQ(Publish(std::to_string(i)), absl::OkStatus());
  EXPECT_TRUE(Has("a") && Has("b"));
}

}  // namespace
}  // namespace reprise::storage
