// Many threads on one small store. Run under TSan; without it, this still shows that no reader ever
// sees bytes other than those that somebody published under the key.

#include <atomic>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/limits.h"
#include "storage/host/host_store.h"
#include "storage/testing/planes_first.h"
#include "storage/testing/test_piece.h"

namespace reprise::storage {
namespace {

constexpr uint64_t kBudget = 4 * kMiB;
constexpr uint32_t kKeys = 40;
constexpr uint32_t kSeeds = 2;
constexpr TenantId kTenants = 2;

struct Published {
  Key key;
  std::vector<std::byte> container;
};

// Both with a policy that gives up whole pieces and with one that sheds.
class HostStoreStressTest : public ::testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    PolicyFactory policy;
    if (GetParam()) policy = [](size_t) { return std::make_unique<PlanesFirst>(); };
    auto store =
        HostStore::Create({.budget_bytes = kBudget, .make_policy = policy, .clock = &clock_});
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = *std::move(store);
    std::mt19937 random(1);
    for (uint32_t i = 0; i < kTenants * kKeys * kSeeds; ++i) {
      const Key key = TestKey(std::to_string(i / kSeeds % kKeys));
      const uint32_t planes = 1 + static_cast<uint32_t>(random() % 2);
      published_.push_back({key, Build({.key = key,
                                        .fingerprint = TestFingerprint("n"),
                                        .plane_bytes = 1 + random() % 200'000,
                                        .planes = planes,
                                        .seed = i})});
    }
  }

  const Published& Of(TenantId tenant, uint32_t key, uint32_t seed) const {
    return published_[(tenant * kKeys + key) * kSeeds + seed];
  }

  bool IsOneOf(const HeldPiece& piece, TenantId tenant, uint32_t key) const {
    for (uint32_t seed = 0; seed < kSeeds; ++seed) {
      const std::vector<std::byte>& container = Of(tenant, key, seed).container;
      const bool same = OfferOf(Of(tenant, key, seed).key, container).quality.content_id ==
                        piece.meta().header().content_id;
      if (same && Matches(piece, CutTo(container, piece.level() + 1))) return true;
    }
    return false;
  }

  void Publish(std::mt19937& random, const Published& piece, TenantId tenant, uint32_t key) {
    PieceAttributes attributes{.parent = std::nullopt, .position = key % 5, .recompute_seconds = 1};
    if (key % 5 > 0) attributes.parent = Of(tenant, key - 1, 0).key;
    auto upload = store_->BeginUpload(tenant, OfferOf(piece.key, piece.container, attributes));
    if (!upload.ok()) {
      if (upload.status().code() != absl::StatusCode::kResourceExhausted) ++failures_;
      return;
    }
    const size_t from = (*upload)->from_offset();
    const size_t cut = from + random() % (piece.container.size() - from);
    const ByteSpan bytes(piece.container);
    if (!(*upload)->Write(cut, bytes.subspan(cut)).ok()) ++failures_;
    if (random() % 8 == 0) return;  // abandoned
    if (!(*upload)->Write(from, bytes.subspan(from, cut - from)).ok()) ++failures_;
    const auto outcome = (*upload)->Commit();
    if (!outcome.ok() && outcome.status().code() != absl::StatusCode::kResourceExhausted) {
      ++failures_;
    }
  }

  void Work(uint32_t seed) {
    std::mt19937 random(seed);
    std::vector<PieceRef> kept(4);
    for (int step = 0; step < 1500; ++step) {
      const TenantId tenant = static_cast<TenantId>(random() % kTenants);
      const uint32_t key = static_cast<uint32_t>(random() % kKeys);
      const Published& piece = Of(tenant, key, static_cast<uint32_t>(random() % kSeeds));
      switch (random() % 16) {
        case 0:
          store_->Remove(tenant, piece.key, nullptr);
          break;
        case 1:
          store_->Hold(tenant, piece.key, 0, Deadline::After(std::chrono::milliseconds(3), clock_));
          clock_.Advance(std::chrono::milliseconds(1));
          break;
        case 2: {
          const ListPage page = store_->List(tenant, nullptr, 10, nullptr);
          for (const auto& [listed, summary] : page.pieces) {
            if (summary.namespace_fingerprint != TestFingerprint("n")) ++failures_;
          }
          break;
        }
        case 3:
          if (random() % 20 == 0) store_->RemoveNamespace(tenant, TestFingerprint("n"));
          if (store_->usage().bytes_used > kBudget) ++failures_;
          break;
        case 4:
        case 5:
        case 6:
        case 7:
          Publish(random, piece, tenant, key);
          break;
        default: {
          PieceRef found = store_->Find(tenant, piece.key);
          if (found != nullptr && !IsOneOf(*found, tenant, key)) ++failures_;
          found_ += found != nullptr ? 1 : 0;
          kept[random() % kept.size()] = std::move(found);
        }
      }
    }
  }

  ManualClock clock_;
  std::unique_ptr<HostStore> store_;
  std::vector<Published> published_;
  std::atomic<int> failures_{0};
  std::atomic<int> found_{0};
};

TEST_P(HostStoreStressTest, ReadersSeeOnlyWhatWasPublished) {
  std::vector<std::thread> threads;
  for (uint32_t id = 0; id < 4; ++id) threads.emplace_back([this, id] { Work(id); });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(failures_, 0);
  EXPECT_GT(found_, 100);
  EXPECT_GT(store_->usage().evicted_pieces, 10u);
  for (TenantId tenant = 0; tenant < kTenants; ++tenant) {
    store_->RemoveNamespace(tenant, TestFingerprint("n"));
  }
  const StoreUsage usage = store_->usage();
  EXPECT_EQ(usage.pieces, 0u);
  EXPECT_EQ(usage.uploads, 0u);
  EXPECT_EQ(usage.bytes_used, 0u);
  EXPECT_EQ(usage.bytes_pinned, 0u);
}

TEST_P(HostStoreStressTest, OfManyUploadsOfOneKeyOneWins) {
  for (uint32_t round = 0; round < 20; ++round) {
    const uint32_t key = round % kKeys;
    std::vector<std::thread> threads;
    std::atomic<int> stored{0};
    std::atomic<int> already_held{0};
    for (uint32_t id = 0; id < 4; ++id) {
      threads.emplace_back([&] {
        const Published& piece = Of(0, key, 0);
        const auto outcome = Put(*store_, 0, piece.key, piece.container);
        if (!outcome.ok()) return;
        ++(*outcome == CommitOutcome::kStored ? stored : already_held);
      });
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(stored, 1);
    EXPECT_EQ(already_held, 3);
    EXPECT_TRUE(Matches(*store_->Find(0, Of(0, key, 0).key), Of(0, key, 0).container));
    ASSERT_TRUE(store_->Remove(0, Of(0, key, 0).key, nullptr));
  }
}

INSTANTIATE_TEST_SUITE_P(Policies, HostStoreStressTest, ::testing::Bool());

}  // namespace
}  // namespace reprise::storage
