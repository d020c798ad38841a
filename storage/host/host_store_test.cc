// The host tier from outside: what is found, evicted, held, removed and listed.

#include "storage/host/host_store.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/limits.h"
#include "storage/testing/test_piece.h"

namespace reprise::storage {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr TenantId kTenant = 1;
constexpr uint64_t kBudget = 8 * kMiB;
// With one page of header and directory, exactly 1 MiB: seven fit beside the store's own records.
constexpr uint64_t kBody = 1 * kMiB - 4096;
constexpr uint64_t kPiecesThatFit = 7;

class HostStoreTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto store = HostStore::Create({.budget_bytes = kBudget, .clock = &clock_});
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = *std::move(store);
  }

  // A piece of 1 MiB, or of `body` bytes and one page.
  absl::Status Publish(const std::string& name, const PieceAttributes& attributes = {},
                       uint64_t body = kBody, TenantId tenant = kTenant,
                       const std::string& name_space = "n") {
    const Key key = TestKey(name);
    return Put(*store_, tenant, key,
               Build({.key = key, .fingerprint = TestFingerprint(name_space), .plane_bytes = body}),
               attributes)
        .status();
  }
  static PieceAttributes After(const std::string& parent, uint64_t position) {
    return {.parent = TestKey(parent), .position = position, .recompute_seconds = 0};
  }
  bool Has(const std::string& name) { return store_->Peek(kTenant, TestKey(name)) != nullptr; }
  bool Hold(const std::string& name, std::chrono::milliseconds time, TenantId tenant = kTenant) {
    return store_->Hold(tenant, TestKey(name), 0, Deadline::After(time, clock_));
  }

  ManualClock clock_;
  std::unique_ptr<HostStore> store_;
};

TEST(HostStoreCreate, RefusesBudgetsWithNumbers) {
  const absl::Status small = HostStore::Create({.budget_bytes = 1000}).status();
  EXPECT_EQ(small.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(small.message(), HasSubstr("1000"));
  EXPECT_THAT(small.message(), HasSubstr("1048576"));
  EXPECT_TRUE(HostStore::Create({.budget_bytes = HostStore::kMinBudgetBytes}).ok());
  const absl::Status large = HostStore::Create({.budget_bytes = uint64_t{1} << 60}).status();
  EXPECT_EQ(large.code(), absl::StatusCode::kResourceExhausted);
}

TEST_F(HostStoreTest, FindGivesWhatWasPublished) {
  const Key key = TestKey("a");
  const std::vector<std::byte> container = Build({.key = key, .plane_bytes = 12'345});
  const PieceAttributes attributes{.parent = TestKey("p"), .position = 3, .recompute_seconds = 0.5};
  ASSERT_TRUE(Put(*store_, kTenant, key, container, attributes).ok());
  for (const PieceRef& piece : {store_->Find(kTenant, key), store_->Peek(kTenant, key)}) {
    ASSERT_NE(piece, nullptr);
    EXPECT_TRUE(Matches(*piece, container));
    EXPECT_EQ(piece->attributes().parent, TestKey("p"));
    EXPECT_EQ(piece->attributes().position, 3u);
    EXPECT_EQ(piece->attributes().recompute_seconds, 0.5);
    EXPECT_GE(piece->body().data(), store_->arena().data());
    EXPECT_LE(piece->body().data() + piece->body().size(),
              store_->arena().data() + store_->arena().size());
  }
  EXPECT_EQ(store_->Find(kTenant, TestKey("b")), nullptr);
}

TEST_F(HostStoreTest, TenantsSeeOnlyTheirOwn) {
  ASSERT_TRUE(Publish("a", {}, 100, 1).ok());
  const Key key = TestKey("a");
  const Digest fingerprint = TestFingerprint("n");
  EXPECT_EQ(store_->Find(2, key), nullptr);
  EXPECT_EQ(store_->Peek(2, key), nullptr);
  EXPECT_FALSE(store_->Hold(2, key, 0, Deadline::After(std::chrono::seconds(1), clock_)));
  EXPECT_FALSE(store_->Remove(2, key, nullptr));
  EXPECT_EQ(store_->RemoveNamespace(2, fingerprint), 0u);
  EXPECT_THAT(store_->List(2, nullptr, 10, nullptr).pieces, IsEmpty());
  // The same key published by another tenant is another piece.
  const std::vector<std::byte> other = Build({.key = key, .seed = 99});
  const auto outcome = Put(*store_, 2, key, other);
  ASSERT_TRUE(outcome.ok());
  EXPECT_EQ(*outcome, CommitOutcome::kStored);
  EXPECT_TRUE(Matches(*store_->Find(2, key), other));
  EXPECT_FALSE(Matches(*store_->Find(1, key), other));
  EXPECT_TRUE(store_->Remove(1, key, nullptr));
  EXPECT_NE(store_->Find(2, key), nullptr);
}

TEST_F(HostStoreTest, EvictsTheLeastRecentlyFound) {
  for (uint64_t i = 0; i < kPiecesThatFit; ++i) ASSERT_TRUE(Publish(std::to_string(i)).ok());
  ASSERT_NE(store_->Find(kTenant, TestKey("0")), nullptr);
  ASSERT_NE(store_->Peek(kTenant, TestKey("1")), nullptr);  // no use
  ASSERT_TRUE(Publish("new").ok());
  EXPECT_TRUE(Has("0"));
  EXPECT_FALSE(Has("1"));
  EXPECT_EQ(store_->usage().evicted_pieces, 1u);
  EXPECT_EQ(store_->usage().pieces, kPiecesThatFit);
}

TEST_F(HostStoreTest, NeverLeavesAHoleInAPrefix) {
  ASSERT_TRUE(Publish("c0").ok());
  for (uint64_t i = 1; i < 5; ++i) {
    ASSERT_TRUE(Publish("c" + std::to_string(i), After("c" + std::to_string(i - 1), i)).ok());
  }
  uint64_t resident = 5;
  for (int i = 0; i < 7; ++i) {
    ASSERT_TRUE(Publish("x" + std::to_string(i)).ok());
    uint64_t prefix = 0;
    while (prefix < 5 && Has("c" + std::to_string(prefix))) ++prefix;
    for (uint64_t j = prefix; j < 5; ++j) EXPECT_FALSE(Has("c" + std::to_string(j)));
    EXPECT_LE(prefix, resident);
    resident = prefix;
  }
  EXPECT_EQ(resident, 0u);
}

TEST_F(HostStoreTest, EvictsNothingThatIsBeingRead) {
  ASSERT_TRUE(Publish("read").ok());
  const PieceRef reader = store_->Find(kTenant, TestKey("read"));
  for (uint64_t i = 0; i < 2 * kPiecesThatFit; ++i) ASSERT_TRUE(Publish(std::to_string(i)).ok());
  EXPECT_TRUE(Has("read"));
}

TEST_F(HostStoreTest, RemovedPiecesStayChargedWhileRead) {
  const Key key = TestKey("a");
  const std::vector<std::byte> container = Build({.key = key, .plane_bytes = kBody});
  ASSERT_TRUE(Put(*store_, kTenant, key, container).ok());
  PieceRef reader = store_->Find(kTenant, key);
  const uint64_t used = store_->usage().bytes_used;
  ASSERT_TRUE(store_->Remove(kTenant, key, nullptr));
  EXPECT_FALSE(store_->Remove(kTenant, key, nullptr));
  EXPECT_EQ(store_->Find(kTenant, key), nullptr);
  EXPECT_EQ(store_->usage().bytes_used, used);
  EXPECT_EQ(store_->usage().bytes_pinned, used);
  // The other six fill the arena around it and are evicted in turn; its bytes do not change.
  for (uint64_t i = 0; i < 20; ++i) ASSERT_TRUE(Publish(std::to_string(i)).ok());
  EXPECT_EQ(store_->usage().pieces, kPiecesThatFit - 1);
  EXPECT_TRUE(Matches(*reader, container));
  reader.reset();
  EXPECT_EQ(store_->usage().bytes_pinned, 0u);
}

TEST_F(HostStoreTest, PiecesMayOutliveTheStore) {
  const Key key = TestKey("a");
  const std::vector<std::byte> container = Build({.key = key});
  ASSERT_TRUE(Put(*store_, kTenant, key, container).ok());
  const PieceRef reader = store_->Find(kTenant, key);
  store_.reset();
  EXPECT_TRUE(Matches(*reader, container));
}

TEST_F(HostStoreTest, RemoveOfOnePieceSparesTheSameContentPublishedAnew) {
  ASSERT_TRUE(Publish("a").ok());
  const PieceRef first = store_->Peek(kTenant, TestKey("a"));
  ASSERT_TRUE(store_->Remove(kTenant, TestKey("a"), nullptr));
  ASSERT_TRUE(Publish("a").ok());
  const PieceRef second = store_->Peek(kTenant, TestKey("a"));
  ASSERT_EQ(first->meta().header().content_id, second->meta().header().content_id);
  EXPECT_FALSE(store_->Remove(kTenant, TestKey("a"), first.get()));
  EXPECT_TRUE(Has("a"));
  EXPECT_TRUE(store_->Remove(kTenant, TestKey("a"), second.get()));
  EXPECT_FALSE(Has("a"));
}

TEST_F(HostStoreTest, HeldPiecesOutlastPressureUntilTheirTime) {
  ASSERT_TRUE(Publish("held").ok());
  ASSERT_TRUE(Hold("held", std::chrono::seconds(5)));
  EXPECT_EQ(store_->usage().bytes_held, 1 * kMiB);
  for (uint64_t i = 0; i < 20; ++i) ASSERT_TRUE(Publish(std::to_string(i)).ok());
  EXPECT_TRUE(Has("held"));
  clock_.Advance(std::chrono::seconds(5));
  EXPECT_EQ(store_->usage().bytes_held, 0u);
  ASSERT_TRUE(Publish("after").ok());
  EXPECT_FALSE(Has("held"));
}

TEST_F(HostStoreTest, HoldsAreBounded) {
  EXPECT_FALSE(Hold("absent", std::chrono::seconds(1)));
  // Of seven tenants: one alone may hold less, see below.
  const auto tenant_of = [](uint64_t i) { return static_cast<TenantId>(kTenant + i); };
  for (uint64_t i = 0; i < kPiecesThatFit; ++i) {
    ASSERT_TRUE(Publish(std::to_string(i), {}, kBody, tenant_of(i)).ok());
  }
  EXPECT_FALSE(Hold("0", std::chrono::seconds(0)));
  EXPECT_FALSE(
      store_->Hold(kTenant, TestKey("0"), 1, Deadline::After(std::chrono::seconds(1), clock_)))
      << "it has level 0 only";
  uint64_t held = 0;
  for (uint64_t i = 0; i < kPiecesThatFit; ++i) {
    if (Hold(std::to_string(i), std::chrono::hours(1), tenant_of(i))) ++held;
  }
  EXPECT_EQ(held, 3u);  // half of 7.75 MiB
  EXPECT_TRUE(Hold("0", std::chrono::hours(1))) << "holding it again takes no more";
  EXPECT_LE(store_->usage().bytes_held, kBudget / 2);
  clock_.Advance(kMaxHold);
  EXPECT_TRUE(Hold("6", std::chrono::seconds(1), tenant_of(6)))
      << "no hold lasts longer than the limit";
  EXPECT_EQ(store_->usage().bytes_held, 1 * kMiB);
}

TEST_F(HostStoreTest, NoTenantHoldsWhatOthersNeed) {
  for (uint64_t i = 0; i < kPiecesThatFit; ++i) {
    ASSERT_TRUE(Publish(std::to_string(i), {}, kBody / 2).ok());
    ASSERT_TRUE(Publish(std::to_string(i), {}, kBody / 2, 2).ok());
  }
  const auto hold_all = [&](TenantId tenant) {
    uint64_t held = 0;
    for (uint64_t i = 0; i < kPiecesThatFit; ++i) {
      if (Hold(std::to_string(i), std::chrono::seconds(5), tenant)) ++held;
    }
    return held;
  };
  const uint64_t held = hold_all(kTenant);
  EXPECT_EQ(held, 3u);  // a quarter of 7.75 MiB, in pieces of 516 KiB
  EXPECT_EQ(hold_all(2), 3u) << "the other has as much";
  // Renewing does not take more, and what ends is given back.
  EXPECT_EQ(hold_all(kTenant), held);
  ASSERT_TRUE(store_->Remove(kTenant, TestKey("0"), nullptr));
  EXPECT_EQ(hold_all(kTenant), held) << "another in its place";
}

TEST_F(HostStoreTest, NoTenantsUploadsTakeAllRoom) {
  const std::vector<std::byte> container = Build({.key = TestKey("u"), .plane_bytes = kBody});
  const UploadOffer offer = OfferOf(TestKey("u"), container);
  std::vector<std::unique_ptr<Upload>> uploads;
  absl::Status refused;
  while (uploads.size() <= kPiecesThatFit) {
    auto upload = store_->BeginUpload(kTenant, offer);
    refused = upload.status();
    if (!upload.ok()) break;
    uploads.push_back(*std::move(upload));
  }
  EXPECT_EQ(uploads.size(), 3u);  // half of 7.75 MiB
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(refused.message(), HasSubstr("its tenant has 3145728 bytes"));
  EXPECT_EQ(store_->usage().refused_uploads, 1u);
  EXPECT_TRUE(store_->BeginUpload(2, offer).ok()) << "others go on";
  // What is abandoned or stored no longer counts, and one upload alone may be larger.
  uploads.pop_back();
  EXPECT_TRUE(store_->BeginUpload(kTenant, offer).ok());
  uploads.clear();
  EXPECT_TRUE(Publish("large", {}, 6 * kMiB).ok());
  EXPECT_TRUE(Publish("again", {}, 6 * kMiB).ok());
}

TEST_F(HostStoreTest, UploadsAreRefusedBeforeAHoldBreaks) {
  TenantId tenant = kTenant;
  for (const char* name : {"a", "b", "c"}) {
    ASSERT_TRUE(Publish(name, {}, kBody, tenant).ok());
    ASSERT_TRUE(Hold(name, std::chrono::seconds(5), tenant));
    ++tenant;
  }
  ASSERT_TRUE(Publish("d").ok());
  const absl::Status status = Publish("large", {}, 5 * kMiB);
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(status.message(), HasSubstr("3145728 are held"));
  EXPECT_TRUE(Has("a"));
  EXPECT_EQ(store_->usage().pieces, 4u);
  EXPECT_TRUE(Has("d")) << "nothing is evicted for what cannot fit anyway";
  EXPECT_EQ(store_->usage().refused_uploads, 1u);
  clock_.Advance(std::chrono::seconds(5));
  EXPECT_TRUE(Publish("large", {}, 5 * kMiB).ok());
}

TEST_F(HostStoreTest, NothingIsEvictedForADirectoryThatCannotFit) {
  ASSERT_TRUE(Publish("a").ok());
  const Key key = TestKey("wide");
  const std::vector<std::byte> wide =
      Build({.key = key, .plane_bytes = 20'000, .segment_bytes = 1});
  EXPECT_EQ(Put(*store_, kTenant, key, wide).status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE(Has("a"));
}

TEST_F(HostStoreTest, TinyPiecesAreEvictedWhenTheirRecordsFillTheirShare) {
  for (int i = 0; i < 500; ++i) ASSERT_TRUE(Publish(std::to_string(i), {}, 1).ok());
  const StoreUsage usage = store_->usage();
  EXPECT_GT(usage.evicted_pieces, 0u);
  EXPECT_EQ(usage.pieces + usage.evicted_pieces, 500u);
  EXPECT_LT(usage.bytes_metadata, kBudget - store_->arena().size());
  EXPECT_TRUE(Has("499"));
  EXPECT_FALSE(Has("0"));
}

TEST_F(HostStoreTest, LaterHoldsExtendAndRemovalEndsThem) {
  ASSERT_TRUE(Publish("a").ok());
  ASSERT_TRUE(Hold("a", std::chrono::seconds(5)));
  ASSERT_TRUE(Hold("a", std::chrono::seconds(1)));  // does not shorten
  clock_.Advance(std::chrono::seconds(4));
  for (uint64_t i = 0; i < 10; ++i) ASSERT_TRUE(Publish(std::to_string(i)).ok());
  EXPECT_TRUE(Has("a"));
  EXPECT_TRUE(store_->Remove(kTenant, TestKey("a"), nullptr));
  EXPECT_EQ(store_->usage().bytes_held, 0u);
}

TEST_F(HostStoreTest, AHeldPieceIsReplacedOnlyByTheSameContent) {
  const Key key = TestKey("a");
  ASSERT_TRUE(Put(*store_, kTenant, key, Build({.key = key, .distortion = 0.5f})).ok());
  ASSERT_TRUE(Hold("a", std::chrono::seconds(5)));
  const std::vector<std::byte> better = Build({.key = key, .planes = 2});
  EXPECT_EQ(Put(*store_, kTenant, key, better).status().code(),
            absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(store_->Peek(kTenant, key)->level(), 0u);
  clock_.Advance(std::chrono::seconds(5));
  EXPECT_TRUE(Put(*store_, kTenant, key, better).ok());
  EXPECT_EQ(store_->Peek(kTenant, key)->level(), 1u);
}

TEST_F(HostStoreTest, ListsInKeyOrderPageByPage) {
  std::vector<Key> expected;
  for (int i = 0; i < 25; ++i) {
    const std::string name = std::to_string(i);
    ASSERT_TRUE(Publish(name, {}, 50, kTenant, i % 2 == 0 ? "even" : "odd").ok());
    expected.push_back(TestKey(name));
  }
  std::sort(expected.begin(), expected.end());
  std::vector<Key> listed;
  ListPage page;
  do {
    page = store_->List(kTenant, listed.empty() ? nullptr : &listed.back(), 10, nullptr);
    for (const auto& [key, summary] : page.pieces) {
      EXPECT_EQ(summary.content_id, store_->Peek(kTenant, key)->meta().header().content_id);
      listed.push_back(key);
    }
  } while (page.more);
  EXPECT_EQ(listed, expected);
  const Digest odd = TestFingerprint("odd");
  EXPECT_EQ(store_->List(kTenant, nullptr, 100, &odd).pieces.size(), 12u);
  EXPECT_TRUE(store_->List(kTenant, nullptr, 0, nullptr).more);
}

TEST_F(HostStoreTest, RemoveNamespaceTakesThatNamespaceOnly) {
  auto store = HostStore::Create({.budget_bytes = 64 * kMiB});
  ASSERT_TRUE(store.ok());
  store_ = *std::move(store);
  for (int i = 0; i < 600; ++i) {  // more than one batch
    ASSERT_TRUE(Publish("a" + std::to_string(i), {}, 50, kTenant, "a").ok());
  }
  ASSERT_TRUE(Publish("b", {}, 50, kTenant, "b").ok());
  ASSERT_TRUE(Publish("a0", {}, 50, 2, "a").ok());
  EXPECT_EQ(store_->RemoveNamespace(kTenant, TestFingerprint("a")), 600u);
  EXPECT_EQ(store_->RemoveNamespace(kTenant, TestFingerprint("a")), 0u);
  EXPECT_TRUE(Has("b"));
  EXPECT_NE(store_->Peek(2, TestKey("a0")), nullptr);
  EXPECT_EQ(store_->usage().pieces, 2u);
}

TEST_F(HostStoreTest, TheArenaReachesStoredBytes) {
  ASSERT_TRUE(Publish("a").ok());
  const PieceRef piece = store_->Find(kTenant, TestKey("a"));
  const size_t at = static_cast<size_t>(piece->body().data() - store_->arena().data());
  ASSERT_TRUE(piece->meta().VerifyBody(piece->body(), 0).ok());
  store_->arena()[at] ^= std::byte{1};
  EXPECT_EQ(piece->meta().VerifyBody(piece->body(), 0).code(), absl::StatusCode::kDataLoss);
}

}  // namespace
}  // namespace reprise::storage
