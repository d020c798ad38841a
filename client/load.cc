// Load: chunks of a prefix, or a plan's choice of them, fetched, verified and decoded into the
// caller's tensors.

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <utility>

#include "client/entry_points.h"
#include "client/fetch_operation.h"
#include "client/load_plan.h"
#include "client/views.h"

namespace reprise::client {
namespace {

class LoadOperation final : public OperationOf<LoadResult, FetchOperation> {
 public:
  LoadOperation(Core& load_core, Deadline deadline, const PrefixKeys& keys, LoadPlan plan,
                LoadObserver observer)
      : OperationOf(load_core, deadline, std::move(plan.pieces)),
        placement_(view(), load_core.options.replicas, keys),
        plan_(std::move(plan)),
        observer_(std::move(observer)),
        left_(plan_.piece_counts) {
    result_.selections.resize(plan_.selections.size());
    lowest_levels_.resize(plan_.selections.size());
  }

 private:
  const Replicas& ReplicasOf(uint32_t piece) const override {
    return placement_.OfChunk(plan_.selections[plan_.places[piece].selection].chunk);
  }

  absl::Status TakeMeta(uint32_t piece, const PieceMeta& meta, ByteSpan /*meta_bytes*/,
                        uint32_t /*level*/) override {
    const GroupViews& views = plan_.places[piece].views;
    REPRISE_ASSIGN_OR_RETURN(decoders_[piece], PieceDecoder::Create(meta, views.key, views.value));
    return absl::OkStatus();
  }

  absl::Status TakeSegment(uint32_t piece, const PieceMeta& /*meta*/, uint32_t index,
                           ByteSpan bytes) override {
    return decoders_.at(piece)->Take(index, bytes);
  }

  absl::Status TakeEnd(uint32_t piece, const PieceMeta& meta, uint32_t level) override {
    REPRISE_RETURN_IF_ERROR(decoders_.at(piece)->Finish());
    decoders_.erase(piece);
    core().counters.PieceLoaded();
    const uint32_t index = plan_.places[piece].selection;
    SelectionResult& selection = result_.selections[index];
    if (meta.level_count() > 1) {
      lowest_levels_[index] = std::min(lowest_levels_[index].value_or(level), level);
      selection.level = *lowest_levels_[index];
    }
    const std::vector<Distortion>& layers = meta.header().levels[level].distortions;
    const ExpectedPiece& asked = pieces()[piece];
    const size_t end = asked.layer_end == 0 ? layers.size() : asked.layer_end;
    for (size_t layer = asked.layer_begin; layer < end; ++layer) {
      selection.distortion.key = std::max(selection.distortion.key, layers[layer].key);
      selection.distortion.value = std::max(selection.distortion.value, layers[layer].value);
      if (layers[layer] != Distortion{}) result_.lossless = false;
    }
    PieceEnded(piece);
    return absl::OkStatus();
  }

  void OnMiss(uint32_t piece, const PieceMiss& miss) override {
    decoders_.erase(piece);
    const LoadPlan::Place& place = plan_.places[piece];
    SelectionResult& selection = result_.selections[place.selection];
    if (!selection.miss) {
      core().counters.Missed(miss.reason);
      selection.miss = Miss{.chunk = plan_.selections[place.selection].chunk,
                            .slot = place.slot,
                            .reason = miss.reason,
                            .detail = miss.detail};
    }
    PieceEnded(piece);
    if (plan_.ends_at_miss) {
      // What the selection's other pieces would have become does not matter any more.
      left_[place.selection] = 0;
      Announce();
      WantBefore(FirstPieceOf(place.selection, piece));
    }
  }

  // Of a selection that `piece` belongs to.
  uint32_t FirstPieceOf(uint32_t selection, uint32_t piece) const {
    while (piece > 0 && plan_.places[piece - 1].selection == selection) --piece;
    return piece;
  }

  void PieceEnded(uint32_t piece) {
    --left_[plan_.places[piece].selection];
    Announce();
  }

  // Tells of selections whose pieces have all ended, of which some have none at all.
  void Announce() {
    for (; announced_ < left_.size() && left_[announced_] == 0; ++announced_) {
      SelectionResult& selection = result_.selections[announced_];
      selection.complete = !selection.miss.has_value();
      if (observer_) observer_(announced_, selection);
    }
  }

  void OnFetched(const absl::Status& status) override {
    observer_ = nullptr;
    if (!status.ok()) return Finish(status);
    result_.bytes_received = bytes_received();
    result_.chunks = plan_.CompleteChunks(result_.selections);
    for (const SelectionResult& selection : result_.selections) {
      if (!selection.miss.has_value()) continue;
      result_.misses.push_back(*selection.miss);
      // Those behind it came from other stores, before it was known.
      if (plan_.ends_at_miss) break;
    }
    Finish(std::move(result_));
  }

  const Placement placement_;
  const LoadPlan plan_;  // without its pieces
  LoadObserver observer_;
  std::vector<uint32_t> left_;  // pieces of each selection that have not ended
  size_t announced_ = 0;        // selections
  // Of each selection, over its pieces with several levels.
  std::vector<std::optional<uint32_t>> lowest_levels_;
  // Of the pieces whose header has come and whose end has not.
  std::map<uint32_t, std::unique_ptr<PieceDecoder>> decoders_;
  LoadResult result_;
};

}  // namespace

Async<LoadResult> BeginLoad(Core& core, const PrefixKeys& keys, uint32_t first, uint32_t count,
                            std::vector<GroupViews> views, LoadOptions options, Deadline deadline) {
  // What a lookup that found nothing asks for: a result like any other, with nothing to wait for.
  if (count == 0 && first <= keys.chunk_count() && options.plan.empty()) {
    const Async<LoadResult>::Source done;
    done.Complete(LoadResult{});
    return done.future();
  }
  if (absl::Status valid = CheckChunks(keys, first, count); !valid.ok())
    return Refused<LoadResult>(valid);
  if (absl::Status valid = CheckViews(keys.name_space(), count, views); !valid.ok())
    return Refused<LoadResult>(valid);
  auto plan = MakeLoadPlan(keys, first, count, views, options);
  if (!plan.ok()) return Refused<LoadResult>(plan.status());
  return LoadOperation::Run(std::make_shared<LoadOperation>(core, deadline, keys, *std::move(plan),
                                                            std::move(options.observer)));
}

}  // namespace reprise::client
