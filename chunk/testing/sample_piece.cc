#include "chunk/testing/sample_piece.h"

#include <algorithm>
#include <random>

#include "chunk/container_format.h"
#include "chunk/container_rules.h"
#include "common/byte_io.h"
#include "common/limits.h"

namespace reprise {
namespace {

using Random = std::mt19937;

uint32_t Below(Random& random, uint32_t limit) { return static_cast<uint32_t>(random() % limit); }

void FillRandom(Random& random, MutableByteSpan bytes) {
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random());
}

}  // namespace

PieceHeader SampleHeader(const SampleShape& shape) {
  Random random(shape.seed);
  PieceHeader header;
  FillRandom(random, header.key.digest.bytes);
  FillRandom(random, header.namespace_fingerprint.bytes);
  header.group_kind = shape.kind;
  header.dtype = IsOpaque(shape.kind) ? Dtype::kOpaque : Dtype::kBf16;
  header.slot = {
      .group = 1, .layer_begin = 4, .layer_end = 4 + shape.layers, .head_begin = 2, .head_end = 3};
  const std::span<const TensorPart> parts = PartsOf(shape.kind);
  header.key_dim = IsOpaque(shape.kind) ? 0 : 8;
  header.value_dim = parts.size() == 2 ? 6 : 0;
  header.token_begin = 256;
  header.token_count = shape.tokens;
  header.codec_parameters.resize(Below(random, 9));
  FillRandom(random, header.codec_parameters);
  for (uint32_t plane = 0; plane < shape.planes; ++plane) {
    Level level;
    for (uint32_t layer = 0; layer < shape.layers; ++layer) {
      level.distortions.push_back({.key = static_cast<float>(Below(random, 100)) / 128,
                                   .value = parts.size() == 2 ? 0.25F : 0.0F});
    }
    header.levels.push_back(level);
  }
  return header;
}

std::vector<Segment> SampleSegments(const SampleShape& shape) {
  Random random(shape.seed + 1);
  std::vector<Segment> segments;
  const auto append_part = [&](uint32_t plane, uint32_t layer, TensorPart part) {
    const bool opaque = part == TensorPart::kOpaque;
    const uint32_t blocks =
        1 + Below(random, opaque ? shape.max_blocks : std::min(shape.max_blocks, shape.tokens));
    uint32_t begin = 0;
    for (uint32_t block = 0; block < blocks; ++block) {
      // Leaves one token at least to each block that follows; the last takes the rest.
      const uint32_t left = shape.tokens - begin;
      const uint32_t after = blocks - block - 1;
      const uint32_t count = opaque ? 0 : after == 0 ? left : 1 + Below(random, left - after);
      segments.push_back({.plane = static_cast<uint16_t>(plane),
                          .part = part,
                          .layer = layer,
                          .token_begin = opaque ? block : begin,
                          .token_count = count,
                          .length = 1 + Below(random, shape.max_segment_bytes)});
      begin += count;
    }
  };
  for (uint32_t plane = 0; plane < shape.planes; ++plane) {
    for (uint32_t layer = 0; layer < shape.layers; ++layer) {
      for (const TensorPart part : PartsOf(shape.kind)) append_part(plane, layer, part);
    }
  }
  return segments;
}

std::vector<std::byte> SamplePiece(const SampleShape& shape) {
  PieceLayout layout = PieceLayout::Create(SampleHeader(shape), SampleSegments(shape)).value();
  // Gaps are dirty at first, so that a Seal that forgets to zero them is noticed.
  std::vector<std::byte> container(layout.total_bytes(), std::byte{0xEE});
  Random random(shape.seed + 2);
  for (uint32_t i = 0; i < layout.meta().segments().size(); ++i) {
    FillRandom(random, layout.SegmentBytes(i, container));
  }
  layout.Seal(container);
  return container;
}

std::vector<std::byte> SealedMeta(PieceHeader header, std::span<const Segment> segments) {
  header.content_id = ComputeContentId(WriteFields(header, segments));
  std::vector<std::byte> meta = WriteFields(header, segments);
  meta.resize(AlignUp(meta.size(), kPlaneAlignment));
  return meta;
}

}  // namespace reprise
