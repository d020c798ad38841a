// Every rule of the format from both sides: what the builder refuses as the caller's mistake, the
// parser refuses as damage, even when the content id matches.
#include <algorithm>
#include <functional>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "chunk/container.h"
#include "chunk/container_format.h"
#include "chunk/testing/sample_piece.h"
#include "common/limits.h"

namespace reprise {
namespace {

using ::testing::HasSubstr;

struct Parts {
  PieceHeader header;
  std::vector<Segment> segments;
};
using Change = std::function<void(Parts&)>;
using Case = std::pair<std::string, Change>;

Parts PlacedParts(const SampleShape& shape) {
  auto layout = PieceLayout::Create(SampleHeader(shape), SampleSegments(shape));
  EXPECT_TRUE(layout.ok()) << layout.status();
  return {layout->meta().header(), layout->meta().segments()};
}

void ExpectBuilderRefuses(const Parts& parts, const std::string& message) {
  const auto layout = PieceLayout::Create(parts.header, parts.segments);
  EXPECT_EQ(layout.status().code(), absl::StatusCode::kInvalidArgument) << message;
  EXPECT_THAT(layout.status().message(), HasSubstr(message));
}

void ExpectParserRefuses(const Parts& parts, const std::string& message) {
  const auto meta = PieceMeta::Parse(SealedMeta(parts.header, parts.segments));
  EXPECT_EQ(meta.status().code(), absl::StatusCode::kDataLoss) << message;
  EXPECT_THAT(meta.status().message(), HasSubstr(message));
}

void ExpectBothRefuse(const SampleShape& shape, const std::vector<Case>& cases) {
  for (const auto& [message, change] : cases) {
    Parts parts = PlacedParts(shape);
    change(parts);
    ExpectBuilderRefuses(parts, message);
    ExpectParserRefuses(parts, message);
  }
}

// One segment a part: segments are K0 V0 K1 V1 of plane 0, then of plane 1.
constexpr SampleShape kAttention = {.tokens = 5, .max_blocks = 1};

TEST(ContainerRules, Shape) {
  ExpectBothRefuse(
      kAttention,
      {
          {"group kind 0", [](Parts& p) { p.header.group_kind = static_cast<GroupKind>(0); }},
          {"group kind 6", [](Parts& p) { p.header.group_kind = static_cast<GroupKind>(6); }},
          {"dtype 4 is unknown", [](Parts& p) { p.header.dtype = static_cast<Dtype>(4); }},
          {"dtype 0 does not", [](Parts& p) { p.header.dtype = Dtype::kOpaque; }},
          {"layers [4, 4)", [](Parts& p) { p.header.slot.layer_end = 4; }},
          {"layers [1023, 1025)",
           [](Parts& p) {
             p.header.slot.layer_begin = kMaxLayers - 1, p.header.slot.layer_end = kMaxLayers + 1;
           }},
          {"KV heads [2, 2)", [](Parts& p) { p.header.slot.head_end = 2; }},
          {"KV heads [2, 1025)", [](Parts& p) { p.header.slot.head_end = kMaxKvHeads + 1; }},
          {"key_dim 0", [](Parts& p) { p.header.key_dim = 0; }},
          {"key_dim 4097", [](Parts& p) { p.header.key_dim = kMaxHeadDim + 1; }},
          {"value_dim 4097", [](Parts& p) { p.header.value_dim = kMaxHeadDim + 1; }},
          {"value_dim 0 do not go", [](Parts& p) { p.header.value_dim = 0; }},
          {"token count 0", [](Parts& p) { p.header.token_count = 0; }},
          {"token count 8193", [](Parts& p) { p.header.token_count = kMaxTokensPerChunk + 1; }},
          {"token position", [](Parts& p) { p.header.token_begin = UINT64_MAX - 3; }},
      });
  ExpectBothRefuse({.kind = GroupKind::kLatent},
                   {{"value_dim 3 do not go", [](Parts& p) { p.header.value_dim = 3; }},
                    {"key_dim 0", [](Parts& p) { p.header.key_dim = 0; }}});
  ExpectBothRefuse({.kind = GroupKind::kState},
                   {{"value_dim 3 do not go", [](Parts& p) { p.header.value_dim = 3; }},
                    {"dtype 1 does not", [](Parts& p) { p.header.dtype = Dtype::kBf16; }}});
}

TEST(ContainerRules, Distortions) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float infinity = std::numeric_limits<float>::infinity();
  ExpectBothRefuse(
      kAttention,
      {
          {"of level 0, layer 1", [nan](Parts& p) { p.header.levels[0].distortions[1].key = nan; }},
          {"of level 1, layer 0",
           [infinity](Parts& p) { p.header.levels[1].distortions[0].value = infinity; }},
          {"distortion -1", [](Parts& p) { p.header.levels[0].distortions[0].key = -1; }},
      });
  ExpectBothRefuse({.kind = GroupKind::kLatent}, {{"V that the piece has not", [](Parts& p) {
                                                     p.header.levels[0].distortions[0].value = 0.5F;
                                                   }}});
}

TEST(ContainerRules, Counts) {
  Parts parts = PlacedParts(kAttention);
  parts.header.levels.clear();
  ExpectBuilderRefuses(parts, "level count 0");
  ExpectParserRefuses(parts, "level count 0");

  parts = PlacedParts(kAttention);
  parts.header.levels.resize(kMaxPlanes + 1, parts.header.levels[0]);
  ExpectBuilderRefuses(parts, "level count 17");
  ExpectParserRefuses(parts, "level count 17");

  parts = PlacedParts(kAttention);
  parts.header.codec_parameters.resize(kMaxCodecParameterBytes + 1);
  ExpectBuilderRefuses(parts, "65537 bytes of codec parameters");
  ExpectParserRefuses(parts, "65537 bytes of codec parameters");

  parts = PlacedParts(kAttention);
  parts.segments.clear();
  ExpectBuilderRefuses(parts, "ends after 0 segments");
  ExpectParserRefuses(parts, "segment count 0");

  parts = PlacedParts(kAttention);
  parts.header.levels[1].distortions.pop_back();
  ExpectBuilderRefuses(parts, "level 1 has 1 distortions for 2 layers");
}

TEST(ContainerRules, OrderOfSegments) {
  ExpectBothRefuse(
      kAttention,
      {
          {"segment 0 is plane 0, layer 0, part V where plane 0, layer 0, part K",
           [](Parts& p) { std::swap(p.segments[0], p.segments[1]); }},
          {"segment 1 is plane 0, layer 1, part K where plane 0, layer 0, part V",
           [](Parts& p) { std::swap(p.segments[1], p.segments[2]); }},
          {"segment 3 is plane 1", [](Parts& p) { p.segments.erase(p.segments.begin() + 3); }},
          {"segment 4 is plane 0", [](Parts& p) { p.segments[4].plane = 0; }},
          {"segment 0 is plane 1", [](Parts& p) { p.segments[0].plane = 1; }},
          {"segment 2 is plane 0, layer 7", [](Parts& p) { p.segments[2].layer = 7; }},
          {"part opaque where", [](Parts& p) { p.segments[0].part = TensorPart::kOpaque; }},
          {"part unknown where", [](Parts& p) { p.segments[0].part = static_cast<TensorPart>(9); }},
          {"before plane 1, layer 1, part V is complete", [](Parts& p) { p.segments.pop_back(); }},
          {"segment 8 comes after the last plane",
           [](Parts& p) { p.segments.push_back(p.segments.back()); }},
      });
}

TEST(ContainerRules, TokensOfSegments) {
  ExpectBothRefuse(
      kAttention,
      {
          {"begins at token 1 instead of 0", [](Parts& p) { p.segments[0].token_begin = 1; }},
          {"states 0 tokens", [](Parts& p) { p.segments[0].token_count = 0; }},
          {"states 6 tokens", [](Parts& p) { p.segments[0].token_count = 6; }},
          {"states 4294967295 tokens", [](Parts& p) { p.segments[0].token_count = UINT32_MAX; }},
          {"part V where plane 0, layer 0, part K",
           [](Parts& p) { p.segments[0].token_count = 4; }},
          {"before plane 1, layer 1, part V", [](Parts& p) { p.segments[7].token_count = 4; }},
      });
  ExpectBothRefuse(
      {.kind = GroupKind::kOpaque, .max_blocks = 1},
      {{"begins at block 1 instead of 0", [](Parts& p) { p.segments[0].token_begin = 1; }},
       {"states 1 tokens", [](Parts& p) { p.segments[0].token_count = 1; }},
       {"segment 1 is plane 0, layer 0",
        [](Parts& p) { p.segments[1].layer = 0, p.segments[1].part = TensorPart::kKey; }},
       {"begins at block 0 instead of 1", [](Parts& p) { p.segments[1].layer = 0; }}});
}

TEST(ContainerRules, LengthsOfSegments) {
  ExpectBothRefuse(
      kAttention,
      {
          {"has length 0", [](Parts& p) { p.segments[2].length = 0; }},
          {"has length 8388609", [](Parts& p) { p.segments[2].length = kMaxPartBytes + 1; }},
          {"has length 4294967295", [](Parts& p) { p.segments[2].length = UINT32_MAX; }},
      });
}

// What only a parser can meet: a builder computes these itself.
TEST(ContainerRules, PlacesAndSizes) {
  const std::vector<Case> cases = {
      {"segment 1 states offset", [](Parts& p) { ++p.segments[1].offset; }},
      {"segment 1 states offset 0", [](Parts& p) { p.segments[1].offset = 0; }},
      {"where 4096 belongs", [](Parts& p) { p.segments[4].offset = 8192; }},
      {"states offset 18446744073709551615", [](Parts& p) { p.segments[3].offset = UINT64_MAX; }},
      {"level 0 states", [](Parts& p) { ++p.header.levels[0].body_bytes; }},
      {"level 1 states 0 body bytes", [](Parts& p) { p.header.levels[1].body_bytes = 0; }},
  };
  for (const auto& [message, change] : cases) {
    Parts parts = PlacedParts(kAttention);
    change(parts);
    ExpectParserRefuses(parts, message);
  }
}

TEST(ContainerRules, ReservedFieldsAreZero) {
  const Parts parts = PlacedParts(kAttention);
  const std::vector<std::byte> good = SealedMeta(parts.header, parts.segments);
  const size_t field_bytes = FieldBytes(parts.header, parts.segments.size());
  const size_t last_segment = field_bytes - 32;
  for (const size_t at : {size_t{10}, size_t{11}, last_segment + 3}) {
    std::vector<std::byte> meta = good;
    meta[at] = std::byte{1};
    const ContentId id = ComputeContentId(ByteSpan(meta).first(field_bytes));
    std::ranges::copy(id.digest.bytes, meta.begin() + kContentIdOffset);
    const absl::Status status = PieceMeta::Parse(meta).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << "byte " << at;
    EXPECT_THAT(status.message(), HasSubstr("reserved"));
  }
}

std::vector<Segment> OpaqueBlocks(uint32_t count, uint32_t length) {
  std::vector<Segment> segments;
  for (uint32_t i = 0; i < count; ++i) segments.push_back({.token_begin = i, .length = length});
  return segments;
}

TEST(ContainerLimits, SegmentsOfOnePiece) {
  const PieceHeader header = SampleHeader({.kind = GroupKind::kOpaque, .layers = 1, .planes = 1});
  EXPECT_TRUE(PieceLayout::Create(header, OpaqueBlocks(kMaxSegmentsPerPiece, 1)).ok());
  const Parts too_many = {header, OpaqueBlocks(kMaxSegmentsPerPiece + 1, 1)};
  ExpectBuilderRefuses(too_many, "more than 65536 segments");
  ExpectParserRefuses(too_many, "segment count 65537");
}

TEST(ContainerLimits, BytesOfOneBody) {
  const PieceHeader header = SampleHeader({.kind = GroupKind::kOpaque, .layers = 1, .planes = 1});
  const auto largest = PieceLayout::Create(header, OpaqueBlocks(32, kMaxPartBytes));
  ASSERT_TRUE(largest.ok()) << largest.status();
  EXPECT_EQ(largest->meta().body_bytes(), kMaxPieceBodyBytes);
  std::vector<Segment> segments = OpaqueBlocks(33, kMaxPartBytes);
  segments.back().length = 1;
  for (uint32_t i = 0; i < segments.size(); ++i) segments[i].offset = i * kMaxPartBytes;
  ExpectBuilderRefuses({header, segments}, "largest body");
  ExpectParserRefuses({header, segments}, "largest body");
}

TEST(ContainerLimits, TheLargestShapeStillFitsTheMetaLimit) {
  SampleShape shape = {.layers = kMaxLayers,
                       .planes = kMaxPlanes,
                       .tokens = 2,
                       .max_blocks = 2,
                       .max_segment_bytes = 1};
  PieceHeader header = SampleHeader({.layers = 1, .planes = 1});
  header.slot.layer_begin = 0;
  header.slot.layer_end = kMaxLayers;
  header.token_count = 2;
  header.codec_parameters.resize(kMaxCodecParameterBytes);
  header.levels.assign(kMaxPlanes, {.distortions = std::vector<Distortion>(kMaxLayers)});
  std::vector<Segment> segments = SampleSegments(shape);
  ASSERT_GT(segments.size(), 40'000u);
  auto layout = PieceLayout::Create(header, segments);
  ASSERT_TRUE(layout.ok()) << layout.status();
  EXPECT_LE(layout->meta_bytes(), kMaxPieceMetaBytes);
  std::vector<std::byte> container(layout->total_bytes());
  layout->Seal(container);
  EXPECT_TRUE(PieceMeta::Parse(container).ok());
}

TEST(ContainerPreamble, StatesALengthThatFitsTheFields) {
  const auto with_meta_bytes = [](uint32_t value) {
    std::vector<std::byte> container = SamplePiece({});
    for (size_t i = 0; i < 4; ++i) container[12 + i] = static_cast<std::byte>(value >> (8 * i));
    container.resize(kMaxPieceMetaBytes + kPlaneAlignment);
    return PieceMeta::Parse(container).status();
  };
  EXPECT_TRUE(with_meta_bytes(4096).ok());
  for (const uint32_t value : {0u, 1u, 4095u, 4097u, 8191u, UINT32_MAX, 4194304u + 4096u}) {
    EXPECT_EQ(with_meta_bytes(value).code(), absl::StatusCode::kDataLoss) << value;
    EXPECT_THAT(with_meta_bytes(value).message(), HasSubstr("which is not a multiple of 4096"));
  }
  EXPECT_THAT(with_meta_bytes(8192).message(), HasSubstr("states 8192 bytes"));
}

}  // namespace
}  // namespace reprise
