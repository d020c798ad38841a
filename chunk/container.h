// The container, version 1: one encoded piece as bytes (DESIGN section 5; docs/container.md gives
// every field).
//
//   meta  header, directory, zero padding to a multiple of kPlaneAlignment
//   body  segments: plane-major, inside a plane layer-major, inside a layer K before V, inside
//   those by token block;
//         each plane starts at a multiple of kPlaneAlignment, the gap before it is zero
//
// So a byte prefix of the body is the same piece at a lower level. A segment is the unit of
// checksum and of range read, and is at most kMaxPartBytes long: an encoder cuts a longer one into
// token blocks. Nothing here knows how segments are coded.
//
// PieceMeta is immutable after Parse and safe to share between threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "chunk/keys.h"
#include "chunk/namespace.h"
#include "common/bytes.h"
#include "common/limits.h"
#include "common/status.h"

namespace reprise {

inline constexpr uint16_t kContainerVersion = 1;
// Fixed-size start of every container; enough for PeekMetaBytes.
inline constexpr size_t kContainerPreambleBytes = 16;

// Which codec made the segments. Values are part of the format.
enum class CodecId : uint16_t { kRaw = 0, kProgressive = 1 };

enum class TensorPart : uint8_t { kKey = 0, kValue = 1, kOpaque = 2 };

// Relative L2 error, measured at encode time; 0 is exact.
struct Distortion {
  float key = 0;
  float value = 0;

  friend bool operator==(const Distortion&, const Distortion&) = default;
};

// Level k: planes 0..k.
struct Level {
  uint64_t body_bytes = 0;              // length of the body prefix that holds it
  std::vector<Distortion> distortions;  // one per layer of the piece

  // The worst layer's K and the worst layer's V.
  Distortion Worst() const;

  friend bool operator==(const Level&, const Level&) = default;
};

struct PieceHeader {
  Key key;
  ContentId content_id;  // set by PieceLayout::Seal
  Digest namespace_fingerprint;
  GroupKind group_kind = GroupKind::kOpaque;
  Dtype dtype = Dtype::kOpaque;
  CodecId codec = CodecId::kRaw;
  PieceSlot slot;
  uint32_t key_dim = 0;
  uint32_t value_dim = 0;
  uint64_t token_begin = 0;  // position of the chunk's first token in its sequence
  uint32_t token_count = 0;
  std::vector<std::byte> codec_parameters;
  std::vector<Level> levels;  // one per plane; body_bytes set by PieceLayout::Create

  friend bool operator==(const PieceHeader&, const PieceHeader&) = default;
};

// Opaque segments know no tokens: token_begin is the block's number within its plane and layer,
// token_count is 0.
struct Segment {
  uint16_t plane = 0;
  TensorPart part = TensorPart::kOpaque;
  uint32_t layer = 0;        // within the piece
  uint32_t token_begin = 0;  // within the chunk
  uint32_t token_count = 0;
  uint64_t offset = 0;  // within the body; set by PieceLayout::Create
  uint32_t length = 0;
  uint32_t crc32c = 0;  // set by PieceLayout::Seal

  friend bool operator==(const Segment&, const Segment&) = default;
};

struct ByteRange {
  uint64_t offset = 0;
  uint64_t length = 0;

  uint64_t end() const { return offset + length; }
  friend bool operator==(const ByteRange&, const ByteRange&) = default;
};

// Consecutive segments of the directory.
struct SegmentRun {
  uint32_t first = 0;
  uint32_t count = 0;

  friend bool operator==(const SegmentRun&, const SegmentRun&) = default;
};

// A parsed and checked header and directory.
class PieceMeta {
 public:
  // The length of header + directory + padding of the container that starts with `start` (at least
  // kContainerPreambleBytes). UNIMPLEMENTED for another format version (naming both), DATA_LOSS
  // when `start` is not a container, is cut short, or states a length above kMaxPieceMetaBytes.
  static absl::StatusOr<size_t> PeekMetaBytes(ByteSpan start);

  // Parses exactly PeekMetaBytes(bytes) bytes; more may follow and are ignored. Everything is
  // checked: limits, order, overlap, alignment, zero padding, levels against segments, and the
  // content id. Errors as PeekMetaBytes; DATA_LOSS says which field is wrong and its value. Hostile
  // input is safe.
  static absl::StatusOr<PieceMeta> Parse(ByteSpan bytes);

  const PieceHeader& header() const { return header_; }
  const std::vector<Segment>& segments() const { return segments_; }
  size_t meta_bytes() const { return meta_bytes_; }
  uint64_t body_bytes() const { return header_.levels.back().body_bytes; }
  uint64_t total_bytes() const { return meta_bytes_ + body_bytes(); }
  // Of header, directory and planes 0..level: where the container may end. `level` < level_count().
  uint64_t bytes_to(uint32_t level) const { return meta_bytes_ + header_.levels[level].body_bytes; }
  // The level whose end is that of a container cut to `container_bytes`; nullopt when no level ends
  // there.
  std::optional<uint32_t> LevelEndingAt(uint64_t container_bytes) const;
  uint32_t level_count() const { return static_cast<uint32_t>(header_.levels.size()); }
  uint32_t layer_count() const { return header_.slot.layer_end - header_.slot.layer_begin; }

  // The segments that decoding layers [layer_begin, layer_end) at `level` needs, of planes from
  // `first_plane` on, as at most a run for each plane, in body order; none when first_plane is
  // above level. INVALID_ARGUMENT for an empty or outlying layer range or a level that does not
  // exist.
  absl::StatusOr<std::vector<SegmentRun>> Resolve(uint32_t layer_begin, uint32_t layer_end,
                                                  uint32_t level, uint32_t first_plane = 0) const;

  // The body bytes from a run's first segment to its last, gaps included. Empty for a run
  // that is empty or reaches beyond the directory.
  ByteRange RangeOf(const SegmentRun& run) const;

  // DATA_LOSS, naming the segment, unless `bytes` has the segment's length and checksum.
  // INVALID_ARGUMENT for an index that does not exist.
  absl::Status VerifySegment(uint32_t index, ByteSpan bytes) const;

  // Every segment of levels 0..`level`, and that the gaps between them are zero. `body` holds at
  // least that level.
  absl::Status VerifyBody(ByteSpan body, uint32_t level) const;

 private:
  friend class PieceLayout;
  PieceMeta() = default;

  PieceHeader header_;
  std::vector<Segment> segments_;
  size_t meta_bytes_ = 0;
};

// Builds a container in the caller's memory, without copying segments.
class PieceLayout {
 public:
  // Places the segments, which must come in the order of the format with their lengths, and sizes
  // the levels. INVALID_ARGUMENT names the field that breaks a limit or the order.
  static absl::StatusOr<PieceLayout> Create(PieceHeader header, std::vector<Segment> segments);

  size_t meta_bytes() const { return meta_.meta_bytes(); }
  uint64_t total_bytes() const { return meta_.total_bytes(); }
  const PieceMeta& meta() const { return meta_; }

  // Where segment `index` belongs in `container` (total_bytes() long).
  MutableByteSpan SegmentBytes(uint32_t index, MutableByteSpan container) const;

  // Once all segments are written: checksums them, zeroes the gaps, computes the content id and
  // writes header and directory. `container` is total_bytes() long. Returns the content id.
  ContentId Seal(MutableByteSpan container);

 private:
  PieceLayout() = default;

  PieceMeta meta_;
};

}  // namespace reprise
