#include "storage/tiered_store.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <future>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/limits.h"
#include "storage/testing/test_piece.h"
#include "storage/testing/tiered_store_fixture.h"

namespace reprise::storage {
namespace {

using std::chrono::seconds;

TEST_F(TieredStoreTest, WhatIsPersistedIsThereAfterARestart) {
  const Key key = TestKey("a");
  const auto container = Put({.key = key, .planes = 3});
  ASSERT_TRUE(Persist(key, container).ok());
  Restart();
  EXPECT_EQ(store_->Find(kTenant, key), nullptr);
  const auto described = store_->Describe(kTenant, key);
  ASSERT_TRUE(described.has_value());
  EXPECT_EQ(described->tier, Tier::kNvme);
  EXPECT_EQ(described->planes_held, 3u);
  const PieceRef piece = Open(key);
  ASSERT_NE(piece, nullptr);
  EXPECT_TRUE(Matches(*piece, container));
  // In memory from now on.
  EXPECT_EQ(store_->Find(kTenant, key), piece);
  EXPECT_EQ(store_->Describe(kTenant, key)->tier, Tier::kHost);
  EXPECT_EQ(store_->usage().disk->loaded_pieces, 1u);
}

TEST_F(TieredStoreTest, SavingBringsEverythingThroughARestart) {
  constexpr int kPieces = 100;  // more than are written at once
  std::vector<std::vector<std::byte>> containers;
  const auto key = [](int i) { return TestKey("saved" + std::to_string(i)); };
  for (int i = 0; i < kPieces; ++i) {
    containers.push_back(Put({.key = key(i), .plane_bytes = 10'000}));
  }
  ASSERT_TRUE(Persist(key(0), containers[0]).ok());
  store_->BeginSaving();
  ASSERT_TRUE(Eventually([&] { return !store_->saving(); }));
  // Once is enough for what was there already.
  EXPECT_EQ(store_->usage().disk->demoted_pieces, kPieces - 1u);
  Restart();
  for (int i = 0; i < kPieces; ++i) {
    const PieceRef piece = Open(key(i));
    ASSERT_NE(piece, nullptr) << i;
    EXPECT_TRUE(Matches(*piece, containers[static_cast<size_t>(i)])) << i;
  }
}

TEST_F(TieredStoreTest, SavingThatIsGivenUpEndsWithWhatHasBegun) {
  for (int i = 0; i < 100; ++i) {
    Put({.key = TestKey("saved" + std::to_string(i)), .plane_bytes = 10'000});
  }
  store_->BeginSaving();
  Restart();
  EXPECT_LE(store_->usage().disk->pieces, 100u);
  EXPECT_EQ(store_->usage().disk->damaged_pieces, 0u);
}

TEST_F(TieredStoreTest, OpenBringsNoMorePlanesThanAskedFor) {
  const Key key = TestKey("a");
  const auto container = Put({.key = key, .planes = 3});
  ASSERT_TRUE(Persist(key, container).ok());
  DropFromMemory(key);
  const PieceRef first = Open(key, 0);
  ASSERT_NE(first, nullptr);
  EXPECT_TRUE(Matches(*first, CutTo(container, 1)));
  EXPECT_EQ(store_->Describe(kTenant, key)->planes_held, 3u);
  EXPECT_EQ(store_->Describe(kTenant, key)->tier, Tier::kNvme);
  // The rest joins what memory has.
  const PieceRef all = Open(key, 2);
  ASSERT_NE(all, nullptr);
  EXPECT_TRUE(Matches(*all, container));
  EXPECT_TRUE(Matches(*first, CutTo(container, 1)));
}

TEST_F(TieredStoreTest, ManyOpensOfOnePieceReadItOnce) {
  const Key key = TestKey("a");
  const auto container = Put({.key = key, .planes = 2});
  ASSERT_TRUE(Persist(key, container).ok());
  DropFromMemory(key);
  constexpr int kOpens = 50;
  std::vector<std::promise<PieceRef>> opened(kOpens);
  for (std::promise<PieceRef>& promise : opened) {
    store_->Open(kTenant, key, 1, [&](PieceRef piece) { promise.set_value(std::move(piece)); });
  }
  for (std::promise<PieceRef>& promise : opened) {
    const PieceRef piece = promise.get_future().get();
    ASSERT_NE(piece, nullptr);
    EXPECT_TRUE(Matches(*piece, container));
  }
  EXPECT_EQ(store_->usage().disk->loaded_pieces, 1u);
}

TEST_F(TieredStoreTest, WhatMemoryHasNoRoomForGoesToTheDiskAndComesBack) {
  std::vector<std::pair<Key, std::vector<std::byte>>> pieces;
  // Five times the memory; each has gone to the disk before it has to go.
  for (int i = 0; i < 400; ++i) {
    const Key key = TestKey("piece " + std::to_string(i));
    pieces.emplace_back(
        key, Put({.key = key, .plane_bytes = 100'000, .seed = static_cast<uint32_t>(i)}));
    ASSERT_TRUE(Eventually(
        [&] { return store_->usage().disk->demoted_pieces + 68 >= static_cast<uint64_t>(i); }));
  }
  EXPECT_GT(store_->usage().evicted_pieces, 300u);
  // Those that memory has still might go before they are written, when so many come in at once.
  for (size_t i = pieces.size() - 100; i < pieces.size(); ++i) {
    ASSERT_TRUE(Persist(pieces[i].first, pieces[i].second).ok());
  }
  size_t found = 0;
  for (const auto& [key, container] : pieces) {
    const PieceRef piece = Open(key);
    if (piece == nullptr) continue;
    ++found;
    ASSERT_TRUE(Matches(*piece, container));
  }
  EXPECT_EQ(found, pieces.size());
}

TEST_F(TieredStoreTest, RemovedMeansRemovedFromBoth) {
  const Key on_disk = TestKey("disk");
  const Key in_both = TestKey("both");
  ASSERT_TRUE(Persist(on_disk, Put({.key = on_disk})).ok());
  ASSERT_TRUE(Persist(in_both, Put({.key = in_both})).ok());
  DropFromMemory(on_disk);
  for (const Key& key : {on_disk, in_both}) {
    EXPECT_TRUE(store_->Remove(kTenant, key, nullptr));
    EXPECT_FALSE(store_->Describe(kTenant, key).has_value());
    EXPECT_EQ(Open(key), nullptr);
    EXPECT_FALSE(store_->Remove(kTenant, key, nullptr));
  }
  // A durable write after a removal makes that durable too.
  const Key other = TestKey("other");
  ASSERT_TRUE(Persist(other, Put({.key = other})).ok());
  Restart();
  EXPECT_FALSE(store_->Describe(kTenant, on_disk).has_value());
  EXPECT_FALSE(store_->Describe(kTenant, in_both).has_value());
}

TEST_F(TieredStoreTest, ARemovalWinsOverLoadsAndWritesUnderWay) {
  for (int round = 0; round < 100; ++round) {
    const Key key = TestKey("round " + std::to_string(round));
    const auto container = Put({.key = key});
    if (round % 2 == 0) {
      ASSERT_TRUE(Persist(key, container).ok());
      DropFromMemory(key);
    }
    std::promise<void> ended;
    if (round % 2 == 0) {
      store_->Open(kTenant, key, 0, [&](const PieceRef&) { ended.set_value(); });
    } else {
      store_->Persist(kTenant, key, OfferOf(key, container).quality.content_id,
                      [&](const absl::Status&) { ended.set_value(); });
    }
    EXPECT_TRUE(store_->Remove(kTenant, key, nullptr)) << round;
    EXPECT_FALSE(store_->Describe(kTenant, key).has_value()) << round;
    EXPECT_THAT(store_->List(kTenant, nullptr, 10, nullptr).pieces, ::testing::IsEmpty());
    ended.get_future().get();
    EXPECT_FALSE(store_->Describe(kTenant, key).has_value()) << round;
    EXPECT_EQ(Open(key), nullptr) << round;
  }
}

// What is removed while it is being written comes to the disk and is not shown there.
TEST_F(TieredStoreTest, AListGoesOnPastWhatIsBeingRemoved) {
  std::vector<std::pair<Key, std::vector<std::byte>>> pieces;
  for (int i = 0; i < 60; ++i) {
    const Key key = TestKey(std::to_string(i));
    pieces.emplace_back(key, Put({.key = key, .plane_bytes = 20'000}));
  }
  std::sort(pieces.begin(), pieces.end());
  const Key last = pieces.back().first;
  ASSERT_TRUE(Persist(last, pieces.back().second).ok());
  pieces.pop_back();
  std::atomic<size_t> ended = 0;
  for (const auto& [key, container] : pieces) {
    store_->Persist(kTenant, key, OfferOf(key, container).quality.content_id,
                    [&](const absl::Status&) { ++ended; });
  }
  for (const auto& [key, container] : pieces) EXPECT_TRUE(store_->Remove(kTenant, key, nullptr));
  while (ended < pieces.size()) {
    const ListPage page = store_->List(kTenant, nullptr, 1, nullptr);
    ASSERT_EQ(page.pieces.size(), 1u);
    EXPECT_EQ(page.pieces[0].key, last);
  }
}

TEST_F(TieredStoreTest, ANamespaceGoesFromBoth) {
  const Digest fingerprint = TestFingerprint("gone");
  const Key on_disk = TestKey("disk");
  const Key in_memory = TestKey("memory");
  const Key other = TestKey("other");
  ASSERT_TRUE(Persist(on_disk, Put({.key = on_disk, .fingerprint = fingerprint})).ok());
  DropFromMemory(on_disk);
  Put({.key = in_memory, .fingerprint = fingerprint});
  Put({.key = other});
  EXPECT_EQ(store_->RemoveNamespace(kTenant, fingerprint), 2u);
  const ListPage page = store_->List(kTenant, nullptr, 10, nullptr);
  ASSERT_EQ(page.pieces.size(), 1u);
  EXPECT_EQ(page.pieces[0].key, other);
}

TEST_F(TieredStoreTest, AListHasEachPieceOnceInOrder) {
  std::vector<Key> keys;
  for (int i = 0; i < 30; ++i) {
    const Key key = TestKey(std::to_string(i));
    const auto container = Put({.key = key, .plane_bytes = 1000, .planes = 2});
    if (i % 3 > 0) {
      ASSERT_TRUE(Persist(key, container).ok());
    }
    if (i % 3 == 1) DropFromMemory(key);
    keys.push_back(key);
  }
  std::sort(keys.begin(), keys.end());
  std::vector<Key> listed;
  std::optional<Key> after;
  for (bool more = true; more;) {
    const ListPage page = store_->List(kTenant, after.has_value() ? &*after : nullptr, 7, nullptr);
    ASSERT_LE(page.pieces.size(), 7u);
    for (const ListPage::Entry& entry : page.pieces) {
      listed.push_back(entry.key);
      EXPECT_EQ(entry.summary.planes_held, 2u);
    }
    more = page.more;
    after = page.pieces.back().key;
  }
  EXPECT_EQ(listed, keys);
}

TEST_F(TieredStoreTest, BetterContentTakesThePlaceOfWhatTheDiskHas) {
  const Key key = TestKey("a");
  const auto old = Put({.key = key, .seed = 1, .distortion = 0.5});
  ASSERT_TRUE(Persist(key, old).ok());
  const auto better = Put({.key = key, .seed = 2, .distortion = 0.25});
  EXPECT_EQ(store_->Describe(kTenant, key)->content_id, OfferOf(key, better).quality.content_id);
  ASSERT_TRUE(Persist(key, better).ok());
  Restart();
  const PieceRef piece = Open(key);
  ASSERT_NE(piece, nullptr);
  EXPECT_TRUE(Matches(*piece, better));
}

TEST_F(TieredStoreTest, PersistSaysWhatIsNotHeld) {
  const Key key = TestKey("a");
  const auto container = Put({.key = key, .seed = 1});
  EXPECT_TRUE(absl::IsNotFound(Persist(TestKey("b"), container)));
  EXPECT_TRUE(absl::IsNotFound(Persist(key, Build({.key = key, .seed = 2}))));
  // Also what only the disk has can be made durable, again.
  ASSERT_TRUE(Persist(key, container).ok());
  DropFromMemory(key);
  EXPECT_TRUE(Persist(key, container).ok());
}

// Flips a bit in the middle of the container, wherever it lies on the disk of a store that is gone.
void FlipOnDisk(const std::filesystem::path& directory, ByteSpan container) {
  // The middle of the piece, wherever it lies.
  const std::string_view middle = AsText(container.subspan(container.size() / 2, 64));
  size_t flipped = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(directory)) {
    if (!entry.is_regular_file() || entry.path().extension() != ".seg") continue;
    std::fstream file(entry.path(), std::ios::in | std::ios::out | std::ios::binary);
    std::string bytes(std::filesystem::file_size(entry.path()), '\0');
    file.read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    const size_t at = bytes.find(middle);
    if (at == std::string::npos) continue;
    file.seekp(static_cast<std::streamoff>(at));
    file.put(static_cast<char>(bytes[at] ^ 1));
    ++flipped;
  }
  ASSERT_EQ(flipped, 1u);
}

TEST_F(TieredStoreTest, TheScrubberForgetsWhatTheDiskLost) {
  const Key kept = TestKey("a");
  const Key lost = TestKey("b");
  ASSERT_TRUE(Persist(kept, Put({.key = kept, .seed = 1})).ok());
  const auto container = Put({.key = lost, .seed = 2});
  ASSERT_TRUE(Persist(lost, container).ok());
  store_.reset();
  FlipOnDisk(directory_, container);
  Start();
  store_->Sweep();
  EXPECT_TRUE(store_->Describe(kTenant, lost).has_value());
  clock_.Advance(std::chrono::minutes(1));
  store_->Sweep();
  ASSERT_TRUE(Eventually([&] { return store_->usage().disk->damaged_pieces == 1; }));
  EXPECT_FALSE(store_->Describe(kTenant, lost).has_value());
  EXPECT_TRUE(store_->Describe(kTenant, kept).has_value());
}

TEST_F(TieredStoreTest, DamageOnTheDiskIsAMissAndForgotten) {
  const Key key = TestKey("a");
  const auto container = Put({.key = key});
  ASSERT_TRUE(Persist(key, container).ok());
  store_.reset();
  FlipOnDisk(directory_, container);
  Start();
  ASSERT_TRUE(store_->Describe(kTenant, key).has_value());
  EXPECT_EQ(Open(key), nullptr);
  EXPECT_FALSE(store_->Describe(kTenant, key).has_value());
  EXPECT_EQ(store_->usage().disk->damaged_pieces, 1u);
  // And can be published again.
  Put({.key = key});
  ASSERT_NE(Open(key), nullptr);
}

TEST_F(TieredStoreTest, HoldsReachBothTiers) {
  const Key key = TestKey("a");
  const auto container = Put({.key = key, .planes = 2});
  ASSERT_TRUE(Persist(key, container).ok());
  EXPECT_TRUE(store_->Hold(kTenant, key, 1, Deadline::After(seconds(10))));
  DropFromMemory(key);
  EXPECT_TRUE(store_->Hold(kTenant, key, 1, Deadline::After(seconds(10))));
  EXPECT_FALSE(store_->Hold(kTenant, key, 2, Deadline::After(seconds(10))));
  EXPECT_FALSE(store_->Hold(kTenant, TestKey("b"), 0, Deadline::After(seconds(10))));
}

TEST_F(TieredStoreTest, TenantsKeepTheirNumbers) {
  const TenantId search = store_->TenantFor("search").value();
  const TenantId chat = store_->TenantFor("chat").value();
  EXPECT_NE(search, chat);
  Restart();
  EXPECT_EQ(store_->TenantFor("chat").value(), chat);
  EXPECT_EQ(store_->TenantFor("search").value(), search);
}

TEST_F(TieredStoreTest, EndingWithWorkUnderWayAnswersAll) {
  std::vector<std::pair<Key, std::vector<std::byte>>> pieces;
  for (int i = 0; i < 40; ++i) {
    const Key key = TestKey(std::to_string(i));
    pieces.emplace_back(key, Put({.key = key}));
    ASSERT_TRUE(Persist(key, pieces.back().second).ok());
    DropFromMemory(key);
  }
  std::atomic<int> answers{0};
  for (const auto& [key, container] : pieces) {
    store_->Open(kTenant, key, 0, [&](const PieceRef&) { ++answers; });
    store_->Persist(kTenant, key, OfferOf(key, container).quality.content_id,
                    [&](const absl::Status&) { ++answers; });
  }
  store_.reset();
  EXPECT_EQ(answers.load(), 80);
}

}  // namespace
}  // namespace reprise::storage
