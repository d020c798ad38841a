#include "client/fetch_operation.h"

#include <algorithm>

#include "client/entry_points.h"
#include "common/limits.h"
#include "proto/reprise.pb.h"

namespace reprise::client {

class FetchOperation::Observer final : public transport::CallObserver {
 public:
  explicit Observer(std::shared_ptr<FetchOperation> operation) : operation_(std::move(operation)) {}
  void OnPart(transport::Part part) override {
    operation_->Push({.part = std::move(part), .end = {}});
  }
  void OnDone(absl::Status status) override {
    operation_->Push({.part = {}, .end = std::move(status)});
  }

 private:
  const std::shared_ptr<FetchOperation> operation_;
};

void FetchOperation::StartBatch(uint32_t first) {
  const uint32_t left = static_cast<uint32_t>(pieces_.size()) - first;
  batch_end_ = first + std::min(left, static_cast<uint32_t>(kMaxPiecesPerFetch));
  reader_.emplace(pieces_, first, batch_end_, static_cast<PieceSink&>(*this));
  v1::FetchRequest request;
  request.mutable_pieces()->Reserve(static_cast<int>(batch_end_ - first));
  for (uint32_t i = first; i < batch_end_; ++i) {
    v1::PieceSelection& selection = *request.add_pieces();
    selection.set_key(std::string(pieces_[i].key.digest.AsString()));
    if (pieces_[i].content_id) {
      selection.set_content_id(std::string(pieces_[i].content_id->digest.AsString()));
    }
    selection.set_level(pieces_[i].level);
  }
  const size_t receive_parts = core().options.receive_bytes / kMaxPartBytes;
  CallStreaming(
      v1::FETCH, request.SerializeAsString(),
      std::clamp<uint32_t>(static_cast<uint32_t>(receive_parts), 1, kFetchCreditParts),
      std::make_shared<Observer>(std::static_pointer_cast<FetchOperation>(shared_from_this())));
}

void FetchOperation::Push(Event event) {
  {
    MutexLock lock(queue_mutex_);
    queue_.push_back(std::move(event));
    if (scheduled_) return;
    scheduled_ = true;
  }
  Schedule();
}

void FetchOperation::Schedule() {
  auto self = std::static_pointer_cast<FetchOperation>(shared_from_this());
  // The verifier's queue has room for one task of each operation, so it takes this one.
  if (!core().verifier.TryRun([self] { self->Turn(); })) Turn();
}

void FetchOperation::Turn() {
  for (uint32_t i = 0; i < kPartsPerTurn; ++i) {
    Event event;
    {
      MutexLock lock(queue_mutex_);
      if (queue_.empty() || queue_.front().end) scheduled_ = false;
      if (queue_.empty()) return;
      event = std::move(queue_.front());
      queue_.pop_front();
    }
    if (event.end) return EndBatch(*event.end);
    Consume(event.part);
  }
  Schedule();
}

void FetchOperation::Consume(const transport::Part& part) {
  const uint64_t bytes = part.message.size() + part.bulk.size();
  bytes_received_ += bytes;
  core().counters.Received(bytes);
  if (failure_) return;
  if (cancelled()) {
    failure_ = reader_->Finish(absl::CancelledError("cancelled by the caller"));
  } else if (deadline().PassedAt(Clock::Steady().Now())) {
    failure_ = reader_->Finish(
        absl::DeadlineExceededError("the deadline passed while pieces were arriving"));
  } else {
    failure_ = reader_->Consume(part.message, part.bulk.bytes());
  }
  // Nothing after the first miss is of use: see LoadResult.
  if (failure_) CancelCalls();
}

void FetchOperation::EndBatch(const absl::Status& status) {
  if (!failure_) failure_ = reader_->Finish(status);
  if (!failure_ && batch_end_ < pieces_.size()) {
    StartBatch(batch_end_);
    return;
  }
  reader_.reset();
  OnFetched(failure_);
}

void FetchOperation::ReportDamage(const Key& key) {
  BeginStat(core(), key, true, Deadline::After(kReportTimeout));
}

}  // namespace reprise::client
