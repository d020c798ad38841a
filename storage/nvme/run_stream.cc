#include "storage/nvme/run_stream.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

#include "storage/nvme/container_check.h"

namespace reprise::storage {

absl::StatusOr<std::unique_ptr<RunStream>> RunStream::Create() {
  REPRISE_ASSIGN_OR_RETURN(std::unique_ptr<MappedRegion> memory,
                           MappedRegion::Create(kWindowBytes, PageKind::kSmall));
  return std::unique_ptr<RunStream>(new RunStream(std::move(memory)));
}

absl::StatusOr<PieceMeta> RunStream::ReadMeta(const PieceSource& piece) {
  const PieceRecord& record = piece.record;
  const uint64_t offset = record.base.offset();
  const MutableByteSpan first =
      memory_->bytes().first(std::min<uint64_t>(kWindowBytes, record.base_bytes()));
  REPRISE_RETURN_IF_ERROR(piece.base->ReadAt(offset, first));
  const absl::StatusOr<size_t> peeked = PieceMeta::PeekMetaBytes(first);
  // Another version is damage, too: this build has once stored what it is a record of.
  if (!peeked.ok()) return absl::DataLossError(peeked.status().message());
  const size_t meta_bytes = *peeked;
  if (meta_bytes > record.base_bytes()) {
    return absl::DataLossError(absl::StrCat("a header and directory of ", meta_bytes,
                                            " bytes in a run of ", record.base_bytes()));
  }
  // Hardly any are larger than a window.
  std::unique_ptr<MappedRegion> large;
  MutableByteSpan bytes = first;
  if (meta_bytes > bytes.size()) {
    REPRISE_ASSIGN_OR_RETURN(large, MappedRegion::Create(meta_bytes, PageKind::kSmall));
    bytes = large->bytes();
    REPRISE_RETURN_IF_ERROR(piece.base->ReadAt(offset, bytes.first(meta_bytes)));
  }
  REPRISE_ASSIGN_OR_RETURN(PieceMeta meta, PieceMeta::Parse(bytes.first(meta_bytes)));
  if (meta.header().key != piece.key || meta.header().content_id != record.summary.content_id) {
    return absl::DataLossError(
        absl::StrCat("another piece is in its place, ", meta.header().key.digest.Hex()));
  }
  if (meta.level_count() != record.summary.level_count) {
    return absl::DataLossError("its directory has another number of levels than its record");
  }
  for (uint32_t level = 0; level < meta.level_count(); ++level) {
    if (meta.bytes_to(level) == record.summary.all_levels[level].bytes) continue;
    return absl::DataLossError(absl::StrCat("level ", level, " has ", meta.bytes_to(level),
                                            " bytes and its record says ",
                                            record.summary.all_levels[level].bytes));
  }
  return meta;
}

absl::Status RunStream::Read(const PieceSource& piece, bool base, bool refinement, Window window) {
  REPRISE_ASSIGN_OR_RETURN(const PieceMeta meta, ReadMeta(piece));
  const PieceRecord& record = piece.record;
  const auto read = [&](RunKind kind, const EnvFile& file, const RunPlace& place, uint64_t bytes) {
    ContainerCheck check(meta, kind == RunKind::kBase ? 0 : record.base_planes);
    for (uint64_t at = 0; at < bytes;) {
      const MutableByteSpan part =
          memory_->bytes().first(std::min<uint64_t>(kWindowBytes, bytes - at));
      // The first window of a base run is there from reading its header.
      if (kind != RunKind::kBase || at > 0) {
        REPRISE_RETURN_IF_ERROR(file.ReadAt(place.offset() + at, part));
      }
      REPRISE_RETURN_IF_ERROR(window(kind, at, part));
      REPRISE_RETURN_IF_ERROR(check.Take(part));
      at += part.size();
    }
    return absl::OkStatus();
  };
  if (base) {
    REPRISE_RETURN_IF_ERROR(read(RunKind::kBase, *piece.base, record.base, record.base_bytes()));
  }
  if (!refinement || !record.has_refinement()) return absl::OkStatus();
  return read(RunKind::kRefinement, *piece.refinement, record.refinement,
              record.refinement_bytes());
}

}  // namespace reprise::storage
