// Load: chunks of a prefix, fetched, verified and decoded into the caller's tensors.

#include <algorithm>
#include <memory>
#include <utility>

#include "client/entry_points.h"
#include "client/fetch_operation.h"
#include "client/hit_rule.h"
#include "client/views.h"
#include "common/limits.h"

namespace reprise::client {
namespace {

// A load's pieces, chunk-major; `pieces` is what FetchOperation asks for.
struct LoadPlan {
  struct Place {
    uint32_t chunk = 0;
    uint32_t slot = 0;
    GroupViews views;
  };
  uint32_t first = 0;
  uint32_t count = 0;
  std::vector<uint32_t> reaches;
  std::vector<ExpectedPiece> pieces;
  std::vector<Place> places;
};

LoadPlan MakePlan(const PrefixKeys& keys, uint32_t first, uint32_t count,
                  std::span<const GroupViews> views, const LoadOptions& options) {
  LoadPlan plan{
      .first = first, .count = count, .reaches = SlotReaches(keys), .pieces = {}, .places = {}};
  const uint32_t slot_count = static_cast<uint32_t>(keys.pieces_per_chunk());
  for (uint32_t chunk = first; chunk < first + count; ++chunk) {
    for (uint32_t slot = 0; slot < slot_count; ++slot) {
      if (!IsNeeded(plan.reaches[slot], chunk, first + count)) continue;
      ExpectedPiece piece{.key = keys.key(chunk, slot),
                          .content_id = {},
                          .fingerprint = keys.fingerprint(),
                          .slot = keys.slots()[slot],
                          .token_begin = uint64_t{chunk} * keys.name_space().chunk_tokens,
                          .level = options.level};
      const uint64_t reported = uint64_t{chunk} * slot_count + slot;
      if (options.expected != nullptr && reported < options.expected->pieces.size() &&
          !options.expected->pieces[reported].level_bytes.empty()) {
        piece.content_id = options.expected->pieces[reported].content_id;
      }
      plan.pieces.push_back(piece);
      plan.places.push_back(
          {chunk, slot, PieceViews(keys.name_space(), views, keys.slots()[slot], chunk - first)});
    }
  }
  return plan;
}

class LoadOperation final : public OperationOf<LoadResult, FetchOperation> {
 public:
  LoadOperation(Core& load_core, Deadline deadline, LoadPlan plan)
      : OperationOf(load_core, deadline, std::move(plan.pieces)),
        first_(plan.first),
        count_(plan.count),
        reaches_(std::move(plan.reaches)),
        places_(std::move(plan.places)) {}

 private:
  absl::Status TakeMeta(uint32_t piece, const PieceMeta& meta, ByteSpan /*meta_bytes*/,
                        uint32_t /*level*/) override {
    return CheckDestination(meta, places_[piece].views.key, places_[piece].views.value);
  }

  absl::Status TakeSegment(uint32_t piece, const PieceMeta& meta, uint32_t index,
                           ByteSpan bytes) override {
    return DecodeSegment(meta, index, bytes, places_[piece].views.key, places_[piece].views.value);
  }

  void TakeEnd(uint32_t piece, const PieceMeta& meta, uint32_t level) override {
    complete_ = piece + 1;
    core().counters.PieceLoaded();
    if (meta.header().levels[level].Worst() != Distortion{}) result_.lossless = false;
  }

  void OnFetched(const std::optional<FetchReader::Failure>& failure) override {
    if (failure && cancelled()) return Finish(absl::CancelledError("the load was cancelled"));
    result_.bytes_received = bytes_received();
    result_.chunks = count_;
    if (failure) {
      if (IsDamage(failure->reason)) ReportDamage(pieces()[failure->piece].key);
      result_.chunks = CompleteChunks();
      Missed(failure->piece, failure->reason, failure->detail);
    }
    Finish(std::move(result_));
  }

  // A store that cannot be reached is a miss of the first piece.
  void OnRefused(absl::Status status) override {
    if (!absl::IsUnavailable(status) && !absl::IsDeadlineExceeded(status))
      return Finish(std::move(status));
    const bool late = absl::IsDeadlineExceeded(status);
    Missed(0, late ? MissReason::kDeadline : MissReason::kPeerLost, std::string(status.message()));
    Finish(std::move(result_));
  }

  void Missed(uint32_t piece, MissReason reason, std::string detail) {
    core().counters.Missed(reason);
    result_.misses.push_back({.chunk = places_[piece].chunk,
                              .slot = places_[piece].slot,
                              .reason = reason,
                              .detail = std::move(detail)});
  }

  uint32_t CompleteChunks() const {
    const auto loaded = [this](uint32_t chunk, uint32_t slot) {
      const auto end = places_.begin() + complete_;
      const auto found = std::lower_bound(
          places_.begin(), end, std::pair(chunk, slot),
          [](const LoadPlan::Place& place, const std::pair<uint32_t, uint32_t>& at) {
            return std::pair(place.chunk, place.slot) < at;
          });
      return found != end && found->chunk == chunk && found->slot == slot;
    };
    return LongestHit(reaches_, first_, first_ + count_, loaded) - first_;
  }

  const uint32_t first_;
  const uint32_t count_;
  const std::vector<uint32_t> reaches_;
  const std::vector<LoadPlan::Place> places_;
  uint32_t complete_ = 0;
  LoadResult result_;
};

}  // namespace

Async<LoadResult> BeginLoad(Core& core, const PrefixKeys& keys, uint32_t first, uint32_t count,
                            std::vector<GroupViews> views, LoadOptions options, Deadline deadline) {
  if (absl::Status valid = CheckChunks(keys, first, count); !valid.ok())
    return Refused<LoadResult>(valid);
  if (absl::Status valid = CheckViews(keys.name_space(), count, views); !valid.ok())
    return Refused<LoadResult>(valid);
  LoadPlan plan = MakePlan(keys, first, count, views, options);
  return LoadOperation::Run(std::make_shared<LoadOperation>(core, deadline, std::move(plan)));
}

}  // namespace reprise::client
