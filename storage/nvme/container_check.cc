#include "storage/nvme/container_check.h"

#include <algorithm>
#include <limits>

#include "absl/strings/str_cat.h"

#include "common/byte_io.h"
#include "common/crc32c.h"
#include "common/limits.h"

namespace reprise::storage {
namespace {

bool IsZero(ByteSpan bytes) {
  return std::ranges::all_of(bytes, [](std::byte byte) { return byte == std::byte{0}; });
}

}  // namespace

ContainerCheck::ContainerCheck(const PieceMeta& meta, uint32_t first_plane)
    : meta_(meta),
      position_(first_plane == 0 ? 0 : AlignUp(meta.bytes_to(first_plane - 1), kPlaneAlignment)) {
  while (segment_ < meta.segments().size() && meta.segments()[segment_].plane < first_plane) {
    ++segment_;
  }
}

absl::Status ContainerCheck::Take(ByteSpan bytes) {
  const auto pass = [&](uint64_t limit) {
    const ByteSpan part = bytes.first(std::min<uint64_t>(bytes.size(), limit - position_));
    bytes = bytes.subspan(part.size());
    position_ += part.size();
    return part;
  };
  if (position_ < meta_.meta_bytes()) pass(meta_.meta_bytes());
  while (!bytes.empty()) {
    const bool is_last = segment_ == meta_.segments().size();
    const uint64_t begin = is_last ? std::numeric_limits<uint64_t>::max()
                                   : meta_.meta_bytes() + meta_.segments()[segment_].offset;
    if (position_ < begin) {
      if (!IsZero(pass(begin))) {
        return absl::DataLossError(
            absl::StrCat("a gap that ends at byte ", position_, " of a container is not zero"));
      }
      continue;
    }
    const Segment& segment = meta_.segments()[segment_];
    crc_ = ExtendCrc32c(crc_, pass(begin + segment.length));
    if (position_ < begin + segment.length) break;
    if (crc_ != segment.crc32c) {
      return absl::DataLossError(absl::StrCat("segment ", segment_, " of ", segment.length,
                                              " bytes does not match its checksum"));
    }
    ++segment_;
    crc_ = 0;
  }
  return absl::OkStatus();
}

}  // namespace reprise::storage
