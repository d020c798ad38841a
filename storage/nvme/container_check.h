// Verifies the body of a container that comes piecemeal, without holding it: the scrubber and
// reclaim read pieces in windows that are smaller than pieces may be.
//
// Takes the bytes in order; what PieceMeta::VerifyBody checks, this does. Not thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>

#include "chunk/container.h"
#include "common/bytes.h"
#include "common/status.h"

namespace reprise::storage {

class ContainerCheck {
 public:
  // From the beginning of plane `first_plane`, or of the container when that is 0 (header and
  // directory are then passed over). `meta` must outlive this.
  ContainerCheck(const PieceMeta& meta, uint32_t first_plane);

  // DATA_LOSS, naming the segment, when one that ends in these bytes does not match its checksum or
  // a gap is not zero.
  absl::Status Take(ByteSpan bytes);

  // How far it has come, of the container's bytes.
  uint64_t position() const { return position_; }

 private:
  const PieceMeta& meta_;
  uint64_t position_;
  size_t segment_ = 0;  // the one that ends next
  uint32_t crc_ = 0;    // of its bytes so far
};

}  // namespace reprise::storage
