// Pins, times to live, quotas and warm-up over both tiers, with real files.

#include <chrono>
#include <filesystem>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/limits.h"
#include "storage/testing/test_piece.h"
#include "storage/tiered_store.h"
#include "storage/tiering/tiering_policy.h"

namespace reprise::storage {
namespace {

using std::chrono::hours;

class TieredKeepTest : public ::testing::Test {
 protected:
  TieredKeepTest()
      : directory_(std::filesystem::path(::testing::TempDir()) /
                   (std::string("tiered_keep_test_") +
                    ::testing::UnitTest::GetInstance()->current_test_info()->name())) {
    std::filesystem::remove_all(directory_);
    Start();
  }
  ~TieredKeepTest() override {
    store_.reset();
    std::filesystem::remove_all(directory_);
  }
  void Start() {
    store_.reset();
    TieredStoreOptions options;
    options.host.budget_bytes = 8 * kMiB;
    options.host.make_policy = [](size_t max_pieces) {
      return std::make_unique<TieringPolicy>(max_pieces,
                                             TieringOptions{.next_tier_bytes = 512 * kMiB});
    };
    options.nvme.directory = directory_;
    options.nvme.budget_bytes = 512 * kMiB;
    options.nvme.memory_bytes = 32 * kMiB;
    options.nvme.make_policy = [](size_t max_pieces) {
      return std::make_unique<TieringPolicy>(max_pieces,
                                             TieringOptions{.below_another_tier = true});
    };
    auto store = TieredStore::Create(options);
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = *std::move(store);
  }
  static std::vector<std::byte> Piece(const std::string& name) {
    return Build({.key = TestKey(name), .plane_bytes = 100'000});
  }
  void Publish(const std::string& name, TenantId tenant = 1, uint32_t expires_at_s = 0) {
    const auto stored = Put(*store_, tenant, TestKey(name), Piece(name),
                            {.expires_at_s = expires_at_s, .recompute_seconds = 1});
    ASSERT_TRUE(stored.ok()) << stored.status();
  }
  absl::Status Persist(const std::string& name, TenantId tenant = 1) {
    std::promise<absl::Status> done;
    const Key key = TestKey(name);
    store_->Persist(tenant, key, OfferOf(key, Piece(name)).quality.content_id,
                    [&](const absl::Status& status) { done.set_value(status); });
    return done.get_future().get();
  }
  absl::Status Pin(const std::string& name) {
    std::promise<absl::Status> done;
    store_->Pin(1, TestKey(name), Deadline::After(hours(1)),
                [&](const absl::Status& status) { done.set_value(status); });
    return done.get_future().get();
  }
  PieceRef Warm(const std::string& name) {
    std::promise<PieceRef> opened;
    store_->Warm(1, TestKey(name), 0, [&](PieceRef piece) { opened.set_value(std::move(piece)); });
    return opened.get_future().get();
  }
  PieceRef Open(const std::string& name, TenantId tenant = 1) {
    std::promise<PieceRef> opened;
    store_->Open(tenant, TestKey(name), 0,
                 [&](PieceRef piece) { opened.set_value(std::move(piece)); });
    return opened.get_future().get();
  }

  const std::string directory_;
  std::unique_ptr<TieredStore> store_;
};

TEST_F(TieredKeepTest, APinnedPieceIsOnTheDiskAndMayLeaveMemory) {
  Publish("a");
  ASSERT_FALSE(store_->nvme().Describe(1, TestKey("a")).has_value());
  ASSERT_EQ(Pin("a"), absl::OkStatus());
  EXPECT_TRUE(store_->nvme().Describe(1, TestKey("a")).has_value());
  EXPECT_EQ(store_->usage().bytes_under_pins, 0u);
  EXPECT_GT(store_->usage().disk->bytes_under_pins, 100'000u);
  for (int i = 0; i < 200; ++i) Publish("flood " + std::to_string(i), 9);
  EXPECT_EQ(store_->Peek(1, TestKey("a")), nullptr);
  const PieceRef piece = Open("a");
  ASSERT_NE(piece, nullptr);
  EXPECT_TRUE(Matches(*piece, Piece("a")));
  EXPECT_TRUE(store_->Unpin(1, TestKey("a")));
  EXPECT_FALSE(store_->Unpin(1, TestKey("a")));
  EXPECT_EQ(Pin("absent").code(), absl::StatusCode::kNotFound);
}

TEST_F(TieredKeepTest, AnExpiredPieceIsAbsentInBothTiersAndAfterARestart) {
  Publish("a", 1, Clock::Steady().WallSeconds() + 3600);
  Publish("gone", 1, Clock::Steady().WallSeconds() - 1);
  EXPECT_EQ(Open("gone"), nullptr);
  EXPECT_FALSE(store_->Describe(1, TestKey("gone")).has_value());
  ASSERT_EQ(Persist("a"), absl::OkStatus());
  Start();
  const auto described = store_->Describe(1, TestKey("a"));
  ASSERT_TRUE(described.has_value());
  EXPECT_GT(described->attributes.expires_at_s, Clock::Steady().WallSeconds() + 3000);
  const PieceRef piece = Open("a");
  ASSERT_NE(piece, nullptr);
  EXPECT_EQ(piece->attributes().expires_at_s, described->attributes.expires_at_s);
}

TEST_F(TieredKeepTest, WarmingBringsPiecesInAndSparesWhatIsFresh) {
  for (int i = 0; i < 200; ++i) {
    Publish(std::to_string(i));
    ASSERT_EQ(Persist(std::to_string(i)), absl::OkStatus());
  }
  Start();
  uint64_t warm = 0;
  for (int i = 0; i < 30; ++i) {
    const PieceRef piece = Warm(std::to_string(i));
    ASSERT_NE(piece, nullptr) << i;
    ASSERT_TRUE(Matches(*piece, Piece(std::to_string(i))));
    ++warm;
  }
  EXPECT_EQ(store_->usage().pieces, warm);
  EXPECT_EQ(store_->usage().disk->failed_loads, 0u);
  EXPECT_EQ(Warm("absent"), nullptr);
  // What is being read may not go; when that is everything, there is no room, and no failure.
  std::vector<PieceRef> read;
  for (int i = 30; i < 150; ++i) {
    if (PieceRef piece = Warm(std::to_string(i))) read.push_back(std::move(piece));
  }
  EXPECT_GT(store_->usage().pieces, warm);
  EXPECT_EQ(store_->usage().disk->failed_loads, 0u);
  EXPECT_LT(read.size(), 120u);
  EXPECT_EQ(Warm("199"), nullptr);
  read.clear();
  EXPECT_NE(Open("199"), nullptr);
}

TEST_F(TieredKeepTest, ATenantAtItsQuotaOfMemoryHasTheRestOnTheDisk) {
  store_->SetQuota(1, {.memory_bytes = 2 * kMiB});
  for (int i = 0; i < 10; ++i) Publish("other " + std::to_string(i), 2);
  for (int i = 0; i < 100; ++i) {
    Publish(std::to_string(i));
    // Copies are made ahead on another thread; a publisher over a wire is no faster.
    ASSERT_EQ(Persist(std::to_string(i)), absl::OkStatus());
  }
  for (int i = 0; i < 10; ++i) {
    EXPECT_NE(store_->Peek(2, TestKey("other " + std::to_string(i))), nullptr) << i;
  }
  EXPECT_LE(store_->usage().pieces, 10u + 2 * kMiB / 100'000);
  for (int i = 0; i < 100; ++i) {
    const PieceRef piece = Open(std::to_string(i));
    ASSERT_NE(piece, nullptr) << i;
    EXPECT_TRUE(Matches(*piece, Piece(std::to_string(i))));
  }
  EXPECT_LE(store_->usage().pieces, 10u + 2 * kMiB / 100'000);
}

TEST_F(TieredKeepTest, WhatAQuotaPushesOutOfMemoryIsCopiedAhead) {
  store_->SetQuota(1, {.memory_bytes = 2 * kMiB});
  // What cannot go because its copy is just being made lets another go, uncopied.
  uint64_t uncopied = 0;
  for (uint64_t i = 0; i < 100; ++i) {
    Publish(std::to_string(i));
    // Twenty fit, and three more are looked at ahead.
    const Deadline end = Deadline::After(std::chrono::seconds(5));
    while (store_->usage().disk->demoted_pieces + uncopied + 17 < i) {
      if (end.PassedAt(Clock::Steady().Now())) ++uncopied;
      std::this_thread::yield();
    }
  }
  EXPECT_LE(uncopied, 5u);
  EXPECT_GT(store_->usage().disk->demoted_pieces, 70u);
}

}  // namespace
}  // namespace reprise::storage
