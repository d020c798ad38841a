// The client's operations over loopback and a store that a test can make misbehave.

#include <future>
#include <memory>

#include "client/client_fixture.h"
#include "proto/reprise.pb.h"

namespace reprise::client {
namespace {

class RoundTripTest : public ClientTest,
                      public ::testing::WithParamInterface<std::pair<Layout, Layout>> {};

TEST_P(RoundTripTest, LoadGivesWhatPublishTook) {
  for (const Namespace& name_space : {AttentionNamespace(), LatentNamespace(), HybridNamespace()}) {
    const PrefixKeys keys = SampleKeys(name_space, 5);
    const PublishResult published = Publish(keys, 5, 42, GetParam().first);
    EXPECT_EQ(published.pieces_stored, 5 * keys.pieces_per_chunk());

    auto hit = client_->Lookup(keys, {}, Soon()).Wait();
    ASSERT_TRUE(hit.ok()) << hit.status();
    EXPECT_EQ(hit->chunks, 5u);
    EXPECT_EQ(hit->pieces.size(), 5 * keys.pieces_per_chunk());
    EXPECT_FALSE(hit->miss.has_value());

    SampleTensors loaded(name_space, 0, 5, GetParam().second);
    auto result = client_->Load(keys, 0, 5, loaded.views(), {.expected = &*hit}, Soon()).Wait();
    ASSERT_TRUE(result.ok()) << result.status();
    EXPECT_EQ(result->chunks, 5u);
    EXPECT_TRUE(result->misses.empty());
    EXPECT_TRUE(result->lossless);
    EXPECT_TRUE(loaded.Holds(42, 0, 0, 5));
    // A window group comes for the chunks that its window reaches back to: the last two.
    if (name_space.groups.size() > 1) {
      EXPECT_TRUE(loaded.Holds(42, 1, 3, 5));
    }
    EXPECT_TRUE(loaded.GuardsIntact());
  }
}

// A state is one row a chunk, in bytes whatever the namespace's dtype, and only the last is loaded.
TEST_P(RoundTripTest, StateAndOpaqueGroupsTravelBesideAttention) {
  const Namespace name_space = StateNamespace();
  const PrefixKeys keys = SampleKeys(name_space, 3);
  EXPECT_EQ(Publish(keys, 3, 42, GetParam().first).pieces_stored, 3 * keys.pieces_per_chunk());
  SampleTensors loaded(name_space, 0, 3, GetParam().second);
  auto result = client_->Load(keys, 0, 3, loaded.views(), {}, Soon()).Wait();
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->chunks, 3u);
  EXPECT_TRUE(loaded.Holds(42, 0, 0, 3));
  EXPECT_TRUE(loaded.Holds(42, 1, 2, 3));
  EXPECT_TRUE(loaded.Holds(42, 2, 0, 3));
  EXPECT_TRUE(loaded.GuardsIntact());
}

INSTANTIATE_TEST_SUITE_P(Layouts, RoundTripTest,
                         ::testing::Values(std::pair(Layout::kContiguous, Layout::kContiguous),
                                           std::pair(Layout::kContiguous, Layout::kHeadsFirst),
                                           std::pair(Layout::kHeadsFirst,
                                                     Layout::kTokensBackwards)));

TEST_F(ClientTest, LookupCountsLeadingChunks) {
  const PrefixKeys keys = SampleKeys(AttentionNamespace(), 6);
  Publish(keys, 4, 1);
  store_.Erase(keys.key(2, 1));
  auto hit = client_->Lookup(keys, {}, Soon()).Wait();
  ASSERT_TRUE(hit.ok());
  EXPECT_EQ(hit->chunks, 2u);
  ASSERT_TRUE(hit->miss.has_value());
  EXPECT_EQ(hit->miss->reason, MissReason::kAbsent);
  EXPECT_EQ(hit->miss->chunk, 2u);
}

TEST_F(ClientTest, LookupLooksPastHolesThatAWindowDoesNotReach) {
  const PrefixKeys keys = SampleKeys(HybridNamespace(), 5);
  Publish(keys, 5, 1);
  for (uint32_t slot = 0; slot < keys.pieces_per_chunk(); ++slot) {
    if (keys.slots()[slot].group == 1) store_.Erase(keys.key(1, slot));
  }
  auto hit = client_->Lookup(keys, {}, Soon()).Wait();
  ASSERT_TRUE(hit.ok());
  EXPECT_EQ(hit->chunks, 5u);
  SampleTensors loaded(keys.name_space(), 0, 5, Layout::kContiguous);
  auto result = client_->Load(keys, 0, 5, loaded.views(), {.expected = &*hit}, Soon()).Wait();
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result->chunks, 5u);
}

TEST_F(ClientTest, APartOfAPrefixLoadsIntoTensorsOfThatPart) {
  const PrefixKeys keys = SampleKeys(AttentionNamespace(), 6);
  Publish(keys, 6, 9);
  SampleTensors loaded(keys.name_space(), 2, 3, Layout::kContiguous);
  auto result = client_->Load(keys, 2, 3, loaded.views(), {}, Soon()).Wait();
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result->chunks, 3u);
  EXPECT_TRUE(loaded.Holds(9, 2, 5));
}

TEST_F(ClientTest, LoadingNoChunksIsAResult) {
  const PrefixKeys keys = SampleKeys(AttentionNamespace(), 3);
  const auto loaded = client_->Load(keys, 0, 0, {}, {}, Soon()).Wait();
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ(loaded->chunks, 0u);
  EXPECT_TRUE(loaded->selections.empty());
  EXPECT_TRUE(loaded->misses.empty());
}

TEST_F(ClientTest, SegmentsMayComeInPartsOfAnySize) {
  const PrefixKeys keys = SampleKeys(AttentionNamespace(), 3);
  Publish(keys, 3, 5);
  for (const size_t part_bytes : {1u, 700u, 5'000u}) {
    store_.set_part_bytes(part_bytes);
    SampleTensors loaded(keys.name_space(), 0, 3, Layout::kContiguous);
    auto result = client_->Load(keys, 0, 3, loaded.views(), {}, Soon()).Wait();
    ASSERT_TRUE(result.ok());
    EXPECT_EQ(result->chunks, 3u);
    EXPECT_TRUE(loaded.Holds(5, 0, 3));
  }
}

TEST_F(ClientTest, WrongShapesAreRefusedBeforeAnythingIsSent) {
  const PrefixKeys keys = SampleKeys(AttentionNamespace(), 3);
  SampleTensors two(keys.name_space(), 0, 2, Layout::kContiguous);
  EXPECT_TRUE(
      absl::IsInvalidArgument(client_->Load(keys, 0, 3, two.views(), {}, Soon()).Wait().status()));
  EXPECT_TRUE(
      absl::IsInvalidArgument(client_->Load(keys, 2, 2, two.views(), {}, Soon()).Wait().status()));
  EXPECT_TRUE(
      absl::IsInvalidArgument(client_->Load(keys, 9, 0, two.views(), {}, Soon()).Wait().status()));
  EXPECT_TRUE(
      absl::IsInvalidArgument(client_->Publish(keys, 3, two.views(), {}, Soon()).Wait().status()));
  std::vector<GroupViews> views = two.views();
  views[0].value = {};
  EXPECT_TRUE(
      absl::IsInvalidArgument(client_->Load(keys, 0, 2, views, {}, Soon()).Wait().status()));
  views = two.views();
  views[0].key.dtype = Dtype::kFp16;
  EXPECT_TRUE(
      absl::IsInvalidArgument(client_->Load(keys, 0, 2, views, {}, Soon()).Wait().status()));
  EXPECT_EQ(store_.requests(v1::FETCH) + store_.requests(v1::LOOKUP), 0);
}

TEST_F(ClientTest, AFlippedByteIsAMissAndIsReportedToTheStore) {
  const PrefixKeys keys = SampleKeys(AttentionNamespace(), 4);
  Publish(keys, 4, 3);
  const Key key = keys.key(2, 0);
  std::vector<std::byte> damaged = store_.Container(key);
  damaged.back() ^= std::byte{4};
  store_.Put(key, damaged);
  SampleTensors loaded(keys.name_space(), 0, 4, Layout::kContiguous);
  auto result = client_->Load(keys, 0, 4, loaded.views(), {}, Soon()).Wait();
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result->chunks, 2u);
  ASSERT_EQ(result->misses.size(), 1u);
  EXPECT_EQ(result->misses[0].reason, MissReason::kCorrupt);
  EXPECT_EQ(result->misses[0].chunk, 2u);
  EXPECT_EQ(client_->counters().misses[static_cast<size_t>(MissReason::kCorrupt)], 1u);
  EXPECT_TRUE(loaded.Holds(3, 0, 2));
  store_.WaitForRequests(v1::STAT, 1);
  auto stat = client_->Stat(key, false, Soon()).Wait();
  ASSERT_TRUE(stat.ok());
  EXPECT_FALSE(stat->info.has_value());
}

TEST_F(ClientTest, ContentThatChangedSinceTheLookupIsAMiss) {
  const PrefixKeys keys = SampleKeys(AttentionNamespace(), 1);
  Publish(keys, 1, 1);
  auto hit = client_->Lookup(keys, {}, Soon()).Wait();
  ASSERT_TRUE(hit.ok());
  for (const Key& key : store_.keys()) store_.Erase(key);
  Publish(keys, 1, 2);
  SampleTensors loaded(keys.name_space(), 0, 1, Layout::kContiguous);
  auto result = client_->Load(keys, 0, 1, loaded.views(), {.expected = &*hit}, Soon()).Wait();
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result->chunks, 0u);
  ASSERT_EQ(result->misses.size(), 1u);
  EXPECT_EQ(result->misses[0].reason, MissReason::kOtherContent);
}

TEST_F(ClientTest, APieceOfAnotherNamespaceUnderTheKeyIsAMiss) {
  const PrefixKeys keys = SampleKeys(AttentionNamespace(), 1);
  Namespace other = AttentionNamespace();
  other.model = "another";
  const PrefixKeys other_keys = SampleKeys(other, 1);
  Publish(other_keys, 1, 1);
  // Even under the asked key: the header names another, or the fingerprint differs.
  for (uint32_t slot = 0; slot < keys.pieces_per_chunk(); ++slot) {
    store_.Put(keys.key(0, slot), store_.Container(other_keys.key(0, slot)));
  }
  SampleTensors loaded(keys.name_space(), 0, 1, Layout::kContiguous);
  auto result = client_->Load(keys, 0, 1, loaded.views(), {}, Soon()).Wait();
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result->chunks, 0u);
  auto piece =
      client_->FetchPiece(other_keys.key(0, 0), keys.fingerprint(), kMaxPlanes - 1, Soon()).Wait();
  ASSERT_TRUE(piece.ok());
  ASSERT_TRUE(piece->miss.has_value());
  EXPECT_EQ(piece->miss->reason, MissReason::kOtherNamespace);
}

TEST_F(ClientTest, PiecesTravelAsTheyAre) {
  auto key = FileKey("default", "notes.txt");
  ASSERT_TRUE(key.ok());
  const Digest fingerprint = *Fingerprint(FileNamespace("default"));
  std::vector<std::byte> file(20 * kMiB + 123);
  for (size_t i = 0; i < file.size(); ++i) file[i] = static_cast<std::byte>(i * 31 + i / 4096);
  auto container = EncodeFile(*key, fingerprint, file);
  ASSERT_TRUE(container.ok()) << container.status();
  auto published = client_->PublishPiece(SharedBytes::CopyOf(*container), {}, Soon()).Wait();
  ASSERT_TRUE(published.ok()) << published.status();
  EXPECT_EQ(published->pieces_stored, 1u);
  EXPECT_EQ(published->bytes_sent, container->size());
  auto fetched = client_->FetchPiece(*key, fingerprint, kMaxPlanes - 1, Soon()).Wait();
  ASSERT_TRUE(fetched.ok());
  ASSERT_FALSE(fetched->miss.has_value()) << fetched->miss->detail;
  EXPECT_EQ(fetched->container, *container);

  auto removed = client_->Remove({*key}, Soon()).Wait();
  ASSERT_TRUE(removed.ok());
  EXPECT_EQ(*removed, 1u);
  fetched = client_->FetchPiece(*key, fingerprint, kMaxPlanes - 1, Soon()).Wait();
  ASSERT_TRUE(fetched.ok());
  ASSERT_TRUE(fetched->miss.has_value());
  EXPECT_EQ(fetched->miss->reason, MissReason::kAbsent);
}

TEST_F(ClientTest, ATruncatedContainerIsNotSent) {
  const PrefixKeys keys = SampleKeys(AttentionNamespace(), 1);
  Publish(keys, 1, 1);
  std::vector<std::byte> container = store_.Container(keys.key(0, 0));
  const int before = store_.requests(v1::PUBLISH);
  container.pop_back();
  EXPECT_TRUE(absl::IsDataLoss(
      client_->PublishPiece(SharedBytes::CopyOf(container), {}, Soon()).Wait().status()));
  container.resize(100);
  EXPECT_TRUE(absl::IsDataLoss(
      client_->PublishPiece(SharedBytes::CopyOf(container), {}, Soon()).Wait().status()));
  EXPECT_EQ(store_.requests(v1::PUBLISH), before);
}

TEST_F(ClientTest, ALoadEndsByItsDeadline) {
  const PrefixKeys keys = SampleKeys(AttentionNamespace(), 2);
  Publish(keys, 2, 1);
  std::vector<std::unique_ptr<transport::Responder>> held;
  store_.set_intercept(
      [&](const transport::Request& request, std::unique_ptr<transport::Responder>& responder) {
        if (request.method != v1::FETCH) return false;
        held.push_back(std::move(responder));
        return true;
      });
  SampleTensors loaded(keys.name_space(), 0, 2, Layout::kContiguous);
  auto result =
      client_->Load(keys, 0, 2, loaded.views(), {}, Deadline::After(std::chrono::milliseconds(50)))
          .Wait();
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result->chunks, 0u);
  ASSERT_EQ(result->misses.size(), 1u);
  EXPECT_EQ(result->misses[0].reason, MissReason::kDeadline);
  client_.reset();
  held.clear();
}

TEST_F(ClientTest, CancelEndsALoadAndLeavesTheTensorsAlone) {
  const PrefixKeys keys = SampleKeys(AttentionNamespace(), 2);
  Publish(keys, 2, 1);
  std::vector<std::unique_ptr<transport::Responder>> held;
  store_.set_intercept(
      [&](const transport::Request& request, std::unique_ptr<transport::Responder>& responder) {
        if (request.method != v1::FETCH) return false;
        held.push_back(std::move(responder));
        return true;
      });
  SampleTensors loaded(keys.name_space(), 0, 2, Layout::kContiguous);
  const std::vector<std::byte> before = loaded.Snapshot();
  auto load = client_->Load(keys, 0, 2, loaded.views(), {}, Soon());
  store_.WaitForRequests(v1::FETCH, 1);
  load.Cancel();
  EXPECT_TRUE(absl::IsCancelled(load.Wait().status()));
  client_.reset();
  held.clear();
  EXPECT_EQ(loaded.Snapshot(), before);
}

TEST_F(ClientTest, DestroyingTheClientEndsWhatIsUnderWay) {
  const PrefixKeys keys = SampleKeys(AttentionNamespace(), 2);
  std::vector<std::unique_ptr<transport::Responder>> held;
  store_.set_intercept(
      [&](const transport::Request&, std::unique_ptr<transport::Responder>& responder) {
        held.push_back(std::move(responder));
        return true;
      });
  SampleTensors tensors(keys.name_space(), 0, 2, Layout::kContiguous);
  auto load = client_->Load(keys, 0, 2, tensors.views(), {}, Soon());
  auto lookup = client_->Lookup(keys, {}, Soon());
  auto publish = client_->Publish(keys, 2, tensors.views(), {}, Soon());
  std::promise<absl::Status> stat;
  client_->Stat(keys.key(0, 0), false, Soon()).Then([&](absl::StatusOr<ObjectStat> result) {
    stat.set_value(result.status());
  });
  client_.reset();
  EXPECT_TRUE(load.Done());
  EXPECT_TRUE(absl::IsCancelled(load.Wait().status()));
  EXPECT_TRUE(absl::IsCancelled(lookup.Wait().status()));
  EXPECT_TRUE(absl::IsCancelled(publish.Wait().status()));
  EXPECT_TRUE(absl::IsCancelled(stat.get_future().get()));
  held.clear();
}

TEST_F(ClientTest, ALostStoreIsAMissAndTheNextOneIsFound) {
  const PrefixKeys keys = SampleKeys(AttentionNamespace(), 2);
  Publish(keys, 2, 8);
  std::vector<std::unique_ptr<transport::Responder>> held;
  store_.set_intercept(
      [&](const transport::Request& request, std::unique_ptr<transport::Responder>& responder) {
        if (request.method != v1::FETCH && request.method != v1::STAT) return false;
        held.push_back(std::move(responder));
        return true;
      });
  SampleTensors loaded(keys.name_space(), 0, 2, Layout::kContiguous);
  auto load = client_->Load(keys, 0, 2, loaded.views(), {}, Soon());
  auto stat = client_->Stat(keys.key(0, 0), false, Soon());
  store_.WaitForRequests(v1::STAT, 1);
  store_.WaitForRequests(v1::FETCH, 1);
  server_.reset();
  held.clear();
  auto result = load.Wait();
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result->chunks, 0u);
  ASSERT_EQ(result->misses.size(), 1u);
  EXPECT_EQ(result->misses[0].reason, MissReason::kPeerLost);
  EXPECT_TRUE(absl::IsUnavailable(stat.Wait().status()));
  auto hit = client_->Lookup(keys, {}, Soon()).Wait();
  ASSERT_TRUE(hit.ok());
  EXPECT_EQ(hit->chunks, 0u);
  ASSERT_TRUE(hit->miss.has_value());
  EXPECT_EQ(hit->miss->reason, MissReason::kPeerLost);
  EXPECT_TRUE(absl::IsUnavailable(client_->Remove({keys.key(0, 0)}, Soon()).Wait().status()));

  store_.set_intercept(nullptr);
  server_ = transport::LoopbackServer::Create(store_);
  // The back-off after the failed attempt is short; until it has passed, operations miss at once.
  const Deadline patience = Soon();
  uint32_t chunks = 0;
  while (chunks == 0 && !patience.PassedAt(Clock::Steady().Now())) {
    chunks = client_->Load(keys, 0, 2, loaded.views(), {}, Soon()).Wait()->chunks;
  }
  EXPECT_EQ(chunks, 2u);
  EXPECT_TRUE(loaded.Holds(8, 0, 2));
}

}  // namespace
}  // namespace reprise::client
