// Codecs and levels over loopback: what publish chooses, what a lower level saves and loses, and
// what a load says about it.

#include <algorithm>
#include <memory>
#include <numeric>
#include <utility>

#include <gmock/gmock.h>

#include "client/attention_sample.h"
#include "client/client_fixture.h"
#include "proto/reprise.pb.h"

namespace reprise::client {
namespace {

using ::testing::HasSubstr;

constexpr uint32_t kLevels = kProgressiveLevels;

class LevelsTest : public ClientTest {
 protected:
  // Publishes a sample of `chunks` chunks by what PublishOptions say by themselves.
  PrefixKeys PublishSample(AttentionSample& sample, uint32_t chunks, PublishOptions options = {}) {
    PrefixKeys keys = SampleKeys(sample.name_space(), chunks);
    sample.Fill(1);
    auto published = client_->Publish(keys, chunks, sample.views(), options, Soon()).Wait();
    EXPECT_TRUE(published.ok()) << published.status();
    EXPECT_EQ(published->pieces_stored, chunks * keys.pieces_per_chunk());
    return keys;
  }

  CodecId CodecOf(const Key& key) {
    return PieceMeta::Parse(store_.Container(key)).value().header().codec;
  }
};

class EveryDtypeTest : public LevelsTest, public ::testing::WithParamInterface<Dtype> {};

TEST_P(EveryDtypeTest, ALevelMovesOnlyItsPlanesAndSaysWhatItLost) {
  AttentionSample sample(GetParam(), 2);
  const PrefixKeys keys = PublishSample(sample, 2);
  const LookupResult hit = client_->Lookup(keys, {}, Soon()).Wait().value();
  ASSERT_EQ(hit.chunks, 2u);
  for (uint32_t level = 0; level < kLevels; ++level) {
    AttentionSample loaded(GetParam(), 2);
    const LoadResult result =
        client_->Load(keys, 0, 2, loaded.views(), {.level = level, .expected = &hit}, Soon())
            .Wait()
            .value();
    ASSERT_EQ(result.chunks, 2u);
    const uint64_t bytes = std::accumulate(
        hit.pieces.begin(), hit.pieces.end(), uint64_t{0},
        [&](uint64_t sum, const PieceState& piece) { return sum + piece.level_bytes[level]; });
    EXPECT_NEAR(static_cast<double>(result.bytes_received), static_cast<double>(bytes),
                0.01 * static_cast<double>(bytes));
    EXPECT_EQ(result.lossless, level == kLevels - 1);
    for (uint32_t chunk = 0; chunk < 2; ++chunk) {
      const SelectionResult& selection = result.selections[chunk];
      const Distortion lost = loaded.LostOf(sample, chunk);
      EXPECT_EQ(selection.level, level);
      // The encoder measures before values are rounded to the dtype.
      EXPECT_NEAR(selection.distortion.key, lost.key, 0.03F * lost.key) << "level " << level;
      EXPECT_NEAR(selection.distortion.value, lost.value, 0.03F * lost.value) << "level " << level;
    }
    EXPECT_EQ(loaded == sample, level == kLevels - 1);
  }
}

INSTANTIATE_TEST_SUITE_P(Dtypes, EveryDtypeTest, ::testing::Values(Dtype::kBf16, Dtype::kFp16));

TEST_F(LevelsTest, PublishIsProgressiveUnlessAskedForRaw) {
  AttentionSample sample(Dtype::kBf16, 1);
  const PrefixKeys keys = PublishSample(sample, 1);
  EXPECT_EQ(CodecOf(keys.key(0, 0)), CodecId::kProgressive);
  const size_t progressive_bytes = store_.Container(keys.key(0, 0)).size();
  store_.Erase(keys.key(0, 0));
  store_.Erase(keys.key(0, 1));
  PublishSample(sample, 1, {.codec = CodecId::kRaw});
  EXPECT_EQ(CodecOf(keys.key(0, 0)), CodecId::kRaw);
  EXPECT_LT(progressive_bytes, store_.Container(keys.key(0, 0)).size());
}

// An octave finer throughout.
Profile FinerProfile() {
  Profile profile;
  profile.model = "attention";
  profile.layers.resize(3);
  for (Profile::Layer& layer : profile.layers) layer.key_octaves = 1;
  return profile;
}

TEST_F(LevelsTest, AProfileMakesStepsFinerUnderKeysOfItsOwn) {
  AttentionSample sample(Dtype::kBf16, 1);
  const PrefixKeys plain = PublishSample(sample, 1);
  auto profile = std::make_shared<const Profile>(FinerProfile());
  Namespace name_space = sample.name_space();
  name_space.profile = ProfileName(*profile);
  const PrefixKeys keys = SampleKeys(name_space, 1);
  EXPECT_NE(keys.key(0, 0), plain.key(0, 0));
  // The publish keeps what it needs.
  auto publish = client_->Publish(keys, 1, sample.views(), {.profile = std::move(profile)}, Soon());
  auto published = publish.Wait();
  ASSERT_TRUE(published.ok()) << published.status();
  EXPECT_EQ(published->pieces_stored, keys.pieces_per_chunk());
  for (uint32_t level = 0; level < kLevels; ++level) {
    AttentionSample loaded(Dtype::kBf16, 1);
    AttentionSample loaded_plain(Dtype::kBf16, 1);
    const LoadOptions options{.level = level};
    const LoadResult result =
        client_->Load(keys, 0, 1, loaded.views(), options, Soon()).Wait().value();
    ASSERT_EQ(result.chunks, 1u);
    ASSERT_TRUE(client_->Load(plain, 0, 1, loaded_plain.views(), options, Soon()).Wait().ok());
    const Distortion lost = loaded.LostOf(sample, 0);
    EXPECT_NEAR(result.selections[0].distortion.key, lost.key, 0.03F * lost.key);
    EXPECT_EQ(loaded == sample, level == kLevels - 1);
    const float half = loaded_plain.LostOf(sample, 0).key / 2;
    // Less than half at low levels, where more channels enter.
    EXPECT_LE(lost.key, 1.05F * half) << "level " << level;
  }
}

TEST_F(LevelsTest, APublishHasTheProfileThatItsNamespaceNamesOrIsRefused) {
  AttentionSample sample(Dtype::kBf16, 1);
  const auto profile = std::make_shared<const Profile>(FinerProfile());
  Namespace name_space = sample.name_space();
  const auto refusal = [&](std::shared_ptr<const Profile> given) {
    const absl::Status status = client_
                                    ->Publish(SampleKeys(name_space, 1), 1, sample.views(),
                                              {.profile = std::move(given)}, Soon())
                                    .Wait()
                                    .status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
    return std::string(status.message());
  };
  EXPECT_THAT(refusal(profile), HasSubstr("the namespace names no profile, given is "));
  name_space.profile = ProfileName(*profile);
  EXPECT_THAT(refusal(nullptr),
              HasSubstr("names profile " + name_space.profile + ", given is none"));
  auto other = std::make_shared<Profile>(*profile);
  other->layers.pop_back();
  EXPECT_THAT(refusal(other), HasSubstr("the namespace names profile "));
  name_space.profile = ProfileName(*other);
  EXPECT_THAT(refusal(other), HasSubstr("has 2 layers, the namespace layer 2"));
  EXPECT_EQ(store_.requests(v1::LOOKUP), 0);
}

// Raw pieces have one level, which says nothing about what their neighbours reached.
TEST_F(LevelsTest, WhatCannotBeCodedTravelsRawAndIsExactAtEveryLevel) {
  const PrefixKeys keys = SampleKeys(StateNamespace(), 2);
  Publish(keys, 2, 42);
  for (uint32_t slot = 0; slot < keys.pieces_per_chunk(); ++slot) {
    EXPECT_EQ(CodecOf(keys.key(0, slot)),
              keys.slots()[slot].group == 0 ? CodecId::kProgressive : CodecId::kRaw);
  }
  SampleTensors loaded(keys.name_space(), 0, 2, Layout::kContiguous);
  const LoadResult result =
      client_->Load(keys, 0, 2, loaded.views(), {.level = 3}, Soon()).Wait().value();
  ASSERT_EQ(result.chunks, 2u);
  EXPECT_EQ(result.selections[1].level, 3u);
  EXPECT_TRUE(loaded.Holds(42, 1, 1, 2));
  EXPECT_TRUE(loaded.Holds(42, 2, 0, 2));
}

// The highest level there is, when more is asked; and every layer of a plan at its own.
TEST_F(LevelsTest, APlanMixesLevels) {
  AttentionSample sample(Dtype::kFp16, 1);
  const PrefixKeys keys = PublishSample(sample, 1);
  const std::vector<Selection> plan = {{.chunk = 0, .level = 1, .layer_end = 2},
                                       {.chunk = 0, .layer_begin = 2}};
  AttentionSample loaded(Dtype::kFp16, 1);
  const LoadResult result =
      client_->Load(keys, 0, 1, loaded.views(), {.plan = plan}, Soon()).Wait().value();
  ASSERT_TRUE(result.misses.empty());
  EXPECT_EQ(result.selections[0].level, 1u);
  EXPECT_GT(result.selections[0].distortion.key, 0);
  EXPECT_EQ(result.selections[1].level, kLevels - 1);
  EXPECT_TRUE(result.selections[1].lossless());
  EXPECT_FALSE(result.lossless);
}

}  // namespace
}  // namespace reprise::client
