// Pieces with a time to live in the host tier.

#include <chrono>
#include <memory>
#include <string>

#include <gtest/gtest.h>

#include "common/limits.h"
#include "storage/host/host_store.h"
#include "storage/testing/test_piece.h"

namespace reprise::storage {
namespace {

using std::chrono::seconds;

constexpr TenantId kTenant = 1;
// With one page of header and directory, exactly 1 MiB: seven fit into 8 MiB.
constexpr uint64_t kBody = 1 * kMiB - 4096;

class HostExpiryTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto store = HostStore::Create({.budget_bytes = 8 * kMiB, .clock = &clock_});
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = *std::move(store);
  }
  // 0 seconds: it stays.
  absl::StatusOr<CommitOutcome> Publish(const std::string& name, uint32_t ttl_s,
                                        uint64_t body = kBody) {
    const Key key = TestKey(name);
    const uint32_t expires_at_s = ttl_s == 0 ? 0 : clock_.WallSeconds() + ttl_s;
    return Put(*store_, kTenant, key, Build({.key = key, .plane_bytes = body}),
               {.expires_at_s = expires_at_s});
  }
  bool Has(const std::string& name) { return store_->Peek(kTenant, TestKey(name)) != nullptr; }

  ManualClock clock_;
  std::unique_ptr<HostStore> store_;
};

TEST_F(HostExpiryTest, WhatHasExpiredIsAbsentToEveryCall) {
  ASSERT_TRUE(Publish("a", 10).ok());
  const Key key = TestKey("a");
  clock_.Advance(seconds(9));
  ASSERT_NE(store_->Find(kTenant, key), nullptr);
  ASSERT_TRUE(store_->Hold(kTenant, key, 0, Deadline::After(seconds(30), clock_)));
  clock_.Advance(seconds(1));
  EXPECT_EQ(store_->Find(kTenant, key), nullptr);
  EXPECT_EQ(store_->Peek(kTenant, key), nullptr);
  EXPECT_FALSE(store_->Describe(kTenant, key).has_value());
  EXPECT_TRUE(store_->List(kTenant, nullptr, 10, nullptr).pieces.empty());
  EXPECT_FALSE(store_->Remove(kTenant, key, nullptr));
  EXPECT_FALSE(store_->Hold(kTenant, key, 0, Deadline::After(seconds(30), clock_)));
}

TEST_F(HostExpiryTest, ItsRoomIsTakenBeforeThatOfAnyOther) {
  for (const char* name : {"a", "b", "c", "d", "e", "f"}) ASSERT_TRUE(Publish(name, 0).ok());
  ASSERT_TRUE(Publish("brief", 10).ok());
  clock_.Advance(seconds(10));
  ASSERT_TRUE(Publish("new", 0).ok());
  for (const char* name : {"a", "b", "c", "d", "e", "f", "new"}) EXPECT_TRUE(Has(name)) << name;
  EXPECT_EQ(store_->usage().evicted_pieces, 0u);
  EXPECT_EQ(store_->usage().pieces, 7u);
}

TEST_F(HostExpiryTest, APieceThatStillLivesIsNoVictimBeforeItsTurn) {
  for (const char* name : {"a", "b", "c", "d", "e", "f"}) ASSERT_TRUE(Publish(name, 0).ok());
  ASSERT_TRUE(Publish("brief", 10).ok());
  clock_.Advance(seconds(9));
  ASSERT_TRUE(Publish("new", 0).ok());
  EXPECT_FALSE(Has("a"));
  EXPECT_TRUE(Has("brief"));
}

TEST_F(HostExpiryTest, ItIsStoredAgainAndLivesAnew) {
  ASSERT_TRUE(Publish("a", 10).ok());
  clock_.Advance(seconds(10));
  const auto outcome = Publish("a", 10);
  ASSERT_TRUE(outcome.ok()) << outcome.status();
  EXPECT_EQ(*outcome, CommitOutcome::kStored);
  clock_.Advance(seconds(9));
  EXPECT_TRUE(Has("a"));
  clock_.Advance(seconds(1));
  EXPECT_FALSE(Has("a"));
}

TEST_F(HostExpiryTest, AReaderKeepsWhatItHas) {
  ASSERT_TRUE(Publish("a", 10, 1000).ok());
  const PieceRef read = store_->Find(kTenant, TestKey("a"));
  clock_.Advance(seconds(10));
  ASSERT_TRUE(Publish("b", 0, 1000).ok());
  EXPECT_TRUE(Matches(*read, Build({.key = TestKey("a"), .plane_bytes = 1000})));
}

TEST_F(HostExpiryTest, AListSkipsWholePagesOfThem) {
  for (int i = 0; i < 200; ++i) {
    ASSERT_TRUE(Publish("brief " + std::to_string(i), 10, 1000).ok());
  }
  ASSERT_TRUE(Publish("stays", 0, 1000).ok());
  clock_.Advance(seconds(10));
  std::optional<Key> after;
  std::vector<Key> listed;
  for (bool more = true; more;) {
    const ListPage page = store_->List(kTenant, after.has_value() ? &*after : nullptr, 3, nullptr);
    more = page.more;
    ASSERT_TRUE(!more || !page.pieces.empty());
    for (const ListPage::Entry& entry : page.pieces) listed.push_back(entry.key);
    if (!listed.empty()) after = listed.back();
  }
  EXPECT_EQ(listed, std::vector<Key>{TestKey("stays")});
}

}  // namespace
}  // namespace reprise::storage
