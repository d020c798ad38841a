// FetchPiece: one encoded piece as the store holds it, verified and put together again.

#include <algorithm>
#include <memory>
#include <utility>

#include "client/entry_points.h"
#include "client/fetch_operation.h"

namespace reprise::client {
namespace {

class FetchPieceOperation final : public OperationOf<ObjectBytes, FetchOperation> {
 public:
  FetchPieceOperation(Core& fetch_core, Deadline deadline, const ExpectedPiece& piece)
      : OperationOf(fetch_core, deadline, std::vector<ExpectedPiece>{piece}),
        replicas_(PlaceUnit(view(), piece.key.digest, node_count())) {}

 private:
  // A key does not tell the run that its chunk is in: any node may hold it.
  const Replicas& ReplicasOf(uint32_t /*piece*/) const override { return replicas_; }

  absl::Status TakeMeta(uint32_t /*piece*/, const PieceMeta& meta, ByteSpan meta_bytes,
                        uint32_t level) override {
    // Zeroed, as the gaps between planes must be, also after another node's attempt.
    result_.container.assign(meta.meta_bytes() + meta.header().levels[level].body_bytes,
                             std::byte{0});
    std::copy(meta_bytes.begin(), meta_bytes.end(), result_.container.begin());
    result_.level = level;
    return absl::OkStatus();
  }

  absl::Status TakeSegment(uint32_t /*piece*/, const PieceMeta& meta, uint32_t index,
                           ByteSpan bytes) override {
    const uint64_t offset = meta.meta_bytes() + meta.segments()[index].offset;
    std::copy(bytes.begin(), bytes.end(),
              result_.container.begin() + static_cast<ptrdiff_t>(offset));
    return absl::OkStatus();
  }

  absl::Status TakeEnd(uint32_t /*piece*/, const PieceMeta& /*meta*/, uint32_t /*level*/) override {
    core().counters.PieceLoaded();
    return absl::OkStatus();
  }

  void OnMiss(uint32_t /*piece*/, const PieceMiss& miss) override {
    core().counters.Missed(miss.reason);
    result_ = ObjectBytes{};
    result_.miss = Miss{.chunk = 0, .slot = 0, .reason = miss.reason, .detail = miss.detail};
  }

  void OnFetched(const absl::Status& status) override {
    if (!status.ok()) return Finish(status);
    Finish(std::move(result_));
  }

  const Replicas replicas_;
  ObjectBytes result_;
};

}  // namespace

Async<ObjectBytes> BeginFetchPiece(Core& core, const Key& key, std::optional<Digest> fingerprint,
                                   uint32_t level, Deadline deadline) {
  ExpectedPiece piece;
  piece.key = key;
  piece.fingerprint = fingerprint;
  piece.level = level;
  return FetchPieceOperation::Run(std::make_shared<FetchPieceOperation>(core, deadline, piece));
}

}  // namespace reprise::client
