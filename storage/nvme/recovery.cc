#include "storage/nvme/recovery.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

#include "common/log.h"
#include "storage/nvme/segment_file.h"

namespace reprise::storage {

absl::Status OpenSegments(TierState& state) {
  const TierLayout& layout = state.layout;
  REPRISE_ASSIGN_OR_RETURN(const std::vector<std::string> names,
                           state.env.List(layout.segment_directory));
  MutexLock lock(state.mutex);
  for (const std::string& name : names) {
    const std::optional<uint32_t> number = ParseSegmentFileName(name);
    if (!number.has_value()) {
      return absl::InvalidArgumentError(absl::StrCat(layout.segment_directory, "/", name,
                                                     " is no segment; move it out of the way"));
    }
    if (*number >= layout.max_segments) {
      LogWarning("segment beyond the budget is dropped",
                 {{"file", name}, {"segments", layout.max_segments}});
      REPRISE_RETURN_IF_ERROR(state.env.Delete(absl::StrCat(layout.segment_directory, "/", name)));
      continue;
    }
    REPRISE_ASSIGN_OR_RETURN(
        std::unique_ptr<EnvFile> file,
        OpenSegmentFile(state.env, layout.segment_directory, *number, layout.segment_bytes));
    REPRISE_ASSIGN_OR_RETURN(const std::optional<SegmentIdentity> header, ReadSegmentHeader(*file));
    if (header.has_value() && header->node_id != layout.node_id) {
      return absl::InvalidArgumentError(absl::StrCat(
          file->path(), " is a segment of node ", header->node_id, " and this directory is of ",
          layout.node_id, "; move the file back to where it came from"));
    }
    // Only the scrubber needs a header that is right: each piece proves itself what it is.
    if (!header.has_value() || header->number != *number) {
      LogWarning("damaged header of a segment", {{"file", file->path()}});
    }
    state.files[*number] = std::move(file);
  }
  return absl::OkStatus();
}

absl::Status LoadPieces(TierState& state) {
  MutexLock lock(state.mutex);
  uint64_t dropped = 0;
  const auto place_exists = [&](const RunPlace& run,
                                uint64_t bytes) ABSL_EXCLUSIVE_LOCKS_REQUIRED(state.mutex) {
    return state.space.IsPlace(run, bytes) && state.files[run.segment] != nullptr;
  };
  REPRISE_RETURN_IF_ERROR(state.catalog->ForEachPiece(
      [&](TenantId tenant, const Key& key, const absl::StatusOr<PieceRecord>& record)
          ABSL_EXCLUSIVE_LOCKS_REQUIRED(state.mutex) {
            if (record.ok() && place_exists(record->base, record->base_bytes()) &&
                (!record->has_refinement() ||
                 place_exists(record->refinement, record->refinement_bytes()))) {
              state.pieces.AddFound(tenant, key, *record);
              return;
            }
            if (!record.ok()) {
              LogWarning("damaged record of a piece",
                         {{"tenant", tenant},
                          {"key", key.digest.Hex()},
                          {"reason", std::string(record.status().message())}});
            }
            ++dropped;
            state.pieces.Disown(tenant, key);
          }));
  if (dropped > 0) {
    LogWarning("pieces without bytes are forgotten",
               {{"directory", state.options.directory}, {"pieces", dropped}});
  }
  state.pieces.ForgetExpired(SIZE_MAX);
  // The budget may have become smaller. What is left when nothing more may go stays.
  static_cast<void>(state.pieces.MakeRoom(0));
  for (uint32_t segment = 0; segment < state.layout.max_segments; ++segment) {
    if (state.files[segment] != nullptr && state.space.IsAbsent(segment)) {
      state.space.AddEmpty(segment);
    }
  }
  return absl::OkStatus();
}

}  // namespace reprise::storage
