#include "client/load_plan.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

#include "client/hit_rule.h"
#include "client/views.h"

namespace reprise::client {
namespace {

// Half open.
struct LayerRange {
  uint32_t begin = 0;
  uint32_t end = 0;
};

// Which layers of `slot`, counted within the piece, are the model's layers of `selection`.
LayerRange LayersOf(const LayerGroup& group, const PieceSlot& slot, const Selection& selection) {
  const auto index_of = [&](uint32_t layer) {
    const auto at = std::lower_bound(group.layers.begin(), group.layers.end(), layer);
    const auto index = static_cast<uint32_t>(at - group.layers.begin());
    return std::clamp(index, slot.layer_begin, slot.layer_end) - slot.layer_begin;
  };
  return {.begin = index_of(selection.layer_begin), .end = index_of(selection.layer_end)};
}

absl::Status CheckSelections(const LoadPlan& plan) {
  if (plan.selections.size() > kMaxSelections) {
    return absl::InvalidArgumentError(absl::StrCat("the plan has ", plan.selections.size(),
                                                   " selections; at most ", kMaxSelections,
                                                   " are allowed"));
  }
  for (size_t i = 0; i < plan.selections.size(); ++i) {
    const Selection& selection = plan.selections[i];
    if (selection.chunk < plan.first || selection.chunk - plan.first >= plan.count) {
      return absl::InvalidArgumentError(
          absl::StrCat("selection ", i, " names chunk ", selection.chunk, "; the load is of [",
                       plan.first, ", ", uint64_t{plan.first} + plan.count, ")"));
    }
    const auto layer =
        std::lower_bound(plan.layers.begin(), plan.layers.end(), selection.layer_begin);
    if (layer == plan.layers.end() || *layer >= selection.layer_end) {
      return absl::InvalidArgumentError(
          absl::StrCat("selection ", i, " names layers [", selection.layer_begin, ", ",
                       selection.layer_end, "), where the namespace has none"));
    }
  }
  return absl::OkStatus();
}

std::vector<uint32_t> RunEnds(const LoadPlan& plan) {
  std::vector<bool> selected(plan.count);
  for (const Selection& selection : plan.selections) selected[selection.chunk - plan.first] = true;
  std::vector<uint32_t> ends(plan.count);
  uint32_t end = plan.first + plan.count;
  for (uint32_t i = plan.count; i-- > 0;) {
    if (!selected[i]) end = plan.first + i;
    ends[i] = end;
  }
  return ends;
}

void AddPieces(const PrefixKeys& keys, std::span<const GroupViews> views, uint32_t index,
               const LookupResult* expected, LoadPlan& plan) {
  const Selection& selection = plan.selections[index];
  const auto slot_count = static_cast<uint32_t>(keys.pieces_per_chunk());
  const uint32_t run_end = plan.run_ends[selection.chunk - plan.first];
  const size_t before = plan.pieces.size();
  for (uint32_t slot = 0; slot < slot_count; ++slot) {
    const PieceSlot& place = keys.slots()[slot];
    const LayerRange layers = LayersOf(keys.name_space().groups[place.group], place, selection);
    if (layers.begin == layers.end) continue;
    if (!IsNeeded(plan.reaches[slot], selection.chunk, run_end)) continue;
    ExpectedPiece piece{.key = keys.key(selection.chunk, slot),
                        .content_id = {},
                        .fingerprint = keys.fingerprint(),
                        .slot = place,
                        .token_begin = uint64_t{selection.chunk} * keys.name_space().chunk_tokens,
                        .level = selection.level};
    if (layers.begin != 0 || layers.end != place.layer_end - place.layer_begin) {
      piece.layer_begin = layers.begin;
      piece.layer_end = layers.end;
    }
    const uint64_t reported = uint64_t{selection.chunk} * slot_count + slot;
    if (expected != nullptr && reported < expected->pieces.size() &&
        !expected->pieces[reported].level_bytes.empty()) {
      piece.content_id = expected->pieces[reported].content_id;
    }
    plan.pieces.push_back(piece);
    plan.places.push_back(
        {.selection = index,
         .slot = slot,
         .views = PieceViews(keys.name_space(), views, place, selection.chunk - plan.first)});
  }
  plan.piece_counts.push_back(static_cast<uint32_t>(plan.pieces.size() - before));
}

}  // namespace

absl::StatusOr<LoadPlan> MakeLoadPlan(const PrefixKeys& keys, uint32_t first, uint32_t count,
                                      std::span<const GroupViews> views,
                                      const LoadOptions& options) {
  LoadPlan plan{.first = first,
                .count = count,
                .ends_at_miss = options.plan.empty(),
                .reaches = SlotReaches(keys),
                .layers = {},
                .run_ends = {},
                .selections = {options.plan.begin(), options.plan.end()},
                .piece_counts = {},
                .pieces = {},
                .places = {}};
  for (const LayerGroup& group : keys.name_space().groups)
    plan.layers.insert(plan.layers.end(), group.layers.begin(), group.layers.end());
  std::sort(plan.layers.begin(), plan.layers.end());
  if (plan.ends_at_miss) {
    for (uint32_t chunk = first; chunk < first + count; ++chunk)
      plan.selections.push_back({.chunk = chunk, .level = options.level});
  } else {
    REPRISE_RETURN_IF_ERROR(CheckSelections(plan));
  }
  plan.run_ends = RunEnds(plan);
  for (uint32_t i = 0; i < plan.selections.size(); ++i) {
    AddPieces(keys, views, i, options.expected, plan);
  }
  return plan;
}

uint32_t LoadPlan::CompleteChunks(std::span<const SelectionResult> results) const {
  std::vector<std::vector<LayerRange>> loaded(count);
  for (size_t i = 0; i < results.size(); ++i) {
    if (!results[i].complete) continue;
    loaded[selections[i].chunk - first].push_back(
        {.begin = selections[i].layer_begin, .end = selections[i].layer_end});
  }
  std::vector<bool> whole(count);
  for (uint32_t i = 0; i < count; ++i) {
    std::vector<LayerRange>& ranges = loaded[i];
    std::sort(ranges.begin(), ranges.end(),
              [](const LayerRange& a, const LayerRange& b) { return a.begin < b.begin; });
    auto missing = layers.begin();
    for (const LayerRange& range : ranges) {
      if (missing == layers.end() || range.begin > *missing) break;
      missing = std::max(missing, std::lower_bound(layers.begin(), layers.end(), range.end));
    }
    whole[i] = missing == layers.end();
  }
  const auto held = [&](uint32_t chunk, uint32_t slot) {
    const uint32_t i = chunk - first;
    return whole[i] && IsNeeded(reaches[slot], chunk, run_ends[i]);
  };
  return LongestHit(reaches, first, first + count, held) - first;
}

}  // namespace reprise::client
