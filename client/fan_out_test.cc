// One client of three stores that a test can make misbehave: where pieces go, from where they come,
// and what a sick store harms.

#include <map>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "client/client_fixture.h"
#include "client/placement.h"
#include "proto/reprise.pb.h"

namespace reprise::client {
namespace {

constexpr uint32_t kNodes = 3;
// Of five runs: with three nodes they are not all on one.
constexpr uint32_t kChunks = 140;

class FanOutTest : public ::testing::Test {
 protected:
  struct Store {
    FakeStore service;
    std::unique_ptr<transport::LoopbackServer> server = transport::LoopbackServer::Create(service);
  };

  FanOutTest() : keys_(SampleKeys(LatentNamespace(), kChunks)) {
    for (uint32_t i = 0; i < kNodes; ++i) {
      const std::string name = "store-" + std::to_string(i) + ":1";
      view_.nodes.push_back({.id = name, .address = name});
      stores_[name] = std::make_unique<Store>();
    }
  }

  void Connect(uint32_t replicas) {
    auto client = CreateClient(std::make_unique<StaticMembership>(view_), Connectors(),
                               {.replicas = replicas});
    ASSERT_TRUE(client.ok()) << client.status();
    client_ = *std::move(client);
    placement_.emplace(view_, replicas, keys_);
  }

  ConnectorOf Connectors() {
    return [this](const Node& node) {
      Store& store = *stores_.at(node.address);
      return std::make_unique<LoopbackConnector>([&store] { return store.server.get(); });
    };
  }

  FakeStore& StoreAt(uint32_t node) { return stores_.at(view_.nodes[node].address)->service; }
  void Kill(uint32_t node) { stores_.at(view_.nodes[node].address)->server.reset(); }
  // Takes requests of `method` and never answers.
  void Hang(uint32_t node, int method) {
    StoreAt(node).set_intercept([this, method](const transport::Request& request,
                                               std::unique_ptr<transport::Responder>& responder) {
      if (request.method != method) return false;
      MutexLock lock(mutex_);
      unanswered_.push_back(std::move(responder));
      return true;
    });
  }
  // Answers every request with `status`.
  void Refuse(uint32_t node, const absl::Status& status) {
    StoreAt(node).set_intercept([status](const transport::Request& /*request*/,
                                         std::unique_ptr<transport::Responder>& responder) {
      responder->Complete(status);
      return true;
    });
  }

  absl::StatusOr<PublishResult> Publish(Deadline deadline = Soon()) {
    SampleTensors tensors(keys_.name_space(), 0, kChunks, Layout::kContiguous);
    tensors.Fill(7);
    return client_->Publish(keys_, kChunks, tensors.views(), {.codec = CodecId::kRaw}, deadline)
        .Wait();
  }

  // Loads all and checks what came.
  LoadResult Load(Deadline deadline = Soon(), LoadOptions options = {}) {
    SampleTensors loaded(keys_.name_space(), 0, kChunks, Layout::kHeadsFirst);
    auto result =
        client_->Load(keys_, 0, kChunks, loaded.views(), std::move(options), deadline).Wait();
    loaded_at_ = Clock::Steady().Now();
    EXPECT_TRUE(result.ok()) << result.status();
    if (!result.ok()) return {};
    for (uint32_t chunk = 0; chunk < kChunks; ++chunk) {
      if (result->selections[chunk].complete) {
        EXPECT_TRUE(loaded.Holds(7, chunk, chunk + 1)) << "chunk " << chunk;
      }
    }
    EXPECT_TRUE(loaded.GuardsIntact());
    return *std::move(result);
  }

  // A selection of each chunk, so that a miss ends nothing else.
  static std::vector<Selection> WholePlan() {
    std::vector<Selection> plan;
    for (uint32_t chunk = 0; chunk < kChunks; ++chunk) plan.push_back({.chunk = chunk});
    return plan;
  }

  Mutex mutex_;
  std::vector<std::unique_ptr<transport::Responder>> unanswered_ ABSL_GUARDED_BY(mutex_);
  const PrefixKeys keys_;
  View view_;
  std::map<std::string, std::unique_ptr<Store>> stores_;
  std::optional<Placement> placement_;
  std::unique_ptr<Client> client_;
  TimePoint loaded_at_;  // by when the last load had ended
};

TEST_F(FanOutTest, EveryPieceIsOnItsReplicasAndNowhereElse) {
  Connect(2);
  const auto published = Publish();
  ASSERT_TRUE(published.ok()) << published.status();
  EXPECT_EQ(published->pieces_stored, kChunks * keys_.pieces_per_chunk());
  EXPECT_EQ(published->replicas, 2u);
  for (uint32_t chunk = 0; chunk < kChunks; ++chunk) {
    const Replicas& replicas = placement_->OfChunk(chunk);
    for (uint32_t node = 0; node < kNodes; ++node) {
      const bool is_place = std::find(replicas.begin(), replicas.end(), node) != replicas.end();
      EXPECT_EQ(StoreAt(node).Container(keys_.key(chunk, 0)).empty(), !is_place)
          << "chunk " << chunk << " on node " << node;
    }
  }
  EXPECT_EQ(Publish()->pieces_already_held, kChunks * keys_.pieces_per_chunk());
}

// A store without the run before would take the first chunk for one that nobody can reach, and
// evict it first.
TEST_F(FanOutTest, ARunsFirstChunkHasNoParent) {
  std::map<uint64_t, bool> has_parent;
  for (uint32_t node = 0; node < kNodes; ++node) {
    StoreAt(node).set_intercept(
        [this, &has_parent](const transport::Request& request,
                            std::unique_ptr<transport::Responder>& /*responder*/) {
          v1::PublishRequest step;
          if (request.method != v1::PUBLISH || !step.ParseFromString(request.message)) return false;
          MutexLock lock(mutex_);
          if (step.upload_id() == 0) has_parent[step.position()] = !step.parent().empty();
          return false;
        });
  }
  Connect(1);
  ASSERT_TRUE(Publish().ok());
  ASSERT_EQ(has_parent.size(), kChunks);
  for (const auto& [chunk, has] : has_parent) EXPECT_EQ(has, chunk % 32 != 0) << "chunk " << chunk;
}

TEST_F(FanOutTest, ALookupAsksEachNodeOnceAndALoadBringsAll) {
  Connect(1);
  ASSERT_TRUE(Publish().ok());
  std::vector<int> asked;
  for (uint32_t node = 0; node < kNodes; ++node)
    asked.push_back(StoreAt(node).requests(v1::LOOKUP));
  const LookupResult hit = client_->Lookup(keys_, {}, Soon()).Wait().value();
  EXPECT_EQ(hit.chunks, kChunks);
  EXPECT_EQ(hit.pieces.size(), kChunks * keys_.pieces_per_chunk());
  EXPECT_FALSE(hit.miss.has_value());
  for (uint32_t node = 0; node < kNodes; ++node)
    EXPECT_LE(StoreAt(node).requests(v1::LOOKUP), asked[node] + 1);
  const LoadResult loaded = Load(Soon(), {.expected = &hit});
  EXPECT_EQ(loaded.chunks, kChunks);
  EXPECT_TRUE(loaded.misses.empty());
}

TEST_F(FanOutTest, ADeadNodeIsReplacedByTheReplica) {
  Connect(2);
  ASSERT_TRUE(Publish().ok());
  for (uint32_t dead = 0; dead < kNodes; ++dead) {
    Refuse(dead, absl::UnavailableError("gone"));
    EXPECT_EQ(client_->Lookup(keys_, {}, Soon()).Wait()->chunks, kChunks);
    EXPECT_EQ(Load().chunks, kChunks);
    StoreAt(dead).set_intercept(nullptr);
  }
  Kill(placement_->OfChunk(0)[0]);
  EXPECT_EQ(client_->Lookup(keys_, {}, Soon()).Wait()->chunks, kChunks);
  EXPECT_EQ(Load().chunks, kChunks);
  EXPECT_TRUE(client_->FetchPiece(keys_.key(0, 0), {}, 0, Soon()).Wait()->miss == std::nullopt);
}

TEST_F(FanOutTest, ASilentNodeIsReplacedWithinTheDeadline) {
  Connect(2);
  ASSERT_TRUE(Publish().ok());
  const uint32_t silent = placement_->OfChunk(0)[0];
  for (const int method : {v1::LOOKUP, v1::FETCH}) {
    Hang(silent, method);
    const Deadline deadline = Deadline::After(std::chrono::seconds(10));
    EXPECT_EQ(client_->Lookup(keys_, {}, deadline).Wait()->chunks, kChunks);
    EXPECT_EQ(Load(deadline).chunks, kChunks);
    // Checking what came takes its time under a sanitizer.
    EXPECT_LT(loaded_at_, deadline.at());
  }
}

TEST_F(FanOutTest, ASickNodeHarmsOnlyItsOwnKeys) {
  Connect(1);
  ASSERT_TRUE(Publish().ok());
  const uint32_t sick = placement_->OfChunk(0)[0];
  Refuse(sick, absl::UnavailableError("gone"));
  const std::vector<Selection> plan = WholePlan();
  const LoadResult loaded = Load(Soon(), {.plan = plan});
  uint32_t complete = 0;
  for (uint32_t chunk = 0; chunk < kChunks; ++chunk) {
    const SelectionResult& selection = loaded.selections[chunk];
    const bool is_harmed = placement_->OfChunk(chunk)[0] == sick;
    EXPECT_EQ(selection.complete, !is_harmed) << "chunk " << chunk;
    if (is_harmed) {
      EXPECT_EQ(selection.miss->reason, MissReason::kPeerLost);
    }
    complete += selection.complete;
  }
  EXPECT_GT(complete, 0u);
  const LookupResult hit = client_->Lookup(keys_, {}, Soon()).Wait().value();
  EXPECT_EQ(hit.chunks, 0u);
  EXPECT_EQ(hit.miss->reason, MissReason::kPeerLost);
}

// The first miss is known long before the chunks that lead to it have come.
TEST_F(FanOutTest, AMissLeavesTheChunksBeforeIt) {
  Connect(1);
  ASSERT_TRUE(Publish().ok());
  const uint32_t first = placement_->OfChunk(0)[0];
  uint32_t lost = 0;
  while (placement_->OfChunk(lost)[0] == first) lost += kRunChunks;
  StoreAt(placement_->OfChunk(lost)[0]).Erase(keys_.key(lost, 0));
  StoreAt(first).set_part_bytes(1);
  const LoadResult loaded = Load();
  EXPECT_EQ(loaded.chunks, lost);
  ASSERT_FALSE(loaded.misses.empty());
  EXPECT_EQ(loaded.misses[0].chunk, lost);
  EXPECT_EQ(loaded.misses[0].reason, MissReason::kAbsent);
}

TEST_F(FanOutTest, WhatOneReplicaLacksOrDamagedComesFromTheOther) {
  Connect(2);
  ASSERT_TRUE(Publish().ok());
  StoreAt(placement_->OfChunk(3)[0]).Erase(keys_.key(3, 0));
  FakeStore& damaged = StoreAt(placement_->OfChunk(40)[0]);
  std::vector<std::byte> container = damaged.Container(keys_.key(40, 0));
  container.back() ^= std::byte{1};
  damaged.Put(keys_.key(40, 0), container);
  const int stats = damaged.requests(v1::STAT);
  EXPECT_EQ(Load().chunks, kChunks);
  damaged.WaitForRequests(v1::STAT, stats + 1);
}

TEST_F(FanOutTest, APublishSaysOnHowManyStoresThePiecesAre) {
  Connect(2);
  const uint32_t sick = placement_->OfChunk(0)[0];
  Refuse(sick, absl::UnavailableError("gone"));
  const auto published = Publish();
  ASSERT_TRUE(published.ok()) << published.status();
  EXPECT_EQ(published->replicas, 1u);
  EXPECT_EQ(Load().chunks, kChunks);
  StoreAt(sick).set_intercept(nullptr);
  const auto repaired = Publish();
  ASSERT_TRUE(repaired.ok()) << repaired.status();
  EXPECT_EQ(repaired->replicas, 2u);
  EXPECT_GT(repaired->pieces_stored, 0u);
}

TEST_F(FanOutTest, ASilentReplicaDoesNotFailAPublish) {
  Connect(2);
  Hang(placement_->OfChunk(0)[0], v1::PUBLISH);
  const Deadline deadline = Deadline::After(std::chrono::seconds(8));
  const auto published = Publish(deadline);
  ASSERT_TRUE(published.ok()) << published.status();
  EXPECT_EQ(published->replicas, 1u);
  EXPECT_LT(Clock::Steady().Now(), deadline.at());
}

TEST_F(FanOutTest, APublishFailsWhenAPieceIsNowhere) {
  Connect(1);
  const uint32_t sick = placement_->OfChunk(0)[0];
  Refuse(sick, absl::ResourceExhaustedError("full"));
  const auto published = Publish();
  EXPECT_EQ(published.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_NE(published.status().message().find(view_.nodes[sick].address), absl::string_view::npos)
      << published.status();
  // What others hold is stored all the same.
  StoreAt(sick).set_intercept(nullptr);
  const std::vector<Selection> plan = WholePlan();
  const LoadResult loaded = Load(Soon(), {.plan = plan});
  for (uint32_t chunk = 0; chunk < kChunks; ++chunk)
    EXPECT_EQ(loaded.selections[chunk].complete, placement_->OfChunk(chunk)[0] != sick);
}

TEST_F(FanOutTest, AClientStartsWithOneOfItsStores) {
  Kill(0);
  Kill(2);
  Connect(3);
  EXPECT_EQ(client_->Lookup(keys_, {}, Soon()).Wait()->chunks, 0u);
  EXPECT_EQ(Publish()->replicas, 1u);
  EXPECT_EQ(Load().chunks, kChunks);
}

TEST_F(FanOutTest, ACancelledLoadEndsAllItsLegs) {
  Connect(1);
  ASSERT_TRUE(Publish().ok());
  for (uint32_t node = 0; node < kNodes; ++node) Hang(node, v1::FETCH);
  SampleTensors loaded(keys_.name_space(), 0, kChunks, Layout::kContiguous);
  auto load = client_->Load(keys_, 0, kChunks, loaded.views(), {}, Soon());
  for (uint32_t node = 0; node < kNodes; ++node) {
    const bool has_runs = !StoreAt(node).keys().empty();
    if (has_runs) StoreAt(node).WaitForRequests(v1::FETCH, 1);
  }
  load.Cancel();
  EXPECT_EQ(load.Wait().status().code(), absl::StatusCode::kCancelled);
}

TEST_F(FanOutTest, AViewThatChangesIsFollowed) {
  class Changing final : public Membership {
   public:
    std::shared_ptr<const View> Current() const override {
      MutexLock lock(mutex);
      return view;
    }
    mutable Mutex mutex;
    std::shared_ptr<const View> view ABSL_GUARDED_BY(mutex);
  };
  auto membership = std::make_unique<Changing>();
  Changing& changing = *membership;
  const View one{.epoch = 1, .nodes = {view_.nodes[0]}};
  changing.view = std::make_shared<const View>(one);
  client_ = CreateClient(std::move(membership), Connectors(), {}).value();
  ASSERT_TRUE(Publish().ok());
  EXPECT_EQ(StoreAt(0).keys().size(), kChunks * keys_.pieces_per_chunk());
  {
    MutexLock lock(changing.mutex);
    changing.view = std::make_shared<const View>(view_);
  }
  ASSERT_TRUE(Publish().ok());
  placement_.emplace(view_, 1, keys_);
  EXPECT_FALSE(StoreAt(1).keys().empty() && StoreAt(2).keys().empty());
  EXPECT_EQ(Load().chunks, kChunks);
}

}  // namespace
}  // namespace reprise::client
