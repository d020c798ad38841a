#include "chunk/container.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

#include "chunk/container_format.h"
#include "common/crc32c.h"

namespace reprise {
namespace {

// Index of the first segment at or after (plane, layer); the directory is ordered by both.
uint32_t LowerBound(const std::vector<Segment>& segments, uint32_t plane, uint32_t layer) {
  const auto found =
      std::partition_point(segments.begin(), segments.end(), [&](const Segment& segment) {
        return segment.plane < plane || (segment.plane == plane && segment.layer < layer);
      });
  return static_cast<uint32_t>(found - segments.begin());
}

absl::Status NoSuchLevel(uint32_t level, uint32_t level_count) {
  return absl::InvalidArgumentError(absl::StrCat(
      "level ", level, " does not exist; the piece has levels 0 to ", level_count - 1));
}

}  // namespace

Distortion Level::Worst() const {
  Distortion worst;
  for (const Distortion& distortion : distortions) {
    worst.key = std::max(worst.key, distortion.key);
    worst.value = std::max(worst.value, distortion.value);
  }
  return worst;
}

absl::StatusOr<PieceMeta> PieceMeta::Parse(ByteSpan bytes) {
  REPRISE_ASSIGN_OR_RETURN(ParsedMeta parsed, ParseFields(bytes));
  const ContentId actual = ComputeContentId(bytes.first(parsed.field_bytes));
  if (actual != parsed.header.content_id) {
    return absl::DataLossError(
        absl::StrCat("container: header and directory have content id ", actual.digest.Hex(),
                     " but state ", parsed.header.content_id.digest.Hex(), ": they are damaged"));
  }
  PieceMeta meta;
  meta.header_ = std::move(parsed.header);
  meta.segments_ = std::move(parsed.segments);
  meta.meta_bytes_ = parsed.meta_bytes;
  return meta;
}

std::optional<uint32_t> PieceMeta::LevelEndingAt(uint64_t container_bytes) const {
  for (uint32_t level = 0; level < level_count(); ++level) {
    if (bytes_to(level) == container_bytes) return level;
  }
  return std::nullopt;
}

absl::StatusOr<std::vector<SegmentRun>> PieceMeta::Resolve(uint32_t layer_begin, uint32_t layer_end,
                                                           uint32_t level,
                                                           uint32_t first_plane) const {
  if (layer_begin >= layer_end || layer_end > layer_count()) {
    return absl::InvalidArgumentError(absl::StrCat("layers [", layer_begin, ", ", layer_end,
                                                   ") are empty or outside the piece's [0, ",
                                                   layer_count(), ")"));
  }
  if (level >= level_count()) return NoSuchLevel(level, level_count());
  std::vector<SegmentRun> runs;
  runs.reserve(level + size_t{1});
  for (uint32_t plane = first_plane; plane <= level; ++plane) {
    const uint32_t first = LowerBound(segments_, plane, layer_begin);
    const uint32_t end = LowerBound(segments_, plane, layer_end);
    if (!runs.empty() && runs.back().first + runs.back().count == first) {
      runs.back().count += end - first;
    } else {
      runs.push_back({.first = first, .count = end - first});
    }
  }
  return runs;
}

ByteRange PieceMeta::RangeOf(const SegmentRun& run) const {
  const uint64_t end = uint64_t{run.first} + run.count;
  if (run.count == 0 || end > segments_.size()) return {};
  const Segment& first = segments_[run.first];
  const Segment& last = segments_[end - 1];
  return {.offset = first.offset, .length = last.offset + last.length - first.offset};
}

absl::Status PieceMeta::VerifySegment(uint32_t index, ByteSpan bytes) const {
  if (index >= segments_.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("segment ", index, " does not exist; the piece has ", segments_.size()));
  }
  const Segment& segment = segments_[index];
  if (bytes.size() != segment.length) {
    return absl::DataLossError(absl::StrCat("segment ", index, " has ", bytes.size(),
                                            " bytes instead of ", segment.length));
  }
  if (const uint32_t crc = Crc32c(bytes); crc != segment.crc32c) {
    return absl::DataLossError(absl::StrCat(
        "segment ", index, " (plane ", segment.plane, ", layer ", segment.layer, ", ",
        segment.length, " bytes) is damaged: CRC-32C ", absl::Hex(crc, absl::kZeroPad8),
        " instead of ", absl::Hex(segment.crc32c, absl::kZeroPad8)));
  }
  return absl::OkStatus();
}

absl::Status PieceMeta::VerifyBody(ByteSpan body, uint32_t level) const {
  if (level >= level_count()) return NoSuchLevel(level, level_count());
  if (body.size() < header_.levels[level].body_bytes) {
    return absl::DataLossError(absl::StrCat("the body is cut short: ", body.size(),
                                            " bytes of the ", header_.levels[level].body_bytes,
                                            " of level ", level));
  }
  uint64_t end = 0;
  for (uint32_t i = 0; i < segments_.size() && segments_[i].plane <= level; ++i) {
    const Segment& segment = segments_[i];
    if (!IsZero(body.subspan(end, segment.offset - end))) {
      return absl::DataLossError(absl::StrCat("the gap before plane ", segment.plane, " (bytes ",
                                              end, " to ", segment.offset,
                                              " of the body) is not zero"));
    }
    REPRISE_RETURN_IF_ERROR(VerifySegment(i, body.subspan(segment.offset, segment.length)));
    end = segment.offset + segment.length;
  }
  return absl::OkStatus();
}

}  // namespace reprise
