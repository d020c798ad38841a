#include "codec/codec.h"

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "codec/testing/guarded_tensor.h"
#include "common/limits.h"

namespace reprise {
namespace {

// What Create says of the destination.
absl::Status CheckDestination(const PieceMeta& meta, const TensorView& key,
                              const TensorView& value) {
  return PieceDecoder::Create(meta, key, value).status();
}

// One segment alone, into a decoder of its own.
absl::Status DecodeSegment(const PieceMeta& meta, uint32_t segment, ByteSpan bytes,
                           const TensorView& key, const TensorView& value) {
  REPRISE_ASSIGN_OR_RETURN(const std::unique_ptr<PieceDecoder> decoder,
                           PieceDecoder::Create(meta, key, value));
  return decoder->Take(segment, bytes);
}

using ::testing::HasSubstr;

// One piece's place in a namespace of its own.
struct PieceCase {
  GroupKind kind = GroupKind::kFullAttention;
  Dtype dtype = Dtype::kBf16;
  uint32_t layers = 2;
  uint32_t heads = 2;
  uint32_t tokens = 16;
  uint32_t key_dim = 8;
  uint32_t value_dim = 8;
};

Namespace NamespaceOf(const PieceCase& c) {
  Namespace name_space;
  name_space.model = "m";
  name_space.kv_dtype = c.dtype;
  name_space.chunk_tokens = c.tokens;
  LayerGroup group;
  group.kind = c.kind;
  for (uint32_t layer = 0; layer < c.layers; ++layer) group.layers.push_back(layer);
  group.kv_heads = c.heads;
  group.key_dim = c.key_dim;
  group.value_dim = c.value_dim;
  group.window_tokens = c.kind == GroupKind::kSlidingWindow ? 128 : 0;
  group.layers_per_piece = c.layers;
  group.heads_per_piece = c.heads;
  name_space.groups.push_back(group);
  return name_space;
}

PieceIdentity IdentityOf(const PieceCase& c) {
  PieceIdentity identity;
  identity.key = {Sha256::Of(AsBytes("key"))};
  identity.namespace_fingerprint = Sha256::Of(AsBytes("namespace"));
  identity.slot = {
      .group = 0, .layer_begin = 0, .layer_end = c.layers, .head_begin = 0, .head_end = c.heads};
  identity.token_begin = 512;
  return identity;
}

std::array<uint32_t, 4> KeyShape(const PieceCase& c) {
  return {c.layers, c.tokens, c.heads, c.key_dim};
}
std::array<uint32_t, 4> ValueShape(const PieceCase& c) {
  return {c.layers, c.tokens, c.heads, c.value_dim};
}

GuardedTensor Packed(Dtype dtype, const std::array<uint32_t, 4>& shape) {
  return GuardedTensor(dtype, shape, {0, 1, 2}, 0, {});
}

// The body that docs/container.md promises: layer-major, K before V, token-major, then head, then
// dim.
std::vector<std::byte> ExpectedBody(const PieceCase& c, uint32_t key_seed, uint32_t value_seed) {
  std::vector<std::byte> body;
  for (uint32_t l = 0; l < c.layers; ++l) {
    for (const bool is_key : {true, false}) {
      const size_t row_bytes = (is_key ? c.key_dim : c.value_dim) * DtypeBytes(c.dtype);
      for (uint32_t t = 0; t < c.tokens; ++t) {
        for (uint32_t h = 0; h < c.heads; ++h) {
          for (size_t i = 0; i < row_bytes; ++i) {
            body.push_back(GuardedTensor::Expected(is_key ? key_seed : value_seed, l, t, h, i));
          }
        }
      }
    }
  }
  return body;
}

void ExpectDecodes(const PieceMeta& meta, const std::vector<std::byte>& container,
                   const TensorView& key, const TensorView& value) {
  ASSERT_TRUE(CheckDestination(meta, key, value).ok()) << CheckDestination(meta, key, value);
  const ByteSpan body = ByteSpan(container).subspan(meta.meta_bytes());
  ASSERT_TRUE(meta.VerifyBody(body, 0).ok());
  for (uint32_t i = 0; i < meta.segments().size(); ++i) {
    const Segment& segment = meta.segments()[i];
    const absl::Status status =
        DecodeSegment(meta, i, body.subspan(segment.offset, segment.length), key, value);
    ASSERT_TRUE(status.ok()) << status;
  }
}

struct Layout {
  std::array<int, 3> order = {0, 1, 2};
  size_t gap = 0;
  std::array<bool, 3> reversed{};
};

TEST(RawCodec, EncodesIntoUsedMemory) {
  const PieceCase c{.heads = 3, .tokens = 5, .value_dim = 4};
  GuardedTensor key = Packed(c.dtype, KeyShape(c));
  GuardedTensor value = Packed(c.dtype, ValueShape(c));
  key.Fill(1);
  value.Fill(2);
  const auto fresh = EncodePiece(NamespaceOf(c), IdentityOf(c), key.view(), value.view());
  ASSERT_TRUE(fresh.ok()) << fresh.status();
  for (const size_t size : {size_t{1}, fresh->size() - 1, fresh->size(), fresh->size() + 100}) {
    std::vector<std::byte> memory(size, std::byte{0xff});
    const std::byte* const address = memory.data();
    const auto again = EncodePiece(NamespaceOf(c), IdentityOf(c), key.view(), value.view(),
                                   CodecId::kRaw, nullptr, std::move(memory));
    ASSERT_TRUE(again.ok()) << again.status();
    EXPECT_EQ(*again, *fresh) << size;
    EXPECT_EQ(again->data() == address, size >= fresh->size()) << size;
  }
}

// Encodes from one layout, decodes into another, and checks body, values and guards.
void ExpectRoundTrip(const PieceCase& c, const Layout& from, const Layout& to) {
  SCOPED_TRACE(testing::Message() << c.layers << " layers, " << c.tokens << " tokens, " << c.heads
                                  << " heads, dims " << c.key_dim << " and " << c.value_dim);
  const bool has_value = c.value_dim != 0;
  GuardedTensor key(c.dtype, KeyShape(c), from.order, from.gap, from.reversed);
  GuardedTensor value(c.dtype, ValueShape(c), from.order, from.gap, from.reversed);
  key.Fill(1);
  value.Fill(2);
  const TensorView absent;
  const auto container =
      EncodePiece(NamespaceOf(c), IdentityOf(c), key.view(), has_value ? value.view() : absent);
  ASSERT_TRUE(container.ok()) << container.status();
  const auto meta = PieceMeta::Parse(*container);
  ASSERT_TRUE(meta.ok()) << meta.status();
  EXPECT_EQ(meta->total_bytes(), container->size());
  const ByteSpan body = ByteSpan(*container).subspan(meta->meta_bytes());
  EXPECT_TRUE(std::ranges::equal(body, ExpectedBody(c, 1, 2)));

  GuardedTensor new_key(c.dtype, KeyShape(c), to.order, to.gap, to.reversed);
  GuardedTensor new_value(c.dtype, ValueShape(c), to.order, to.gap, to.reversed);
  new_key.Wipe();
  new_value.Wipe();
  ExpectDecodes(*meta, *container, new_key.view(), has_value ? new_value.view() : absent);
  new_key.ExpectHolds(1);
  new_key.ExpectGuardsIntact();
  if (has_value) new_value.ExpectHolds(2);
  new_value.ExpectGuardsIntact();
  key.ExpectHolds(1);
}

TEST(RawCodec, RoundTripsBetweenAnyTwoLayouts) {
  std::mt19937 random(3);
  const auto pick = [&](uint32_t limit) { return static_cast<uint32_t>(random() % limit); };
  const auto layout = [&] {
    Layout result;
    std::shuffle(result.order.begin(), result.order.end(), random);
    if (pick(2) == 1) result.gap = 4 * (1 + pick(4));
    for (bool& reversed : result.reversed) reversed = pick(3) == 0;
    return result;
  };
  constexpr std::array kDtypes = {Dtype::kBf16, Dtype::kFp16, Dtype::kFp32};
  constexpr std::array<uint32_t, 5> kDims = {1, 40, 64, 72, 576};
  for (int round = 0; round < 120; ++round) {
    PieceCase c = {.dtype = kDtypes[pick(3)],
                   .layers = 1 + pick(4),
                   .heads = 1 + pick(5),
                   .tokens = 1 + pick(33),
                   .key_dim = kDims[pick(5)],
                   .value_dim = kDims[pick(5)]};
    if (pick(4) == 0) c.kind = GroupKind::kSlidingWindow;
    if (pick(4) == 0) {
      c.kind = GroupKind::kLatent;
      c.heads = 1;
      c.value_dim = 0;
    }
    ExpectRoundTrip(c, layout(), layout());
  }
}

TEST(RawCodec, RoundTripsOpaqueBytes) {
  for (const GroupKind kind : {GroupKind::kState, GroupKind::kOpaque}) {
    const PieceCase c = {.kind = kind,
                         .dtype = Dtype::kOpaque,
                         .layers = 3,
                         .heads = 4,
                         .tokens = kind == GroupKind::kState ? 1u : 2u,
                         .key_dim = 33,
                         .value_dim = 0};
    ExpectRoundTrip(c, {.order = {2, 0, 1}, .gap = 3}, {.reversed = {true, true, true}});
  }
}

TEST(RawCodec, OpaqueGroupsAreBytesWhateverTheNamespacesDtype) {
  const PieceCase c = {.kind = GroupKind::kState, .tokens = 1, .value_dim = 0};
  GuardedTensor bytes = Packed(Dtype::kOpaque, KeyShape(c));
  EXPECT_TRUE(EncodePiece(NamespaceOf(c), IdentityOf(c), bytes.view(), {}).ok());
  GuardedTensor floats = Packed(Dtype::kBf16, KeyShape(c));
  EXPECT_FALSE(EncodePiece(NamespaceOf(c), IdentityOf(c), floats.view(), {}).ok());
}

TEST(RawCodec, TakesWhatTheProgressiveCodecCannotCode) {
  const PieceCase c = {.dtype = Dtype::kFp32, .tokens = 40};
  GuardedTensor key = Packed(c.dtype, KeyShape(c));
  GuardedTensor value = Packed(c.dtype, ValueShape(c));
  key.Fill(1);
  value.Fill(2);
  const auto container =
      EncodePiece(NamespaceOf(c), IdentityOf(c), key.view(), value.view(), CodecId::kProgressive);
  ASSERT_TRUE(container.ok()) << container.status();
  const auto meta = PieceMeta::Parse(*container);
  ASSERT_TRUE(meta.ok()) << meta.status();
  EXPECT_EQ(meta->header().codec, CodecId::kRaw);
  EXPECT_EQ(meta->level_count(), 1U);
  const ByteSpan body = ByteSpan(*container).subspan(meta->meta_bytes());
  EXPECT_TRUE(std::ranges::equal(body, ExpectedBody(c, 1, 2)));
}

TEST(RawCodec, CutsLongTensorsIntoSegmentsOfAtMostOnePart) {
  // 8 heads of 128 fp32: 4 KiB a row of K, 2,048 rows a part.
  const PieceCase c = {.dtype = Dtype::kFp32,
                       .layers = 2,
                       .heads = 8,
                       .tokens = 8191,
                       .key_dim = 128,
                       .value_dim = 3};
  GuardedTensor key = Packed(c.dtype, KeyShape(c));
  GuardedTensor value = Packed(c.dtype, ValueShape(c));
  key.Fill(1);
  value.Fill(2);
  const auto container = EncodePiece(NamespaceOf(c), IdentityOf(c), key.view(), value.view());
  ASSERT_TRUE(container.ok()) << container.status();
  const auto meta = PieceMeta::Parse(*container);
  ASSERT_TRUE(meta.ok()) << meta.status();
  ASSERT_EQ(meta->segments().size(), 2u * (4 + 1));
  for (uint32_t i = 0; i < 3; ++i) {
    EXPECT_EQ(meta->segments()[i].length, kMaxPartBytes);
    EXPECT_EQ(meta->segments()[i].token_begin, 2048 * i);
  }
  EXPECT_EQ(meta->segments()[3].token_count, 2047u);
  EXPECT_EQ(meta->segments()[4].part, TensorPart::kValue);
  GuardedTensor new_key(c.dtype, KeyShape(c), {0, 2, 1}, 0, {});
  GuardedTensor new_value(c.dtype, ValueShape(c), {2, 1, 0}, 4, {});
  ExpectDecodes(*meta, *container, new_key.view(), new_value.view());
  new_key.ExpectHolds(1);
  new_value.ExpectHolds(2);
  new_key.ExpectGuardsIntact();
  new_value.ExpectGuardsIntact();
}

TEST(RawCodec, CutsLongOpaqueTensorsToo) {
  const PieceCase c = {.kind = GroupKind::kOpaque,
                       .dtype = Dtype::kOpaque,
                       .layers = 1,
                       .heads = 700,
                       .tokens = 7,
                       .key_dim = 4001,
                       .value_dim = 0};
  GuardedTensor key = Packed(c.dtype, KeyShape(c));
  key.Fill(1);
  const auto container = EncodePiece(NamespaceOf(c), IdentityOf(c), key.view(), {});
  ASSERT_TRUE(container.ok()) << container.status();
  const auto meta = PieceMeta::Parse(*container);
  ASSERT_EQ(meta->segments().size(), 4u) << "two rows of 2.8 MB each, one in the last";
  GuardedTensor decoded(c.dtype, KeyShape(c), {0, 2, 1}, 1, {});
  ExpectDecodes(*meta, *container, decoded.view(), {});
  decoded.ExpectHolds(1);
  decoded.ExpectGuardsIntact();
}

TEST(RawCodec, HeadersSayWhatWasEncoded) {
  const PieceCase c = {
      .kind = GroupKind::kSlidingWindow, .dtype = Dtype::kFp16, .key_dim = 40, .value_dim = 72};
  GuardedTensor key = Packed(c.dtype, KeyShape(c));
  GuardedTensor value = Packed(c.dtype, ValueShape(c));
  const PieceIdentity identity = IdentityOf(c);
  const auto container = EncodePiece(NamespaceOf(c), identity, key.view(), value.view());
  const auto meta = PieceMeta::Parse(*container);
  ASSERT_TRUE(meta.ok()) << meta.status();
  const PieceHeader& header = meta->header();
  EXPECT_EQ(header.key, identity.key);
  EXPECT_EQ(header.namespace_fingerprint, identity.namespace_fingerprint);
  EXPECT_EQ(header.slot, identity.slot);
  EXPECT_EQ(header.group_kind, GroupKind::kSlidingWindow);
  EXPECT_EQ(header.dtype, Dtype::kFp16);
  EXPECT_EQ(header.codec, CodecId::kRaw);
  EXPECT_EQ(header.key_dim, 40u);
  EXPECT_EQ(header.value_dim, 72u);
  EXPECT_EQ(header.token_begin, 512u);
  EXPECT_EQ(header.token_count, 16u);
  ASSERT_EQ(meta->level_count(), 1u);
  EXPECT_EQ(header.levels[0].Worst(), Distortion{});
}

TEST(RawCodec, EncoderRefusesWhatDoesNotFitTheNamespace) {
  const PieceCase c;
  const Namespace name_space = NamespaceOf(c);
  GuardedTensor key = Packed(c.dtype, KeyShape(c));
  GuardedTensor wide = Packed(c.dtype, {2, 16, 2, 9});
  GuardedTensor other_dtype = Packed(Dtype::kFp16, KeyShape(c));
  const auto expect = [&](const PieceIdentity& identity, const TensorView& k, const TensorView& v,
                          const std::string& message) {
    const auto container = EncodePiece(name_space, identity, k, v);
    EXPECT_EQ(container.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(container.status().message()), HasSubstr(message));
  };
  const PieceIdentity identity = IdentityOf(c);
  expect(identity, {}, key.view(), "K is absent");
  expect(identity, key.view(), {}, "V is absent");
  expect(identity, wide.view(), key.view(), "K has shape [2, 16, 2, 9], the piece [2, 16, 2, 8]");
  expect(identity, key.view(), wide.view(), "V has shape");
  expect(identity, key.view().Sub(0, 2, 0, 16, 0, 1), key.view(), "K has shape [2, 16, 1, 8]");
  expect(identity, key.view(), key.view().Sub(0, 2, 0, 15, 0, 2), "V has shape [2, 15, 2, 8]");
  expect(identity, other_dtype.view(), key.view(), "K has dtype 2, the piece 1");
  PieceIdentity outside = identity;
  outside.slot.layer_end = 1;
  expect(outside, key.view(), key.view(), "not a piece of the namespace's partition");
  outside.slot = {.group = 1, .layer_begin = 0, .layer_end = 2, .head_begin = 0, .head_end = 2};
  expect(outside, key.view(), key.view(), "group 1");

  Namespace short_chunks = name_space;
  short_chunks.chunk_tokens = 15;
  EXPECT_THAT(
      std::string(EncodePiece(short_chunks, identity, key.view(), key.view()).status().message()),
      HasSubstr("K has 16 tokens, but a chunk of the group has 15"));
  Namespace invalid = name_space;
  invalid.groups[0].layers_per_piece = 0;
  EXPECT_THAT(
      std::string(EncodePiece(invalid, identity, key.view(), key.view()).status().message()),
      HasSubstr("layers_per_piece"));
}

// A raw container whose header was changed before sealing, so that only the codec can object.
template <typename Change>
PieceMeta Altered(const PieceCase& c, Change change) {
  GuardedTensor key = Packed(c.dtype, KeyShape(c));
  GuardedTensor value = Packed(c.dtype, ValueShape(c));
  const auto container = EncodePiece(NamespaceOf(c), IdentityOf(c), key.view(), value.view());
  const PieceMeta meta = PieceMeta::Parse(*container).value();
  PieceHeader header = meta.header();
  std::vector<Segment> segments = meta.segments();
  change(header, segments);
  PieceLayout layout = PieceLayout::Create(header, segments).value();
  std::vector<std::byte> altered(layout.total_bytes());
  layout.Seal(altered);
  return PieceMeta::Parse(altered).value();
}

TEST(RawCodec, DecoderRefusesDestinationsThatDoNotFit) {
  const PieceCase c;
  const PieceMeta meta = Altered(c, [](PieceHeader&, std::vector<Segment>&) {});
  GuardedTensor key = Packed(c.dtype, KeyShape(c));
  const TensorView view = key.view();
  EXPECT_TRUE(CheckDestination(meta, view, view).ok());
  TensorView other_dtype = view;
  other_dtype.dtype = Dtype::kFp16;
  const std::vector<std::byte> bytes(meta.segments()[0].length);
  for (const TensorView& wrong : {TensorView{}, other_dtype, view.Sub(0, 1, 0, 16, 0, 2),
                                  view.Sub(0, 2, 0, 15, 0, 2), view.Sub(0, 2, 0, 16, 1, 2)}) {
    EXPECT_EQ(CheckDestination(meta, wrong, view).code(), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(CheckDestination(meta, view, wrong).code(), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(DecodeSegment(meta, 0, bytes, wrong, view).code(),
              absl::StatusCode::kInvalidArgument);
  }
  EXPECT_EQ(DecodeSegment(meta, 4, bytes, view, view).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(DecodeSegment(meta, 0, ByteSpan(bytes).first(bytes.size() - 1), view, view).code(),
            absl::StatusCode::kDataLoss);
}

TEST(RawCodec, DecoderRefusesCodecsItDoesNotKnow) {
  const PieceCase c;
  GuardedTensor key = Packed(c.dtype, KeyShape(c));
  const TensorView view = key.view();
  const PieceMeta other_codec =
      Altered(c, [](PieceHeader& h, std::vector<Segment>&) { h.codec = static_cast<CodecId>(7); });
  const PieceMeta parameters =
      Altered(c, [](PieceHeader& h, std::vector<Segment>&) { h.codec_parameters.resize(1); });
  const PieceMeta two_levels = Altered(c, [](PieceHeader& h, std::vector<Segment>& segments) {
    h.levels.push_back(h.levels[0]);
    for (size_t i = 0; i < 4; ++i) {
      segments.push_back(segments[i]);
      segments.back().plane = 1;
    }
  });
  for (const PieceMeta& meta : {other_codec, parameters, two_levels}) {
    EXPECT_EQ(CheckDestination(meta, view, view).code(), absl::StatusCode::kUnimplemented);
  }
  EXPECT_THAT(std::string(CheckDestination(other_codec, view, view).message()),
              HasSubstr("codec 7"));
}

TEST(RawCodec, DecoderRefusesSegmentsThatDoNotFitTheirShapeAndWritesNothing) {
  const PieceCase c;
  for (const int difference : {-1, 1}) {
    const PieceMeta meta = Altered(c, [&](PieceHeader&, std::vector<Segment>& segments) {
      segments[1].length = static_cast<uint32_t>(static_cast<int>(segments[1].length) + difference);
    });
    GuardedTensor key = Packed(c.dtype, KeyShape(c));
    GuardedTensor value = Packed(c.dtype, ValueShape(c));
    value.Fill(5);
    const std::vector<std::byte> bytes(meta.segments()[1].length);
    const absl::Status status = DecodeSegment(meta, 1, bytes, key.view(), value.view());
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
    value.ExpectHolds(5);
  }
}

TEST(TensorView, SubShiftsByEveryStride) {
  GuardedTensor tensor(Dtype::kBf16, {3, 5, 4, 6}, {1, 0, 2}, 2, {false, true, false});
  const TensorView sub = tensor.view().Sub(1, 3, 2, 4, 1, 4);
  EXPECT_EQ(sub.shape, (std::array<uint32_t, 4>{2, 2, 3, 6}));
  EXPECT_EQ(sub.data, tensor.Row(1, 2, 1));
  EXPECT_EQ(sub.stride_bytes, tensor.view().stride_bytes);
  EXPECT_FALSE(TensorView{}.Sub(1, 2, 3, 4, 5, 6).present());
}

}  // namespace
}  // namespace reprise
