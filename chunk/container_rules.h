// What makes a container's header and directory well formed, for the side that builds one
// (PieceLayout) and the side that parses one (PieceMeta): both go through these checks, so what one
// writes the other accepts.
//
// Internal to chunk. Every error has the code that the constructor or call is given:
// INVALID_ARGUMENT for a caller's mistake, DATA_LOSS for bytes from elsewhere. Not thread-safe.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "chunk/container.h"
#include "common/status.h"

namespace reprise {

// The parts that each layer of such a group has in each plane, in the order of the format.
std::span<const TensorPart> PartsOf(GroupKind kind);

// Everything in the header but its levels and codec parameters. Must pass before the header's layer
// count is used.
absl::Status CheckShape(const PieceHeader& header, absl::StatusCode code);

// Number of levels, their distortions, and the size of the codec parameters; not their body_bytes.
absl::Status CheckLevels(const PieceHeader& header, absl::StatusCode code);

// Follows a directory, segment by segment, and says where each belongs.
class SegmentWalk {
 public:
  // `header` has passed the checks above and outlives the walk.
  SegmentWalk(const PieceHeader& header, absl::StatusCode code);

  // The offset in the body at which the next segment belongs, or what is wrong with the segment.
  // Its own offset and checksum are not looked at.
  absl::StatusOr<uint64_t> Next(const Segment& segment);

  // After the last segment: that none is missing, and the body bytes of each level.
  absl::StatusOr<std::vector<uint64_t>> Finish() const;

 private:
  bool opaque() const { return parts_.front() == TensorPart::kOpaque; }
  bool CurrentIsCovered() const;
  void Advance();
  absl::Status CheckBlock(const Segment& segment) const;

  const PieceHeader& header_;
  const absl::StatusCode code_;
  const std::span<const TensorPart> parts_;
  const uint32_t layer_count_;

  uint64_t index_ = 0;  // of the segment that comes next
  // The (plane, layer, part) being covered, and how many of its tokens or opaque blocks have come.
  uint32_t plane_ = 0;
  uint32_t layer_ = 0;
  size_t part_ = 0;
  uint32_t covered_ = 0;
  uint64_t end_ = 0;  // of the body so far
  std::vector<uint64_t> level_ends_;
};

}  // namespace reprise
