#include "codec/calibration.h"

#include <cstring>
#include <limits>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "codec/progressive/float16.h"

namespace reprise {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

LayerGroup GroupOf(uint32_t kv_heads, uint32_t dims, RopePairing pairing, uint32_t rotated) {
  LayerGroup group;
  group.kv_heads = kv_heads;
  group.key_dim = dims;
  if (pairing != RopePairing::kNone) {
    group.rope = {.pairing = pairing, .rotated_dims = rotated, .theta = 10'000};
  }
  return group;
}

// Queries of consecutive tokens, [tokens, heads, dims].
class Queries {
 public:
  Queries(uint32_t heads, uint32_t dims, const std::vector<float>& values,
          Dtype dtype = Dtype::kFp32)
      : bytes_(values.size() * DtypeBytes(dtype)) {
    view_.data = bytes_.data();
    view_.dtype = dtype;
    view_.shape = {1, static_cast<uint32_t>(values.size()) / heads / dims, heads, dims};
    const auto head = static_cast<int64_t>(dims * DtypeBytes(dtype));
    view_.stride_bytes = {0, head * heads, head};
    for (size_t i = 0; i < values.size(); ++i) {
      const uint16_t bits =
          dtype == Dtype::kFp16 ? progressive::Fp16Of(values[i]) : progressive::Bf16Of(values[i]);
      if (dtype == Dtype::kFp32) {
        std::memcpy(bytes_.data() + 4 * i, &values[i], 4);
      } else {
        std::memcpy(bytes_.data() + 2 * i, &bits, 2);
      }
    }
  }
  const TensorView& view() const { return view_; }

 private:
  std::vector<std::byte> bytes_;
  TensorView view_;
};

// Octaves of a model of one layer that has met these queries, none of them a sink.
std::vector<int8_t> Octaves(const LayerGroup& group, const Queries& queries) {
  Calibration calibration = Calibration::Create("one", 1).value();
  const absl::Status taken = calibration.Take(0, group, queries.view(), 4);
  EXPECT_TRUE(taken.ok()) << taken;
  return calibration.Finish().layers.at(0).key_channels;
}

// Energies (16^2 + 0) / 2 = 128 and 1 / 2: four octaves apart by half their logarithm, around a
// reference in their middle.
TEST(CalibrationTest, TheTwoOfAPairShareTheirMeanEnergy) {
  EXPECT_THAT(Octaves(GroupOf(1, 4, RopePairing::kInterleaved, 4), Queries(1, 4, {16, 0, 0, -1})),
              ElementsAre(2, 2, -2, -2));
  EXPECT_THAT(Octaves(GroupOf(1, 4, RopePairing::kHalves, 4), Queries(1, 4, {-16, 0, 0, 1})),
              ElementsAre(2, -2, 2, -2));
}

// log2 of the energies: 8 for the pair, 4 and -4 for the others; their mean over channels is 4.
TEST(CalibrationTest, ChannelsThatNoRopeTurnsCountAlone) {
  EXPECT_THAT(
      Octaves(GroupOf(1, 4, RopePairing::kInterleaved, 2), Queries(1, 4, {16, 16, 4, 0.25F})),
      ElementsAre(2, 2, 0, -4));
  LayerGroup latent = GroupOf(1, 4, RopePairing::kHalves, 2);
  latent.kind = GroupKind::kLatent;
  EXPECT_THAT(Octaves(latent, Queries(1, 4, {4, 0.25F, 16, 16})), ElementsAre(0, -4, 2, 2));
  EXPECT_THAT(Octaves(GroupOf(1, 2, RopePairing::kNone, 0), Queries(1, 2, {16, 1})),
              ElementsAre(2, -2));
}

// Query heads 0 and 1 read KV head 0. Over both its energy is (128 + 0) / 2 = 64, that of KV head 1
// (1/4 + 1/4) / 2 = 1/4.
TEST(CalibrationTest, QueryHeadsCountForTheKvHeadThatTheyShare) {
  const LayerGroup group = GroupOf(2, 2, RopePairing::kInterleaved, 2);
  const float root = 0.5F;
  EXPECT_THAT(Octaves(group, Queries(4, 2, {16, 0, 0, 0, root, root, root, -root})),
              ElementsAre(2, 2, -2, -2));
}

TEST(CalibrationTest, EveryDtypeAndEveryTextCounts) {
  const LayerGroup group = GroupOf(1, 2, RopePairing::kNone, 0);
  for (const Dtype dtype : {Dtype::kBf16, Dtype::kFp16, Dtype::kFp32}) {
    Calibration calibration = Calibration::Create("two texts", 1).value();
    // (31^2 + 1 + 7^2 + 3.75^2) / 4 is 256 and a quarter, and 1.
    ASSERT_TRUE(calibration.Take(0, group, Queries(1, 2, {31, -1, 1, 1}, dtype).view(), 100).ok());
    ASSERT_TRUE(calibration
                    .Take(0, group,
                          Queries(1, 2, {0, 0, 0, 0, 0, 0, 0, 0, 7, 1, -3.75F, 1}, dtype).view(), 0)
                    .ok());
    EXPECT_THAT(calibration.Finish().layers[0].key_channels, ElementsAre(2, -2));
  }
}

TEST(CalibrationTest, TheFirstFourPositionsAreLeftOut) {
  const LayerGroup group = GroupOf(1, 2, RopePairing::kNone, 0);
  const Queries queries(1, 2, {1, 16, 1, 16, 16, 1, 16, 1, 16, 1});
  const auto octaves_from = [&](uint64_t first_position) {
    Calibration calibration = Calibration::Create("sinks", 1).value();
    EXPECT_TRUE(calibration.Take(0, group, queries.view(), first_position).ok());
    return calibration.Finish().layers[0].key_channels;
  };
  EXPECT_THAT(octaves_from(2), ElementsAre(2, -2));
  EXPECT_THAT(octaves_from(0), ElementsAre(2, -2));
  // 770 / 5 and 515 / 5: a seventh of an octave to either side.
  EXPECT_THAT(octaves_from(4), ElementsAre(0, 0));
  Calibration short_text = Calibration::Create("sinks", 1).value();
  const Queries sinks(1, 2, {9, 1, 9, 1, 9, 1, 9, 1});
  ASSERT_TRUE(short_text.Take(0, group, sinks.view(), 0).ok());
  EXPECT_THAT(short_text.Finish().layers[0].key_channels, IsEmpty());
}

TEST(CalibrationTest, LayersAreMeasuredAgainstOneReference) {
  const LayerGroup group = GroupOf(1, 2, RopePairing::kInterleaved, 2);
  Calibration calibration = Calibration::Create("t\xc3\xbcr", 3).value();
  ASSERT_TRUE(calibration.Take(0, group, Queries(1, 2, {16, 16}).view(), 4).ok());
  ASSERT_TRUE(calibration.Take(2, group, Queries(1, 2, {1, -1}).view(), 4).ok());
  const Profile profile = calibration.Finish();
  ASSERT_EQ(profile.layers.size(), 3u);
  EXPECT_THAT(profile.layers[0].key_channels, ElementsAre(2, 2));
  EXPECT_THAT(profile.layers[1].key_channels, IsEmpty());
  EXPECT_THAT(profile.layers[2].key_channels, ElementsAre(-2, -2));
  EXPECT_EQ(profile.model, "t??r");
  EXPECT_EQ(ParseProfile(Serialize(profile)).value(), profile);
}

TEST(CalibrationTest, StrangeNumbersDecideNothing) {
  const LayerGroup group = GroupOf(1, 2, RopePairing::kNone, 0);
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float infinity = std::numeric_limits<float>::infinity();
  EXPECT_THAT(Octaves(group, Queries(1, 2, {16, 1, nan, 9, 9, -infinity})), ElementsAre(2, -2));
  EXPECT_THAT(Octaves(group, Queries(1, 2, {nan, 1})), IsEmpty());
  EXPECT_THAT(Octaves(group, Queries(1, 2, {0, 0, 0, 0})), IsEmpty());
  // 2^-24 of the mean instead of nothing: 9 octaves below the reference, more than the limit.
  EXPECT_THAT(Octaves(GroupOf(2, 2, RopePairing::kNone, 0), Queries(2, 2, {1, 1, 1, 0})),
              ElementsAre(3, 3, 3, -8));
}

TEST(CalibrationTest, WhatDoesNotFitIsRefused) {
  const LayerGroup group = GroupOf(2, 2, RopePairing::kInterleaved, 2);
  const Queries queries(2, 2, {1, 1, 1, 1});
  Calibration calibration = Calibration::Create("one", 1).value();
  const auto message = [&](uint32_t layer, const LayerGroup& of, const Queries& given) {
    return std::string(calibration.Take(layer, of, given.view(), 4).message());
  };
  EXPECT_THAT(message(1, group, queries), HasSubstr("there is no layer 1"));
  EXPECT_THAT(message(0, group, Queries(3, 2, {1, 1, 1, 1, 1, 1})),
              HasSubstr("queries are [1, 1, 3, 2]; they must be [1, tokens, a multiple of 2, 2]"));
  EXPECT_THAT(message(0, group, Queries(2, 1, {1, 1})), HasSubstr("queries are [1, 1, 2, 1]"));
  EXPECT_THAT(message(0, GroupOf(2, 2, RopePairing::kInterleaved, 4), queries),
              HasSubstr("layer 0: rope.rotated_dims"));
  ASSERT_TRUE(calibration.Take(0, group, queries.view(), 4).ok());
  EXPECT_THAT(message(0, GroupOf(1, 2, RopePairing::kInterleaved, 2), queries),
              HasSubstr("layer 0 had other heads, dims or rope before"));
  EXPECT_FALSE(Calibration::Create("deep", 1001).ok());
}

}  // namespace
}  // namespace reprise
