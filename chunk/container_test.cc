#include "chunk/container.h"

#include <algorithm>
#include <fstream>
#include <random>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "chunk/testing/sample_piece.h"
#include "common/byte_io.h"
#include "common/limits.h"

namespace reprise {
namespace {

using ::testing::HasSubstr;

constexpr size_t kVersionOffset = 8;

void Flip(std::vector<std::byte>& bytes, size_t bit) {
  bytes[bit / 8] ^= static_cast<std::byte>(1u << (bit % 8));
}

ByteSpan BodyOf(const std::vector<std::byte>& container, const PieceMeta& meta) {
  return ByteSpan(container).subspan(meta.meta_bytes());
}

std::vector<SampleShape> EveryKind() {
  std::vector<SampleShape> shapes;
  for (const GroupKind kind : {GroupKind::kFullAttention, GroupKind::kSlidingWindow,
                               GroupKind::kLatent, GroupKind::kState, GroupKind::kOpaque}) {
    for (const uint32_t planes : {1u, 3u}) {
      shapes.push_back({.kind = kind, .layers = 3, .planes = planes, .seed = planes});
    }
  }
  return shapes;
}

// ---- the committed container, made by an implementation that shares no code with this one ----

std::vector<std::byte> ReadVector() {
  std::ifstream file(REPRISE_CONTAINER_VECTOR);
  EXPECT_TRUE(file.good()) << "cannot read " << REPRISE_CONTAINER_VECTOR;
  std::vector<std::byte> container;
  for (std::string line; std::getline(file, line);) {
    std::istringstream fields(line);
    std::string first;
    fields >> first;
    if (first == "#") continue;
    if (first == "size") {
      size_t size = 0;
      fields >> size;
      container.resize(size);
      continue;
    }
    std::string hex;
    fields >> hex;
    const MutableByteSpan to =
        MutableByteSpan(container).subspan(std::stoul(first), hex.size() / 2);
    EXPECT_TRUE(FromHex(hex, to)) << line;
  }
  return container;
}

PieceHeader VectorHeader() {
  PieceHeader header;
  header.key = {Sha256::Of(AsBytes("key"))};
  header.namespace_fingerprint = Sha256::Of(AsBytes("namespace"));
  header.group_kind = GroupKind::kSlidingWindow;
  header.dtype = Dtype::kFp16;
  header.slot = {.group = 7, .layer_begin = 4, .layer_end = 6, .head_begin = 2, .head_end = 5};
  header.key_dim = 8;
  header.value_dim = 6;
  header.token_begin = 512;
  header.token_count = 5;
  for (const char c : {'a', 'b', 'c'}) header.codec_parameters.push_back(static_cast<std::byte>(c));
  header.levels = {{.distortions = {{0.5F, 0.25F}, {0.125F, 0.75F}}},
                   {.distortions = {{0, 0}, {0, 0}}}};
  return header;
}

std::vector<Segment> VectorSegments() {
  constexpr TensorPart kK = TensorPart::kKey;
  constexpr TensorPart kV = TensorPart::kValue;
  const auto segment = [](uint16_t plane, TensorPart part, uint32_t layer, uint32_t token,
                          uint32_t tokens, uint32_t length) {
    return Segment{.plane = plane,
                   .part = part,
                   .layer = layer,
                   .token_begin = token,
                   .token_count = tokens,
                   .length = length};
  };
  return {segment(0, kK, 0, 0, 3, 24), segment(0, kK, 0, 3, 2, 16), segment(0, kV, 0, 0, 5, 31),
          segment(0, kK, 1, 0, 5, 40), segment(0, kV, 1, 0, 5, 1),  segment(1, kK, 0, 0, 5, 7),
          segment(1, kV, 0, 0, 5, 8),  segment(1, kK, 1, 0, 5, 9),  segment(1, kV, 1, 0, 1, 10),
          segment(1, kV, 1, 1, 4, 11)};
}

TEST(ContainerVector, IsBuiltBitForBit) {
  auto layout = PieceLayout::Create(VectorHeader(), VectorSegments());
  ASSERT_TRUE(layout.ok()) << layout.status();
  std::vector<std::byte> container(layout->total_bytes(), std::byte{0xEE});
  for (uint32_t s = 0; s < layout->meta().segments().size(); ++s) {
    const MutableByteSpan bytes = layout->SegmentBytes(s, container);
    for (uint32_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(37 * s + i);
  }
  layout->Seal(container);
  EXPECT_EQ(container, ReadVector());
}

TEST(ContainerVector, IsReadBackFieldByField) {
  const std::vector<std::byte> container = ReadVector();
  const auto meta = PieceMeta::Parse(container);
  ASSERT_TRUE(meta.ok()) << meta.status();
  PieceHeader expected = VectorHeader();
  expected.content_id = meta->header().content_id;
  expected.levels[0].body_bytes = 24 + 16 + 31 + 40 + 1;
  expected.levels[1].body_bytes = 4096 + 7 + 8 + 9 + 10 + 11;
  EXPECT_EQ(meta->header(), expected);
  EXPECT_EQ(meta->segments().size(), 10u);
  EXPECT_EQ(meta->segments()[5].offset, 4096u);
  EXPECT_EQ(meta->total_bytes(), container.size());
  EXPECT_EQ(meta->header().levels[0].Worst(), (Distortion{0.5F, 0.75F}));
  EXPECT_TRUE(meta->VerifyBody(BodyOf(container, *meta), 1).ok());
}

// ---- building and parsing ----

TEST(Container, ParsesToWhatWasBuilt) {
  for (const SampleShape& shape : EveryKind()) {
    auto layout = PieceLayout::Create(SampleHeader(shape), SampleSegments(shape));
    ASSERT_TRUE(layout.ok()) << layout.status();
    std::vector<std::byte> container(layout->total_bytes());
    const ContentId id = layout->Seal(container);
    const auto meta = PieceMeta::Parse(container);
    ASSERT_TRUE(meta.ok()) << meta.status();
    EXPECT_EQ(meta->header(), layout->meta().header());
    EXPECT_EQ(meta->segments(), layout->meta().segments());
    EXPECT_EQ(meta->header().content_id, id);
    EXPECT_EQ(meta->meta_bytes(), layout->meta_bytes());
    EXPECT_EQ(*PieceMeta::PeekMetaBytes(container), layout->meta_bytes());
    EXPECT_EQ(meta->total_bytes(), container.size());
    EXPECT_EQ(meta->layer_count(), shape.layers);
    EXPECT_EQ(meta->level_count(), shape.planes);
    for (uint32_t level = 0; level < shape.planes; ++level) {
      EXPECT_TRUE(meta->VerifyBody(BodyOf(container, *meta), level).ok());
    }
  }
}

TEST(Container, PlanesStartAtPagesAndLevelsAreBodyPrefixes) {
  const std::vector<std::byte> container = SamplePiece({.layers = 4, .planes = 5});
  const auto meta = PieceMeta::Parse(container);
  ASSERT_TRUE(meta.ok()) << meta.status();
  uint64_t end = 0;
  uint16_t plane = 0;
  for (const Segment& segment : meta->segments()) {
    const bool new_plane = segment.plane != plane;
    plane = segment.plane;
    EXPECT_EQ(segment.offset, new_plane ? AlignUp(end, kPlaneAlignment) : end);
    end = segment.offset + segment.length;
    EXPECT_LE(end, meta->header().levels[plane].body_bytes);
  }
  EXPECT_EQ(end, meta->body_bytes());
}

TEST(Container, ParseIgnoresWhatFollowsTheMeta) {
  std::vector<std::byte> container = SamplePiece({});
  const size_t meta_bytes = *PieceMeta::PeekMetaBytes(container);
  EXPECT_TRUE(PieceMeta::Parse(ByteSpan(container).first(meta_bytes)).ok());
  container.resize(container.size() + 100, std::byte{0xFF});
  EXPECT_TRUE(PieceMeta::Parse(container).ok());
}

TEST(Container, NamesBothVersionsWhenItIsNotVersionOne) {
  std::vector<std::byte> container = SamplePiece({});
  container[kVersionOffset] = std::byte{2};
  for (const absl::Status& status :
       {PieceMeta::Parse(container).status(), PieceMeta::PeekMetaBytes(container).status()}) {
    EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
    EXPECT_THAT(status.message(), HasSubstr("version 2"));
    EXPECT_THAT(status.message(), HasSubstr("version 1"));
  }
}

TEST(Container, SaysWhenBytesAreNoContainerAtAll) {
  const std::string text(5000, 'x');
  EXPECT_EQ(PieceMeta::Parse(AsBytes(text)).status().code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(PieceMeta::Parse(AsBytes(text)).status().message(), HasSubstr("not a Reprise"));
  EXPECT_EQ(PieceMeta::Parse({}).status().code(), absl::StatusCode::kDataLoss);
}

// ---- damage ----

TEST(Container, EverySingleBitFlipOfTheMetaIsRejected) {
  for (const GroupKind kind : {GroupKind::kFullAttention, GroupKind::kOpaque}) {
    std::vector<std::byte> container = SamplePiece({.kind = kind});
    const size_t meta_bytes = *PieceMeta::PeekMetaBytes(container);
    ASSERT_EQ(meta_bytes, 4096u);
    for (size_t bit = 0; bit < meta_bytes * 8; ++bit) {
      Flip(container, bit);
      const absl::Status status = PieceMeta::Parse(container).status();
      const bool in_version = bit / 8 == kVersionOffset || bit / 8 == kVersionOffset + 1;
      ASSERT_EQ(status.code(),
                in_version ? absl::StatusCode::kUnimplemented : absl::StatusCode::kDataLoss)
          << "bit " << bit << ": " << status;
      Flip(container, bit);
    }
    EXPECT_TRUE(PieceMeta::Parse(container).ok());
  }
}

TEST(Container, EverySingleBitFlipOfTheBodyIsRejected) {
  std::vector<std::byte> container = SamplePiece({});
  const auto meta = PieceMeta::Parse(container);
  ASSERT_TRUE(meta.ok()) << meta.status();
  const uint64_t base_end = meta->header().levels[0].body_bytes;
  for (size_t bit = meta->meta_bytes() * 8; bit < container.size() * 8; ++bit) {
    Flip(container, bit);
    const ByteSpan body = BodyOf(container, *meta);
    const uint64_t at = bit / 8 - meta->meta_bytes();
    ASSERT_EQ(meta->VerifyBody(body, 1).code(), absl::StatusCode::kDataLoss) << "bit " << bit;
    ASSERT_EQ(meta->VerifyBody(body, 0).ok(), at >= base_end) << "bit " << bit;
    // The one segment that holds the byte fails, the others do not.
    for (uint32_t i = 0; i < meta->segments().size(); ++i) {
      const Segment& segment = meta->segments()[i];
      const bool inside = at >= segment.offset && at < segment.offset + segment.length;
      ASSERT_EQ(meta->VerifySegment(i, body.subspan(segment.offset, segment.length)).ok(), !inside)
          << "bit " << bit << ", segment " << i;
    }
    Flip(container, bit);
  }
}

TEST(Container, TruncationAtEveryLengthIsReported) {
  const std::vector<std::byte> container = SamplePiece({});
  const auto meta = PieceMeta::Parse(container);
  ASSERT_TRUE(meta.ok()) << meta.status();
  for (size_t size = 0; size < meta->meta_bytes(); ++size) {
    const absl::Status status = PieceMeta::Parse(ByteSpan(container).first(size)).status();
    ASSERT_EQ(status.code(), absl::StatusCode::kDataLoss) << size;
    ASSERT_THAT(status.message(), HasSubstr(absl::StrCat("cut short: ", size, " bytes")));
  }
  const ByteSpan body = BodyOf(container, *meta);
  for (size_t size = 0; size <= body.size(); ++size) {
    for (uint32_t level = 0; level < 2; ++level) {
      const absl::Status status = meta->VerifyBody(body.first(size), level);
      if (size >= meta->header().levels[level].body_bytes) {
        ASSERT_TRUE(status.ok()) << status;
      } else {
        ASSERT_EQ(status.code(), absl::StatusCode::kDataLoss);
        ASSERT_THAT(status.message(), HasSubstr("cut short"));
      }
    }
  }
}

TEST(Container, ASegmentOfTheWrongLengthIsRefused) {
  const std::vector<std::byte> container = SamplePiece({});
  const auto meta = PieceMeta::Parse(container);
  const ByteSpan body = BodyOf(container, *meta);
  const uint32_t length = meta->segments()[0].length;
  EXPECT_EQ(meta->VerifySegment(0, body.first(length - 1)).code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(meta->VerifySegment(0, body.first(length + 1)).code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(meta->VerifySegment(999, body).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(meta->VerifyBody(body, 2).code(), absl::StatusCode::kInvalidArgument);
}

TEST(Container, TheContentIdNamesTheBytes) {
  std::set<ContentId> ids;
  for (uint32_t seed = 1; seed <= 50; ++seed) {
    ids.insert(PieceMeta::Parse(SamplePiece({.seed = seed}))->header().content_id);
  }
  EXPECT_EQ(ids.size(), 50u);
  EXPECT_EQ(SamplePiece({.seed = 1}), SamplePiece({.seed = 1}));
  // Other segment bytes alone give another id, through their checksums.
  auto layout = PieceLayout::Create(SampleHeader({}), SampleSegments({}));
  std::vector<std::byte> container(layout->total_bytes());
  const ContentId zeros = layout->Seal(container);
  layout->SegmentBytes(3, container)[0] = std::byte{1};
  EXPECT_NE(layout->Seal(container), zeros);
}

// ---- ranges ----

// The segments that a reader of these layers at this level needs, by looking at each one.
std::set<uint32_t> Needed(const PieceMeta& meta, uint32_t begin, uint32_t end, uint32_t level) {
  std::set<uint32_t> needed;
  for (uint32_t i = 0; i < meta.segments().size(); ++i) {
    const Segment& segment = meta.segments()[i];
    if (segment.plane <= level && segment.layer >= begin && segment.layer < end) needed.insert(i);
  }
  return needed;
}

void ExpectResolves(const PieceMeta& meta, uint32_t begin, uint32_t end, uint32_t level) {
  const auto runs = meta.Resolve(begin, end, level);
  ASSERT_TRUE(runs.ok()) << runs.status();
  ASSERT_LE(runs->size(), level + 1);
  std::set<uint32_t> resolved;
  uint32_t next = 0;
  for (const SegmentRun& run : *runs) {
    ASSERT_GT(run.count, 0u);
    ASSERT_GE(run.first, next) << "runs overlap or are out of order";
    next = run.first + run.count;
    for (uint32_t i = run.first; i < next; ++i) resolved.insert(i);
    const ByteRange range = meta.RangeOf(run);
    EXPECT_EQ(range.offset, meta.segments()[run.first].offset);
    EXPECT_EQ(range.end(), meta.segments()[next - 1].offset + meta.segments()[next - 1].length);
  }
  EXPECT_EQ(resolved, Needed(meta, begin, end, level));
}

TEST(Resolve, AgreesWithLookingAtEverySegment) {
  std::mt19937 random(7);
  for (uint32_t round = 0; round < 60; ++round) {
    const SampleShape shape = {.kind = static_cast<GroupKind>(1 + random() % 5),
                               .layers = static_cast<uint32_t>(1 + random() % 7),
                               .planes = static_cast<uint32_t>(1 + random() % 5),
                               .tokens = static_cast<uint32_t>(1 + random() % 40),
                               .max_blocks = static_cast<uint32_t>(1 + random() % 4),
                               .max_segment_bytes = static_cast<uint32_t>(1 + random() % 3000),
                               .seed = round};
    const auto meta = PieceMeta::Parse(SamplePiece(shape));
    ASSERT_TRUE(meta.ok()) << meta.status();
    for (uint32_t begin = 0; begin < shape.layers; ++begin) {
      for (uint32_t end = begin + 1; end <= shape.layers; ++end) {
        for (uint32_t level = 0; level < shape.planes; ++level) {
          ExpectResolves(*meta, begin, end, level);
        }
      }
    }
  }
}

TEST(Resolve, AllLayersAreOneRun) {
  const auto meta = PieceMeta::Parse(SamplePiece({.layers = 3, .planes = 4}));
  const auto runs = meta->Resolve(0, 3, 3);
  ASSERT_EQ(runs->size(), 1u);
  EXPECT_EQ(meta->RangeOf(runs->front()), (ByteRange{0, meta->body_bytes()}));
}

TEST(Resolve, RefusesRangesAndLevelsThatDoNotExist) {
  const auto meta = PieceMeta::Parse(SamplePiece({.layers = 3, .planes = 2}));
  for (const auto& runs : {meta->Resolve(0, 0, 0), meta->Resolve(2, 1, 0), meta->Resolve(0, 4, 0),
                           meta->Resolve(0, 3, 2), meta->Resolve(4, 5, 0)}) {
    EXPECT_EQ(runs.status().code(), absl::StatusCode::kInvalidArgument);
  }
}

TEST(RangeOf, IsEmptyForRunsThatDoNotExist) {
  const auto meta = PieceMeta::Parse(SamplePiece({}));
  const auto count = static_cast<uint32_t>(meta->segments().size());
  for (const SegmentRun& run :
       {SegmentRun{0, 0}, SegmentRun{count, 1}, SegmentRun{1, count}, SegmentRun{1, UINT32_MAX}}) {
    EXPECT_EQ(meta->RangeOf(run), ByteRange{});
  }
}

}  // namespace
}  // namespace reprise
