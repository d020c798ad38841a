// Loads by a plan: which pieces it needs, what comes, what is told meanwhile, and what a miss ends.

#include "client/load_plan.h"

#include "client/client_fixture.h"
#include "proto/reprise.pb.h"

namespace reprise::client {
namespace {

class LoadPlanTest : public ClientTest {
 protected:
  // The (chunk, slot, layers) that a plan fetches.
  static std::vector<std::string> PiecesOf(const Namespace& name_space, uint32_t chunks,
                                           std::vector<Selection> selections) {
    const PrefixKeys keys = SampleKeys(name_space, chunks);
    SampleTensors tensors(name_space, 0, chunks, Layout::kContiguous);
    auto plan = MakeLoadPlan(keys, 0, chunks, tensors.views(), {.plan = selections});
    if (!plan.ok()) return {std::string(plan.status().message())};
    std::vector<std::string> pieces;
    for (size_t i = 0; i < plan->pieces.size(); ++i) {
      const ExpectedPiece& piece = plan->pieces[i];
      pieces.push_back(std::to_string(plan->selections[plan->places[i].selection].chunk) + "/" +
                       std::to_string(plan->places[i].slot) + ":" +
                       std::to_string(piece.layer_begin) + "-" + std::to_string(piece.layer_end));
    }
    return pieces;
  }
};

using Pieces = std::vector<std::string>;

TEST_F(LoadPlanTest, LayersAreTheModelsAndChoosePiecesAndTheirParts) {
  // Slots 0 and 1 hold layers 0 and 1, slots 2 and 3 layers 2 and 3.
  EXPECT_EQ(PiecesOf(AttentionNamespace(), 2, {{.chunk = 1, .layer_begin = 1, .layer_end = 4}}),
            (Pieces{"1/0:1-2", "1/1:1-2", "1/2:0-0", "1/3:0-0"}));
  EXPECT_EQ(PiecesOf(AttentionNamespace(), 2, {{.chunk = 0, .layer_begin = 2, .layer_end = 3}}),
            (Pieces{"0/2:0-1", "0/3:0-1"}));
}

// In the hybrid namespace slots 2 and 3 are a window that reaches back two chunks.
TEST_F(LoadPlanTest, WindowsComeForTheEndOfEachRunOfChunks) {
  const std::vector<Selection> runs = {{.chunk = 0}, {.chunk = 1}, {.chunk = 2}, {.chunk = 4}};
  EXPECT_EQ(PiecesOf(HybridNamespace(), 6, runs),
            (Pieces{"0/0:0-0", "0/1:0-0", "1/0:0-0", "1/1:0-0", "1/2:0-0", "1/3:0-0", "2/0:0-0",
                    "2/1:0-0", "2/2:0-0", "2/3:0-0", "4/0:0-0", "4/1:0-0", "4/2:0-0", "4/3:0-0"}));
}

TEST_F(LoadPlanTest, SelectionsOutsideTheLoadAreRefused) {
  const PrefixKeys keys = SampleKeys(AttentionNamespace(), 4);
  SampleTensors tensors(keys.name_space(), 1, 2, Layout::kContiguous);
  for (const Selection bad :
       {Selection{.chunk = 0}, Selection{.chunk = 3}, Selection{.chunk = 1, .layer_begin = 4},
        Selection{.chunk = 1, .layer_begin = 2, .layer_end = 2}}) {
    const std::vector<Selection> plan = {{.chunk = 1}, bad};
    const auto status =
        client_->Load(keys, 1, 2, tensors.views(), {.plan = plan}, Soon()).Wait().status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
    EXPECT_NE(status.message().find("selection 1"), std::string::npos) << status;
  }
  EXPECT_EQ(store_.requests(v1::FETCH), 0);
}

TEST_F(LoadPlanTest, AMissEndsItsOwnSelectionOnly) {
  const PrefixKeys keys = SampleKeys(AttentionNamespace(), 5);
  Publish(keys, 5, 7);
  store_.Erase(keys.key(1, 3));
  std::vector<std::byte> damaged = store_.Container(keys.key(3, 0));
  damaged.back() ^= std::byte{4};
  store_.Put(keys.key(3, 0), damaged);
  const std::vector<Selection> plan = {{.chunk = 4}, {.chunk = 3}, {.chunk = 1}, {.chunk = 0}};
  SampleTensors loaded(keys.name_space(), 0, 5, Layout::kContiguous);
  auto result = client_->Load(keys, 0, 5, loaded.views(), {.plan = plan}, Soon()).Wait();
  ASSERT_TRUE(result.ok()) << result.status();
  ASSERT_EQ(result->selections.size(), 4u);
  EXPECT_TRUE(result->selections[0].lossless());
  EXPECT_FALSE(result->selections[1].complete);
  EXPECT_EQ(result->selections[1].miss->reason, MissReason::kCorrupt);
  EXPECT_EQ(result->selections[2].miss->reason, MissReason::kAbsent);
  EXPECT_EQ(result->selections[2].miss->slot, 3u);
  EXPECT_TRUE(result->selections[3].complete);
  EXPECT_EQ(result->misses.size(), 2u);
  EXPECT_EQ(result->chunks, 1u);
  EXPECT_TRUE(loaded.Holds(7, 0, 1));
  EXPECT_TRUE(loaded.Holds(7, 4, 5));
}

// As an engine would that computes on the first layers while the others load.
TEST_F(LoadPlanTest, TheObserverIsToldOfLayersAsTheyCome) {
  constexpr uint32_t kChunks = 3;
  const PrefixKeys keys = SampleKeys(AttentionNamespace(), kChunks);
  Publish(keys, kChunks, 5);
  std::vector<Selection> plan;
  for (uint32_t layer = 0; layer < 4; ++layer) {
    for (uint32_t chunk = 0; chunk < kChunks; ++chunk)
      plan.push_back({.chunk = chunk, .layer_begin = layer, .layer_end = layer + 1});
  }
  SampleTensors source(keys.name_space(), 0, kChunks, Layout::kContiguous);
  source.Fill(5);
  SampleTensors loaded(keys.name_space(), 0, kChunks, Layout::kContiguous);
  const auto layer_of = [](const SampleTensors& tensors, uint32_t chunk, uint32_t layer) {
    const TensorView view =
        tensors.views()[0].key.Sub(layer, layer + 1, chunk * 16, chunk * 16 + 16, 0, 3);
    return std::vector<std::byte>(view.data, view.data + 16 * view.stride_bytes[1]);
  };
  std::vector<size_t> told;
  const LoadOptions options{.plan = plan,
                            .observer = [&](size_t index, const SelectionResult& result) {
                              told.push_back(index);
                              EXPECT_TRUE(result.complete);
                              const Selection& selection = plan[index];
                              EXPECT_EQ(layer_of(loaded, selection.chunk, selection.layer_begin),
                                        layer_of(source, selection.chunk, selection.layer_begin));
                            }};
  auto result = client_->Load(keys, 0, kChunks, loaded.views(), options, Soon()).Wait();
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->chunks, kChunks);
  EXPECT_TRUE(loaded.Holds(5, 0, kChunks));
  ASSERT_EQ(told.size(), plan.size());
  EXPECT_TRUE(std::is_sorted(told.begin(), told.end()));
}

TEST_F(LoadPlanTest, WithoutAPlanTheFirstMissEndsTheLoad) {
  const PrefixKeys keys = SampleKeys(AttentionNamespace(), 4);
  Publish(keys, 4, 5);
  store_.Erase(keys.key(2, 1));
  SampleTensors loaded(keys.name_space(), 0, 4, Layout::kContiguous);
  std::vector<bool> told;
  const LoadOptions options{.observer = [&](size_t, const SelectionResult& selection) {
    told.push_back(selection.complete);
  }};
  auto result = client_->Load(keys, 0, 4, loaded.views(), options, Soon()).Wait();
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result->chunks, 2u);
  EXPECT_EQ(told, (std::vector<bool>{true, true, false}));
  EXPECT_EQ(result->misses.size(), 1u);
  EXPECT_FALSE(result->selections[3].complete || result->selections[3].miss);
}

TEST_F(LoadPlanTest, AStoreThatCannotBeReachedMissesEverySelection) {
  const PrefixKeys keys = SampleKeys(AttentionNamespace(), 2);
  server_.reset();
  SampleTensors loaded(keys.name_space(), 0, 2, Layout::kContiguous);
  const std::vector<Selection> plan = {{.chunk = 0}, {.chunk = 1}};
  auto result = client_->Load(keys, 0, 2, loaded.views(), {.plan = plan}, Soon()).Wait();
  ASSERT_TRUE(result.ok());
  ASSERT_EQ(result->misses.size(), 2u);
  EXPECT_EQ(result->selections[1].miss->reason, MissReason::kPeerLost);
}

// More pieces than one fetch takes, and a store that refuses the second.
TEST_F(LoadPlanTest, WhatARefusedBatchDoesNotBringIsAMissOfItsSelections) {
  Namespace name_space = AttentionNamespace();
  name_space.chunk_tokens = 1;
  const PrefixKeys keys = SampleKeys(name_space, 1030);
  PublishRaw(keys, 1030, 2);
  int fetches = 0;
  store_.set_intercept([&fetches](const transport::Request& request,
                                  std::unique_ptr<transport::Responder>& responder) {
    if (request.method != v1::FETCH || ++fetches == 1) return false;
    responder->Complete(absl::ResourceExhaustedError("enough"));
    return true;
  });
  std::vector<Selection> plan;
  for (uint32_t chunk = 0; chunk < 1030; ++chunk) plan.push_back({.chunk = chunk});
  SampleTensors loaded(name_space, 0, 1030, Layout::kContiguous);
  auto result = client_->Load(keys, 0, 1030, loaded.views(), {.plan = plan}, Soon()).Wait();
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result->chunks, 1024u);
  ASSERT_EQ(result->misses.size(), 6u);
  EXPECT_EQ(result->misses[5].reason, MissReason::kRefused);
  EXPECT_TRUE(loaded.Holds(2, 0, 1024));
}

// The level and the distortion of what came, per selection: what keeps an engine from publishing
// what it computes on it.
TEST_F(LoadPlanTest, EachSelectionSaysWhatItReached) {
  const PrefixKeys keys = SampleKeys(AttentionNamespace(), 2);
  PublishRaw(keys, 2, 1);
  // A piece whose layer 1 is not exact.
  const Key key = keys.key(1, 0);
  std::vector<std::byte> container = store_.Container(key);
  const PieceMeta exact = PieceMeta::Parse(container).value();
  PieceHeader header = exact.header();
  header.levels[0].distortions[1] = {.key = 0.25F, .value = 0.5F};
  PieceLayout layout = PieceLayout::Create(header, exact.segments()).value();
  layout.Seal(container);
  store_.Put(key, container);

  const std::vector<Selection> plan = {
      {.chunk = 0}, {.chunk = 1, .layer_end = 1}, {.chunk = 1, .layer_begin = 1}};
  SampleTensors loaded(keys.name_space(), 0, 2, Layout::kContiguous);
  auto result = client_->Load(keys, 0, 2, loaded.views(), {.plan = plan}, Soon()).Wait();
  ASSERT_TRUE(result.ok());
  ASSERT_TRUE(result->misses.empty()) << result->misses[0].detail;
  EXPECT_FALSE(result->lossless);
  EXPECT_TRUE(result->selections[0].lossless());
  EXPECT_TRUE(result->selections[1].lossless());
  EXPECT_FALSE(result->selections[2].lossless());
  EXPECT_EQ(result->selections[2].distortion, (Distortion{.key = 0.25F, .value = 0.5F}));
  EXPECT_EQ(result->selections[2].level, 0u);
}

TEST_F(LoadPlanTest, LookupTellsTiersAndHoldsAtTheLevelAsked) {
  const PrefixKeys keys = SampleKeys(AttentionNamespace(), 1);
  Publish(keys, 1, 1);
  uint32_t asked_level = 0;
  store_.set_intercept(
      [&](const transport::Request& request, std::unique_ptr<transport::Responder>&) {
        v1::LookupRequest asked;
        EXPECT_TRUE(asked.ParseFromString(request.message));
        asked_level = asked.hold_level();
        return false;
      });
  auto hit =
      client_->Lookup(keys, {.hold = std::chrono::seconds(1), .hold_level = 2}, Soon()).Wait();
  ASSERT_TRUE(hit.ok());
  EXPECT_EQ(asked_level, 2u);
  ASSERT_FALSE(hit->pieces.empty());
  EXPECT_EQ(hit->pieces[0].tier, Tier::kHost);
}

}  // namespace
}  // namespace reprise::client
