#include "client/fetch_operation.h"

#include <algorithm>

#include "client/entry_points.h"
#include "client/miss_reason.h"
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
  rest_cancelled_ = false;
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
    selection.set_layer_begin(pieces_[i].layer_begin);
    selection.set_layer_end(pieces_[i].layer_end);
  }

  const size_t receive_parts = core().options.receive_bytes / kMaxPartBytes;
  CallStreaming(
      v1::FETCH, request.SerializeAsString(),
      std::clamp<uint32_t>(static_cast<uint32_t>(receive_parts), 1, kFetchCreditParts),
      std::make_shared<Observer>(std::static_pointer_cast<FetchOperation>(shared_from_this())));
}

void FetchOperation::Push(Event event) {
  const TimePoint due = event.end ? kAtOnce : Clock::Steady().Now();
  {
    MutexLock lock(queue_mutex_);
    queue_.push_back(std::move(event));
  }
  Schedule(due);
}

std::optional<FetchOperation::Event> FetchOperation::Pop() {
  MutexLock lock(queue_mutex_);
  if (queue_.empty()) return std::nullopt;
  Event event = std::move(queue_.front());
  queue_.pop_front();
  return event;
}

void FetchOperation::Schedule(TimePoint due) {
  core().verifier.Schedule(std::static_pointer_cast<FetchOperation>(shared_from_this()), due);
}

void FetchOperation::Turn() {
  TimePoint now = Clock::Steady().Now();
  const TimePoint end = now + kVerifierTurn;
  for (;;) {
    if (!part_) {
      std::optional<Event> event = Pop();
      if (!event) return;
      if (event->end) return EndBatch(*event->end);
      BeginPart(std::move(event->part), now);
    }
    if (IsOver(now) || !reader_->Step()) part_.reset();
    now = Clock::Steady().Now();
    // What is over has little left to do, and its end may be in the queue already.
    if (now >= end) return Schedule(IsOver(now) ? kAtOnce : now);
  }
}

void FetchOperation::BeginPart(transport::Part part, TimePoint now) {
  part_ = std::move(part);
  const uint64_t bytes = part_->message.size() + part_->bulk.size();
  bytes_received_ += bytes;
  core().counters.Received(bytes);
  if (!IsOver(now)) reader_->Take(part_->message, part_->bulk.bytes());
}

bool FetchOperation::IsOver(TimePoint now) {
  if (!stopped_ && !reader_->done()) {
    if (cancelled()) {
      stopped_by_cancel_ = stopped_ = true;
    } else if (deadline().PassedAt(now)) {
      reader_->End(absl::DeadlineExceededError("the deadline passed while pieces were arriving"));
    } else {
      return false;
    }
  }
  if (!rest_cancelled_ && (stopped_ || reader_->broken())) {
    rest_cancelled_ = true;
    CancelCalls();
  }
  return true;
}

void FetchOperation::EndBatch(const absl::Status& status) {
  if (!stopped_ && !reader_->done()) {
    stopped_by_cancel_ = stopped_ = cancelled();
    if (!stopped_) reader_->End(status);
    // Another call would fare no better.
    if (!status.ok()) MissRest(batch_end_, status);
  }
  if (!stopped_ && batch_end_ < pieces_.size()) return StartBatch(batch_end_);
  reader_.reset();
  OnFetched(stopped_by_cancel_ ? absl::CancelledError("cancelled by the caller")
                               : absl::OkStatus());
}

void FetchOperation::MissRest(uint32_t first, const absl::Status& status) {
  const PieceMiss miss{.reason = ReasonOfCall(status), .detail = std::string(status.message())};
  for (uint32_t piece = first; piece < pieces_.size() && !stopped_; ++piece) OnMiss(piece, miss);
  stopped_ = true;
}

void FetchOperation::OnUnreachable(absl::Status status) {
  MissRest(0, status);
  OnFetched(absl::OkStatus());
}

void FetchOperation::TakeMiss(uint32_t piece, const PieceMiss& miss) {
  if (stopped_) return;
  if (miss.damaged) ReportDamage(pieces_[piece].key);
  OnMiss(piece, miss);
}

void FetchOperation::ReportDamage(const Key& key) {
  BeginStat(core(), key, true, Deadline::After(kReportTimeout));
}

}  // namespace reprise::client
