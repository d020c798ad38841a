// What an nvme tier finds when it opens: segments' files and the records of pieces.
//
// Blocks on the disk; before any thread of the tier runs.
#pragma once

#include "common/status.h"
#include "storage/nvme/tier_state.h"

namespace reprise::storage {

// Opens every segment file, and deletes those beyond the budget. INVALID_ARGUMENT for a segment of
// another node; others as Env.
absl::Status OpenSegments(TierState& state);

// Brings every record whose place exists into the view; the others are disowned. Then gives up
// what the budget has no room for, and tells which segments are empty. Errors as PieceCatalog.
absl::Status LoadPieces(TierState& state);

}  // namespace reprise::storage
