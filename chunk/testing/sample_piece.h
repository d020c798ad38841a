// Containers to test with: any kind and shape, random bytes, built through PieceLayout.
//
// Test code only. Pure functions of their arguments: the same seed gives the same bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "chunk/container.h"
#include "common/bytes.h"

namespace reprise {

struct SampleShape {
  GroupKind kind = GroupKind::kFullAttention;
  uint32_t layers = 2;
  uint32_t planes = 2;
  uint32_t tokens = 5;
  // Each part of a layer in a plane is cut into up to this many segments.
  uint32_t max_blocks = 3;
  uint32_t max_segment_bytes = 48;
  uint32_t seed = 1;
};

// What PieceLayout::Create takes: a valid header with random names and distortions, and its
// segments.
PieceHeader SampleHeader(const SampleShape& shape);
std::vector<Segment> SampleSegments(const SampleShape& shape);

// A whole sealed container with random segment bytes.
std::vector<std::byte> SamplePiece(const SampleShape& shape);

// The bytes of a header and directory, padded, with a content id that matches whatever they say:
// for input that must be refused for another reason than its content id.
std::vector<std::byte> SealedMeta(PieceHeader header, std::span<const Segment> segments);

}  // namespace reprise
