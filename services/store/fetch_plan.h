// How the segments that a fetch selects become parts of at most kMaxPartBytes each.
//
// Long stretches of a body are sent where they lie. Short scattered runs (a few layers of every
// plane) are planned together, to be gathered into one buffer, because a carrier moves one large
// message several times faster than many small ones. Pure functions.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "chunk/container.h"

namespace reprise::store {

// A part whose runs together are shorter than this is gathered with its neighbours.
inline constexpr uint64_t kGatherBelowBytes = uint64_t{1} << 20;

struct PlannedPart {
  std::vector<SegmentRun> runs;  // in body order; more than one means gathering
  uint64_t bytes = 0;            // of all runs, their inner gaps included
};

// Parts in body order that together hold exactly the segments of `runs`, which are in body order
// and do not overlap. Runs that follow each other in the directory are sent as one. Nothing longer
// than kMaxPartBytes, because no segment is.
std::vector<PlannedPart> PlanParts(const PieceMeta& meta, std::span<const SegmentRun> runs);

}  // namespace reprise::store
