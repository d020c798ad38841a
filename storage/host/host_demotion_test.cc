#include <algorithm>
#include <atomic>
#include <cstring>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/limits.h"
#include "storage/host/host_store.h"
#include "storage/host/host_upload.h"
#include "storage/testing/test_piece.h"

namespace reprise::storage {
namespace {

constexpr TenantId kTenant = 1;

class HostDemotionTest : public ::testing::Test {
 protected:
  HostDemotionTest() : store_(HostStore::Create({.budget_bytes = 4 * kMiB}).value()) {}

  // Loads the container's bytes as a disk would bring them: in whole blocks, with `tail` behind.
  absl::StatusOr<PieceRef> Load(const Key& key, ByteSpan container, std::byte tail = {}) {
    auto load = store_->BeginLoad(kTenant, OfferOf(key, container), /*fresh_too=*/true);
    if (!load.ok()) return load.status();
    const MutableByteSpan area = (*load)->load_area();
    std::ranges::fill(area, tail);
    std::ranges::copy(container.subspan((*load)->load_from_offset()), area.begin());
    return (*load)->CommitLoad(cancelled_);
  }

  // A chain of pieces, each building on the one before.
  std::vector<Key> PutChain(const std::string& name, int length, uint64_t plane_bytes = 50'000) {
    std::vector<Key> keys;
    for (int i = 0; i < length; ++i) {
      const Key key = TestKey(name + std::to_string(i));
      PieceAttributes attributes;
      attributes.position = static_cast<uint64_t>(i);
      if (i > 0) attributes.parent = keys.back();
      const auto container = Build({.key = key, .plane_bytes = plane_bytes});
      EXPECT_TRUE(Put(*store_, kTenant, key, container, attributes).ok());
      keys.push_back(key);
    }
    return keys;
  }

  std::vector<Key> Demote(uint64_t ahead_bytes, size_t limit, bool copied) {
    std::vector<Key> keys;
    for (const auto& piece : store_->BeginDemotion(ahead_bytes, limit)) {
      keys.push_back(piece->key());
      store_->EndDemotion(*piece, copied);
    }
    return keys;
  }

  std::unique_ptr<HostStore> store_;
  std::atomic<bool> cancelled_{false};
};

TEST_F(HostDemotionTest, ALoadedPieceIsHeldAsItWas) {
  const Key key = TestKey("a");
  const auto container = Build({.key = key, .plane_bytes = 5000, .planes = 3});
  const auto piece = Load(key, container, std::byte{0xff});
  ASSERT_TRUE(piece.ok()) << piece.status();
  EXPECT_TRUE(Matches(**piece, container));
  EXPECT_EQ(store_->Find(kTenant, key), *piece);
  // What the disk had behind the container is not kept.
  const ByteSpan padded = static_cast<const HostPiece&>(**piece).padded_container();
  EXPECT_EQ(padded.size() % kPlaneAlignment, 0u);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(padded.data()) % kPlaneAlignment, 0u);
  EXPECT_TRUE(std::ranges::all_of(padded.subspan(container.size()),
                                  [](std::byte byte) { return byte == std::byte{0}; }));
}

TEST_F(HostDemotionTest, ALoadBringsOnlyTheMissingPlanes) {
  const Key key = TestKey("a");
  const auto container = Build({.key = key, .plane_bytes = 5000, .planes = 3});
  ASSERT_TRUE(Put(*store_, kTenant, key, CutTo(container, 1)).ok());
  const auto load = store_->BeginLoad(kTenant, OfferOf(key, container), /*fresh_too=*/true);
  ASSERT_TRUE(load.ok());
  EXPECT_EQ((*load)->load_from_offset() % kPlaneAlignment, 0u);
  EXPECT_GE((*load)->load_from_offset(), CutTo(container, 1).size());
  EXPECT_LT((*load)->load_from_offset(), CutTo(container, 2).size());
  std::ranges::copy(ByteSpan(container).subspan((*load)->load_from_offset()),
                    (*load)->load_area().begin());
  const auto piece = (*load)->CommitLoad(cancelled_);
  ASSERT_TRUE(piece.ok()) << piece.status();
  EXPECT_TRUE(Matches(**piece, container));
}

TEST_F(HostDemotionTest, DamagedAndRemovedPiecesDoNotAppear) {
  const Key key = TestKey("a");
  auto container = Build({.key = key, .plane_bytes = 5000});
  container.back() ^= std::byte{1};
  EXPECT_EQ(Load(key, container).status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(store_->Find(kTenant, key), nullptr);
  container.back() ^= std::byte{1};
  cancelled_ = true;
  EXPECT_EQ(Load(key, container).status().code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(store_->Find(kTenant, key), nullptr);
  EXPECT_EQ(store_->usage().bytes_pinned, 0u);
}

TEST_F(HostDemotionTest, WhatWasPublishedMeanwhileIsNewer) {
  const Key key = TestKey("a");
  const auto old = Build({.key = key, .plane_bytes = 5000, .seed = 1, .distortion = 0});
  const auto held = Build({.key = key, .plane_bytes = 5000, .seed = 2, .distortion = 0.5});
  ASSERT_TRUE(Put(*store_, kTenant, key, held).ok());
  const auto piece = Load(key, old);
  ASSERT_TRUE(piece.ok()) << piece.status();
  EXPECT_TRUE(Matches(**piece, held));
  EXPECT_TRUE(Matches(*store_->Find(kTenant, key), held));
}

TEST_F(HostDemotionTest, NothingIsDemotedWhileThereIsRoom) {
  PutChain("a", 5);
  EXPECT_THAT(Demote(1 * kMiB, 100, true), ::testing::IsEmpty());
}

TEST_F(HostDemotionTest, WhatGoesNextIsDemotedAncestorsFirst) {
  const auto old = PutChain("old", 3);
  const auto young = PutChain("young", 3);
  EXPECT_EQ(Demote(4 * kMiB, 3, false), old);
  // It came to nothing, so it is told of again; then it is done.
  EXPECT_EQ(Demote(4 * kMiB, 3, true), old);
  EXPECT_EQ(Demote(4 * kMiB, 100, true), young);
  EXPECT_THAT(Demote(4 * kMiB, 100, true), ::testing::IsEmpty());
}

TEST_F(HostDemotionTest, APieceIsToldOfOnceAtATime) {
  PutChain("a", 2);
  const auto first = store_->BeginDemotion(4 * kMiB, 100);
  EXPECT_EQ(first.size(), 2u);
  EXPECT_THAT(store_->BeginDemotion(4 * kMiB, 100), ::testing::IsEmpty());
  // Published anew while the old one was being copied: the new one has no copy.
  store_->Remove(kTenant, first[0]->key(), nullptr);
  PutChain("a", 1);
  for (const auto& piece : first) store_->EndDemotion(*piece, true);
  EXPECT_THAT(Demote(4 * kMiB, 100, true), ::testing::ElementsAre(first[0]->key()));
}

TEST_F(HostDemotionTest, OfOnePieceWhatItBuildsOnComesFirst) {
  const auto old = PutChain("old", 3);
  const auto young = PutChain("young", 2);
  const auto begin = [&](const Key& key) {
    std::vector<Key> keys;
    const auto piece = std::static_pointer_cast<const HostPiece>(store_->Peek(kTenant, key));
    for (const auto& found : store_->BeginDemotionOf(*piece)) {
      keys.push_back(found->key());
      store_->EndDemotion(*found, true);
    }
    return keys;
  };
  EXPECT_THAT(begin(old[1]), ::testing::ElementsAre(old[0], old[1]));
  EXPECT_THAT(begin(old[2]), ::testing::ElementsAre(old[2]));
  EXPECT_THAT(begin(young[1]), ::testing::ElementsAreArray(young));
  EXPECT_THAT(begin(young[1]), ::testing::IsEmpty());
}

TEST_F(HostDemotionTest, ACircleOfParentsEnds) {
  const Key a = TestKey("a");
  const Key b = TestKey("b");
  for (const auto& [key, parent] : {std::pair(a, b), std::pair(b, a)}) {
    PieceAttributes attributes;
    attributes.position = 1;
    attributes.parent = parent;
    ASSERT_TRUE(Put(*store_, kTenant, key, Build({.key = key}), attributes).ok());
  }
  const auto piece = std::static_pointer_cast<const HostPiece>(store_->Peek(kTenant, a));
  EXPECT_LE(store_->BeginDemotionOf(*piece).size(), 2u);
}

TEST_F(HostDemotionTest, TheEvictionOrderHasWhatIsHeldAndEndsTheHold) {
  const auto old = PutChain("old", 1);
  const auto young = PutChain("young", 1);
  ASSERT_TRUE(store_->Hold(kTenant, old[0], 0, Deadline::After(std::chrono::seconds(30))));
  std::vector<Key> keys;
  for (const auto& piece : store_->EvictionOrder()) keys.push_back(piece->key());
  EXPECT_THAT(keys, ::testing::ElementsAre(old[0], young[0]));
  EXPECT_EQ(store_->usage().bytes_held, 0u);
}

TEST_F(HostDemotionTest, WhatCameFromBelowHasItsCopy) {
  const Key key = TestKey("a");
  ASSERT_TRUE(Load(key, Build({.key = key, .plane_bytes = 5000})).ok());
  EXPECT_THAT(Demote(4 * kMiB, 100, true), ::testing::IsEmpty());
}

}  // namespace
}  // namespace reprise::storage
