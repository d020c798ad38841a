#include <algorithm>
#include <cassert>
#include <utility>

#include "absl/strings/str_cat.h"

#include "chunk/container.h"
#include "chunk/container_format.h"
#include "chunk/container_rules.h"
#include "common/byte_io.h"
#include "common/crc32c.h"

namespace reprise {

absl::StatusOr<PieceLayout> PieceLayout::Create(PieceHeader header, std::vector<Segment> segments) {
  constexpr absl::StatusCode kInvalid = absl::StatusCode::kInvalidArgument;
  REPRISE_RETURN_IF_ERROR(CheckShape(header, kInvalid));
  REPRISE_RETURN_IF_ERROR(CheckLevels(header, kInvalid));
  SegmentWalk walk(header, kInvalid);
  for (Segment& segment : segments) {
    REPRISE_ASSIGN_OR_RETURN(segment.offset, walk.Next(segment));
    segment.crc32c = 0;
  }
  REPRISE_ASSIGN_OR_RETURN(const std::vector<uint64_t> ends, walk.Finish());
  for (size_t level = 0; level < ends.size(); ++level) {
    header.levels[level].body_bytes = ends[level];
  }
  header.content_id = {};
  const size_t meta_bytes = AlignUp(FieldBytes(header, segments.size()), kPlaneAlignment);
  if (meta_bytes > kMaxPieceMetaBytes) {
    return absl::InvalidArgumentError(absl::StrCat("container: header and directory take ",
                                                   meta_bytes, " bytes; at most ",
                                                   kMaxPieceMetaBytes, " are allowed"));
  }
  PieceLayout layout;
  layout.meta_.header_ = std::move(header);
  layout.meta_.segments_ = std::move(segments);
  layout.meta_.meta_bytes_ = meta_bytes;
  return layout;
}

MutableByteSpan PieceLayout::SegmentBytes(uint32_t index, MutableByteSpan container) const {
  assert(index < meta_.segments_.size() && container.size() == total_bytes());
  const Segment& segment = meta_.segments_[index];
  return container.subspan(meta_bytes() + segment.offset, segment.length);
}

ContentId PieceLayout::Seal(MutableByteSpan container) {
  assert(container.size() == total_bytes());
  const MutableByteSpan body = container.subspan(meta_bytes());
  uint64_t end = 0;
  for (Segment& segment : meta_.segments_) {
    std::ranges::fill(body.subspan(end, segment.offset - end), std::byte{0});
    segment.crc32c = Crc32c(body.subspan(segment.offset, segment.length));
    end = segment.offset + segment.length;
  }
  // The content id stands inside the bytes that it names, but is left out of what it is computed
  // from.
  const std::vector<std::byte> fields = WriteFields(meta_.header_, meta_.segments_);
  meta_.header_.content_id = ComputeContentId(fields);
  std::ranges::copy(fields, container.begin());
  std::ranges::copy(meta_.header_.content_id.digest.bytes, container.begin() + kContentIdOffset);
  std::ranges::fill(container.subspan(fields.size(), meta_bytes() - fields.size()), std::byte{0});
  return meta_.header_.content_id;
}

}  // namespace reprise
