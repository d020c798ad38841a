// What a user of the client relies on, with a real store behind it: round trips, damage in the
// store's memory, and walls between namespaces and tenants.

#include <algorithm>
#include <random>

#include <gtest/gtest.h>

#include "chunk/testing/sample_piece.h"
#include "tests/integration/client_store_fixture.h"

namespace reprise {
namespace {

using client::AttentionNamespace;
using client::HybridNamespace;
using client::LatentNamespace;
using client::Layout;
using client::SampleKeys;
using client::SampleTensors;
using client::StateNamespace;

uint64_t Misses(const Client& client, MissReason reason) {
  return client.counters().misses[static_cast<size_t>(reason)];
}

TEST_F(ClientStoreTest, EveryKindOfGroupComesBackAsItWas) {
  auto writer = Connect();
  auto reader = Connect();
  for (const Namespace& name_space : {AttentionNamespace(), LatentNamespace(), HybridNamespace()}) {
    const PrefixKeys keys = SampleKeys(name_space, 6);
    Publish(*writer, keys, 6, 77);
    auto hit = reader->Lookup(keys, {.hold = std::chrono::seconds(1)}, Soon()).Wait();
    ASSERT_TRUE(hit.ok()) << hit.status();
    EXPECT_EQ(hit->chunks, 6u);
    for (const Layout layout :
         {Layout::kContiguous, Layout::kHeadsFirst, Layout::kTokensBackwards}) {
      SampleTensors loaded(name_space, 0, 6, layout);
      auto result = reader->Load(keys, 0, 6, loaded.views(), {.expected = &*hit}, Soon()).Wait();
      ASSERT_TRUE(result.ok()) << result.status();
      EXPECT_EQ(result->chunks, 6u);
      EXPECT_TRUE(result->lossless);
      EXPECT_TRUE(loaded.Holds(77, 0, 0, 6));
      if (name_space.groups.size() > 1) {
        EXPECT_TRUE(loaded.Holds(77, 1, 4, 6));
      }
      EXPECT_TRUE(loaded.GuardsIntact());
    }
  }
}

TEST_F(ClientStoreTest, AStateComesBackBesideAttention) {
  auto client = Connect();
  const Namespace name_space = StateNamespace();
  const PrefixKeys keys = SampleKeys(name_space, 4);
  Publish(*client, keys, 4, 78);
  EXPECT_EQ(client->Lookup(keys, {}, Soon()).Wait()->chunks, 4u);
  SampleTensors loaded(name_space, 0, 4, Layout::kHeadsFirst);
  auto result = client->Load(keys, 0, 4, loaded.views(), {}, Soon()).Wait();
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->chunks, 4u);
  EXPECT_TRUE(loaded.Holds(78, 0, 0, 4));
  EXPECT_TRUE(loaded.Holds(78, 1, 3, 4));
  EXPECT_TRUE(loaded.Holds(78, 2, 0, 4));
}

TEST_F(ClientStoreTest, ASharedPrefixIsAHitForItsLength) {
  auto client = Connect();
  const Namespace name_space = AttentionNamespace();
  std::vector<uint32_t> tokens = client::SampleTokens(6 * name_space.chunk_tokens);
  Publish(*client, *PrefixKeys::Create(name_space, "", tokens), 6, 5);
  tokens[4 * name_space.chunk_tokens] += 1;  // the first token of chunk 4
  const PrefixKeys other = *PrefixKeys::Create(name_space, "", tokens);
  auto hit = client->Lookup(other, {}, Soon()).Wait();
  ASSERT_TRUE(hit.ok());
  EXPECT_EQ(hit->chunks, 4u);
  SampleTensors loaded(name_space, 0, 6, Layout::kContiguous);
  auto result = client->Load(other, 0, 6, loaded.views(), {}, Soon()).Wait();
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result->chunks, 4u);
  EXPECT_TRUE(loaded.Holds(5, 0, 4));
  ASSERT_EQ(result->misses.size(), 1u);
  EXPECT_EQ(result->misses[0].chunk, 4u);
  EXPECT_EQ(result->misses[0].reason, MissReason::kAbsent);
}

// The second "Must hold" of corruption: anywhere in a stored piece, one wrong bit is a miss, never
// data.
TEST_F(ClientStoreTest, TenThousandFlippedBitsAreNeverServed) {
  auto client = Connect();
  // Enough keys that the check which the client asks for by itself is over before a key's next
  // turn.
  constexpr uint32_t kChunks = 16;
  const PrefixKeys keys = SampleKeys(AttentionNamespace(), kChunks);
  Publish(*client, keys, kChunks, 3);
  std::mt19937 random(20261122);
  constexpr int kFlips = 10'000;
  uint64_t damaged = 0;
  for (int i = 0; i < kFlips; ++i) {
    const uint32_t chunk = static_cast<uint32_t>(i) % kChunks;
    const Key key = keys.key(chunk, static_cast<size_t>(i) / kChunks % keys.pieces_per_chunk());
    auto intact = client->FetchPiece(key, keys.fingerprint(), kMaxPlanes - 1, Soon()).Wait();
    ASSERT_TRUE(intact.ok() && !intact->miss.has_value()) << "before flip " << i;
    // Header and directory take turns with the body, which is much longer.
    const MutableByteSpan bytes = i % 2 == 0 ? StoredMeta(key) : StoredBody(key);
    const size_t at = random() % bytes.size();
    bytes[at] ^= std::byte{1} << (random() % 8);

    if (i % 10 == 0) {
      SampleTensors loaded(keys.name_space(), chunk, 1, Layout::kContiguous);
      auto result = client->Load(keys, chunk, 1, loaded.views(), {}, Soon()).Wait();
      ASSERT_TRUE(result.ok());
      ASSERT_EQ(result->chunks, 0u) << "flip " << i << " at byte " << at;
      ASSERT_EQ(result->misses.size(), 1u);
      damaged += result->misses[0].reason == MissReason::kCorrupt ||
                 result->misses[0].reason == MissReason::kUnknownFormat;
      ASSERT_TRUE(loaded.GuardsIntact());
    } else {
      auto fetched = client->FetchPiece(key, keys.fingerprint(), kMaxPlanes - 1, Soon()).Wait();
      ASSERT_TRUE(fetched.ok());
      ASSERT_TRUE(fetched->miss.has_value()) << "flip " << i << " at byte " << at;
      damaged += fetched->miss->reason == MissReason::kCorrupt ||
                 fetched->miss->reason == MissReason::kUnknownFormat;
      ASSERT_TRUE(fetched->container.empty());
    }
    // The store was told, or is told now: it drops the piece, and takes it anew.
    auto stat = client->Stat(key, true, Soon()).Wait();
    ASSERT_TRUE(stat.ok()) << stat.status();
    ASSERT_FALSE(stat->info.has_value());
    auto published =
        client->PublishPiece(SharedBytes::CopyOf(intact->container), {}, Soon()).Wait();
    ASSERT_TRUE(published.ok()) << published.status();
    ASSERT_EQ(published->pieces_stored, 1u) << "flip " << i;
  }
  EXPECT_EQ(damaged, static_cast<uint64_t>(kFlips));
  EXPECT_EQ(Misses(*client, MissReason::kCorrupt) + Misses(*client, MissReason::kUnknownFormat),
            static_cast<uint64_t>(kFlips));
}

TEST_F(ClientStoreTest, AnotherTenantWithTheKeyMisses) {
  auto owner = Connect("default");
  auto thief = Connect("other");
  const PrefixKeys keys = SampleKeys(AttentionNamespace(), 2);
  Publish(*owner, keys, 2, 1);
  auto hit = thief->Lookup(keys, {}, Soon()).Wait();
  ASSERT_TRUE(hit.ok());
  EXPECT_EQ(hit->chunks, 0u);
  auto fetched = thief->FetchPiece(keys.key(0, 0), std::nullopt, 0, Soon()).Wait();
  ASSERT_TRUE(fetched.ok());
  ASSERT_TRUE(fetched->miss.has_value());
  EXPECT_EQ(fetched->miss->reason, MissReason::kAbsent);
  EXPECT_EQ(*thief->Remove({keys.key(0, 0)}, Soon()).Wait(), 0u);
  EXPECT_EQ(*thief->RemoveNamespace(keys.fingerprint(), Soon()).Wait(), 0u);
  EXPECT_TRUE(thief->List(std::nullopt, 0, std::nullopt, Soon()).Wait()->objects.empty());
  EXPECT_EQ(owner->Lookup(keys, {}, Soon()).Wait()->chunks, 2u);
}

TEST_F(ClientStoreTest, AnotherNamespaceMisses) {
  auto client = Connect();
  const PrefixKeys keys = SampleKeys(AttentionNamespace(), 2);
  Publish(*client, keys, 2, 1);
  Namespace revised = AttentionNamespace();
  revised.revision = "2";
  const PrefixKeys other = SampleKeys(revised, 2);
  EXPECT_EQ(client->Lookup(other, {}, Soon()).Wait()->chunks, 0u);
  SampleTensors loaded(revised, 0, 2, Layout::kContiguous);
  EXPECT_EQ(client->Load(other, 0, 2, loaded.views(), {}, Soon()).Wait()->chunks, 0u);
  // With the right key, the fingerprint in the piece tells.
  auto fetched = client->FetchPiece(keys.key(0, 0), other.fingerprint(), 0, Soon()).Wait();
  ASSERT_TRUE(fetched.ok() && fetched->miss.has_value());
  EXPECT_EQ(fetched->miss->reason, MissReason::kOtherNamespace);
}

TEST_F(ClientStoreTest, ListStatAndRemoveSeeWhatWasPublished) {
  auto client = Connect();
  const PrefixKeys keys = SampleKeys(AttentionNamespace(), 3);
  Publish(*client, keys, 3, 1);
  const size_t pieces = 3 * keys.pieces_per_chunk();
  std::vector<ObjectInfo> listed;
  std::optional<Key> after;
  bool more = true;
  while (more) {
    auto page = client->List(after, 5, keys.fingerprint(), Soon()).Wait();
    ASSERT_TRUE(page.ok()) << page.status();
    ASSERT_FALSE(page->objects.empty());
    listed.insert(listed.end(), page->objects.begin(), page->objects.end());
    after = listed.back().key;
    more = page->more;
  }
  EXPECT_EQ(listed.size(), pieces);
  auto stat = client->Stat(keys.key(2, 1), false, Soon()).Wait();
  ASSERT_TRUE(stat.ok() && stat->info.has_value());
  EXPECT_EQ(stat->info->position, 2u);
  EXPECT_EQ(stat->info->namespace_fingerprint, keys.fingerprint());
  EXPECT_EQ(*client->Remove({keys.key(0, 0), keys.key(0, 1)}, Soon()).Wait(), 2u);
  EXPECT_EQ(*client->RemoveNamespace(keys.fingerprint(), Soon()).Wait(), pieces - 2);
  EXPECT_EQ(client->Lookup(keys, {}, Soon()).Wait()->chunks, 0u);
}

TEST_F(ClientStoreTest, APieceCutToALevelIsFetchedPublishedAndCompleted) {
  auto client = Connect();
  const std::vector<std::byte> whole =
      SamplePiece({.layers = 3, .planes = 3, .max_segment_bytes = 40'000});
  const PieceMeta meta = PieceMeta::Parse(whole).value();
  const Key key = meta.header().key;
  const auto cut = [&](uint32_t planes) {
    return ByteSpan(whole).first(meta.bytes_to(planes - 1));
  };
  const auto publish = [&](ByteSpan container) {
    auto result = client->PublishPiece(SharedBytes::CopyOf(container), {}, Soon()).Wait();
    EXPECT_TRUE(result.ok()) << result.status();
    return result.ok() ? *result : PublishResult{};
  };
  const auto fetch = [&] {
    auto fetched = client->FetchPiece(key, std::nullopt, kMaxPlanes - 1, Soon()).Wait();
    EXPECT_TRUE(fetched.ok() && !fetched->miss.has_value());
    return fetched->container;
  };
  EXPECT_EQ(publish(cut(2)).pieces_stored, 1u);
  const std::vector<std::byte> fetched = fetch();
  EXPECT_TRUE(std::ranges::equal(fetched, cut(2)));
  EXPECT_EQ(publish(fetched).pieces_already_held, 1u);
  EXPECT_EQ(publish(cut(1)).pieces_already_held, 1u);
  // What was fetched goes to a store that has nothing; then only what is missing is sent.
  ASSERT_EQ(client->Remove({key}, Soon()).Wait().value(), 1u);
  EXPECT_EQ(publish(fetched).pieces_stored, 1u);
  const PublishResult completed = publish(whole);
  EXPECT_EQ(completed.pieces_stored, 1u);
  EXPECT_EQ(completed.bytes_sent, whole.size() - fetched.size());
  EXPECT_TRUE(std::ranges::equal(fetch(), whole));
  const PublishResult again = publish(whole);
  EXPECT_EQ(again.pieces_already_held, 1u);
  EXPECT_EQ(again.bytes_sent, 0u);
  const auto refused =
      client->PublishPiece(SharedBytes::CopyOf(ByteSpan(whole).first(whole.size() - 1)), {}, Soon())
          .Wait();
  EXPECT_TRUE(absl::IsDataLoss(refused.status())) << refused.status();
}

TEST_F(ClientStoreTest, AFullStoreRefusesAPieceLargerThanItself) {
  auto client = Connect();
  const Key key = *FileKey("default", "large");
  const std::vector<std::byte> file(80 * kMiB);
  auto container = EncodeFile(key, *Fingerprint(FileNamespace("default")), file);
  ASSERT_TRUE(container.ok());
  const auto status =
      client->PublishPiece(SharedBytes::CopyOf(*container), {}, Soon()).Wait().status();
  EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
}

}  // namespace
}  // namespace reprise
