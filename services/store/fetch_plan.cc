#include "services/store/fetch_plan.h"

#include "common/limits.h"

namespace reprise::store {
namespace {

// Joins runs that follow each other, then cuts what is longer than a part at segment boundaries.
std::vector<SegmentRun> Stretches(const PieceMeta& meta, std::span<const SegmentRun> runs) {
  std::vector<SegmentRun> stretches;
  const std::vector<Segment>& segments = meta.segments();
  uint64_t begin = 0;  // of the stretch being grown, in the body
  for (const SegmentRun& run : runs) {
    for (uint32_t i = run.first; i < run.first + run.count; ++i) {
      const uint64_t end = segments[i].offset + segments[i].length;
      const bool follows =
          !stretches.empty() && stretches.back().first + stretches.back().count == i;
      if (follows && end - begin <= kMaxPartBytes) {
        ++stretches.back().count;
      } else {
        stretches.push_back({i, 1});
        begin = segments[i].offset;
      }
    }
  }
  return stretches;
}

}  // namespace

std::vector<PlannedPart> PlanParts(const PieceMeta& meta, std::span<const SegmentRun> runs) {
  std::vector<PlannedPart> parts;
  bool open = false;  // the last part takes further short runs
  for (const SegmentRun& stretch : Stretches(meta, runs)) {
    const uint64_t bytes = meta.RangeOf(stretch).length;
    const bool is_short = bytes < kGatherBelowBytes;
    if (open && is_short && parts.back().bytes + bytes <= kMaxPartBytes) {
      parts.back().runs.push_back(stretch);
      parts.back().bytes += bytes;
      continue;
    }
    parts.push_back({{stretch}, bytes});
    open = is_short;
  }
  return parts;
}

}  // namespace reprise::store
