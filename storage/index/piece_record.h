// What the nvme tier knows of one piece, and its bytes in the catalog (docs/disk-format.md).
//
// The same encoding, without what many pieces share, is what the view in memory keeps: it is made
// to be small, and so that giving up planes or moving a run changes no length. What comes from a
// disk is hostile and parsed with every length checked. Plain values; pure functions.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "common/byte_io.h"
#include "common/bytes.h"
#include "common/status.h"
#include "storage/env/env.h"
#include "storage/piece_summary.h"

namespace reprise::storage {

// Offsets within a segment are counted in pages, as direct I/O needs.
inline constexpr uint64_t kPageBytes = kDirectAlignmentBytes;
// Three bytes each in a record.
inline constexpr uint32_t kMaxSegments = (1u << 24) - 1;
inline constexpr uint64_t kMaxSegmentBytes = (uint64_t{1} << 24) * kPageBytes;

// Where a run begins.
struct RunPlace {
  uint32_t segment = 0;
  uint32_t page = 0;  // of its segment

  uint64_t offset() const { return page * kPageBytes; }
  friend bool operator==(const RunPlace&, const RunPlace&) = default;
};

struct PieceRecord {
  PieceSummary summary{};  // its tier is kNvme
  bool durable = false;
  // Planes before this one are in the base run, behind header and directory; the others that are
  // held are in the refinement run.
  uint32_t base_planes = 1;
  RunPlace base{};
  RunPlace refinement{};

  // Whole pages of each run that hold planes still held; a container's plane begins with a page.
  uint64_t base_bytes() const { return PagesTo(std::min(base_planes, summary.planes_held)); }
  uint64_t refinement_bytes() const {
    return has_refinement() ? PagesTo(summary.planes_held) - PagesTo(base_planes) : 0;
  }
  uint64_t run_bytes() const { return base_bytes() + refinement_bytes(); }
  bool has_refinement() const { return summary.planes_held > base_planes; }
  // Of the container that is cut behind that many planes, rounded up to a page.
  uint64_t PagesTo(uint32_t planes) const {
    return AlignUp(summary.all_levels[planes - 1].bytes, kPageBytes);
  }
};

// Without the namespace's fingerprint. Two records that differ only in durability, planes held or
// places have the same length.
std::vector<std::byte> EncodeRecord(const PieceRecord& record);
// Leaves the fingerprint zero. DATA_LOSS, saying what is wrong, unless `bytes` is exactly one
// well-formed record; UNIMPLEMENTED for another version.
absl::StatusOr<PieceRecord> ParseRecord(ByteSpan bytes);

// As in the catalog: with the fingerprint, and a checksum over all of it and the piece's name.
std::vector<std::byte> EncodeCatalogValue(TenantId tenant, const Key& key,
                                          const PieceRecord& record);
// As ParseRecord; DATA_LOSS also when the checksum does not match or it is another piece's.
absl::StatusOr<PieceRecord> ParseCatalogValue(TenantId tenant, const Key& key, ByteSpan value);

}  // namespace reprise::storage
