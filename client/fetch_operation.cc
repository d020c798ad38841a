#include "client/fetch_operation.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <span>

#include "client/entry_points.h"
#include "client/miss_reason.h"
#include "common/limits.h"
#include "proto/reprise.pb.h"

namespace reprise::client {

class FetchOperation::Observer final : public transport::CallObserver {
 public:
  Observer(std::shared_ptr<FetchOperation> operation, Leg& leg)
      : operation_(std::move(operation)), leg_(leg) {}
  void OnPart(transport::Part part) override {
    operation_->Push({.leg = &leg_, .part = std::move(part), .end = {}});
  }
  void OnDone(absl::Status status) override {
    operation_->Push({.leg = &leg_, .part = {}, .end = std::move(status)});
  }

 private:
  const std::shared_ptr<FetchOperation> operation_;
  Leg& leg_;
};

void FetchOperation::Start() {
  std::vector<uint32_t> all(pieces_.size());
  std::iota(all.begin(), all.end(), 0);
  StartLegs(all);
}

void FetchOperation::StartLegs(const std::vector<uint32_t>& pieces) {
  std::map<std::pair<uint32_t, bool>, std::unique_ptr<Leg>> legs;
  for (const uint32_t piece : pieces) {
    const Replicas& replicas = ReplicasOf(piece);
    const uint32_t node = replicas[attempts_[piece]];
    const bool last = attempts_[piece] + size_t{1} == replicas.size();
    std::unique_ptr<Leg>& leg = legs[{node, last}];
    if (leg == nullptr) leg = std::make_unique<Leg>(node, last);
    leg->pieces.push_back(piece);
  }
  // Once one of the calls is under way, turns may be too: everything that they look at comes first.
  std::vector<std::pair<Leg*, std::string>> requests;
  for (auto& [place, leg] : legs) {
    requests.emplace_back(leg.get(), PrepareBatch(*leg));
    legs_.push_back(std::move(leg));
    ++legs_under_way_;
  }
  for (auto& [leg, request] : requests) Call(*leg, std::move(request));
}

std::string FetchOperation::PrepareBatch(Leg& leg) {
  const size_t first = leg.batch_end;
  leg.batch_end = std::min(leg.pieces.size(), first + kMaxPiecesPerFetch);
  leg.rest_cancelled = false;
  leg.call = NewCall();
  const std::span<const uint32_t> asked =
      std::span(leg.pieces).subspan(first, leg.batch_end - first);
  leg.reader.emplace(pieces_, asked, static_cast<PieceSink&>(*this));
  v1::FetchRequest request;
  request.mutable_pieces()->Reserve(static_cast<int>(asked.size()));
  for (const uint32_t i : asked) {
    v1::PieceSelection& selection = *request.add_pieces();
    selection.set_key(std::string(pieces_[i].key.digest.AsString()));
    if (pieces_[i].content_id) {
      selection.set_content_id(std::string(pieces_[i].content_id->digest.AsString()));
    }
    selection.set_level(pieces_[i].level);
    selection.set_layer_begin(pieces_[i].layer_begin);
    selection.set_layer_end(pieces_[i].layer_end);
  }
  return request.SerializeAsString();
}

void FetchOperation::Call(Leg& leg, std::string request) {
  const size_t receive_parts = core().options.receive_bytes / kMaxPartBytes;
  CallStreaming(leg.call, leg.node, Patience(leg.last), v1::FETCH, std::move(request),
                std::clamp<uint32_t>(static_cast<uint32_t>(receive_parts), 1, kFetchCreditParts),
                std::make_shared<Observer>(
                    std::static_pointer_cast<FetchOperation>(shared_from_this()), leg));
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
      if (event->end) {
        if (EndBatch(*event->leg, *event->end)) return;
        continue;
      }
      BeginPart(*event->leg, std::move(event->part), now);
    }
    if (IsOver(*part_leg_, now) || !part_leg_->reader->Step()) part_.reset();
    now = Clock::Steady().Now();
    // What is over has little left to do, and its end may be in the queue already.
    if (now >= end) return Schedule(IsOver(*part_leg_, now) ? kAtOnce : now);
  }
}

void FetchOperation::BeginPart(Leg& leg, transport::Part part, TimePoint now) {
  part_leg_ = &leg;
  part_ = std::move(part);
  const uint64_t bytes = part_->message.size() + part_->bulk.size();
  bytes_received_ += bytes;
  core().counters.Received(bytes);
  if (!IsOver(leg, now)) leg.reader->Take(part_->message, part_->bulk.bytes());
}

bool FetchOperation::IsOver(Leg& leg, TimePoint now) {
  if (IsDue(leg)) {
    if (cancelled()) {
      cut_by_cancel_ = true;
      WantBefore(0);
    } else if (deadline().PassedAt(now)) {
      leg.reader->End(
          absl::DeadlineExceededError("the deadline passed while pieces were arriving"));
    } else {
      return false;
    }
  }
  if (!leg.rest_cancelled && (!leg.reader->done() || leg.reader->broken())) {
    leg.rest_cancelled = true;
    CancelCall(leg.call);
  }
  return true;
}

void FetchOperation::WantBefore(uint32_t first) {
  wanted_ = std::min(wanted_, first);
  for (const std::unique_ptr<Leg>& leg : legs_) {
    if (leg->reader && !leg->reader->done() && !IsDue(*leg)) CancelCall(leg->call);
  }
}

bool FetchOperation::EndBatch(Leg& leg, const absl::Status& status) {
  if (IsDue(leg)) {
    if (cancelled()) {
      cut_by_cancel_ = true;
      WantBefore(0);
    } else {
      leg.reader->End(status);
    }
  }
  const bool more = leg.batch_end < leg.pieces.size() && leg.pieces[leg.batch_end] < wanted_;
  if (more && status.ok()) {
    Call(leg, PrepareBatch(leg));
    return false;
  }
  if (more) {
    // Another call would fare no better.
    const PieceMiss miss{.reason = ReasonOfCall(status), .detail = std::string(status.message())};
    for (size_t i = leg.batch_end; i < leg.pieces.size(); ++i) TakeMiss(leg.pieces[i], miss);
  }
  leg.reader.reset();
  std::vector<uint32_t> next;
  for (const uint32_t piece : std::exchange(for_replicas_, {})) {
    if (piece < wanted_) next.push_back(piece);
  }
  std::sort(next.begin(), next.end());
  StartLegs(next);
  if (--legs_under_way_ > 0) return false;
  OnFetched(cut_by_cancel_ ? absl::CancelledError("cancelled by the caller") : absl::OkStatus());
  return true;
}

void FetchOperation::TakeMiss(uint32_t piece, const PieceMiss& miss) {
  if (piece >= wanted_) return;
  if (miss.damaged) ReportDamage(pieces_[piece].key);
  if (attempts_[piece] + size_t{1} < ReplicasOf(piece).size() && !cancelled() &&
      !deadline().PassedAt(Clock::Steady().Now())) {
    ++attempts_[piece];
    for_replicas_.push_back(piece);
    return;
  }
  OnMiss(piece, miss);
}

void FetchOperation::ReportDamage(const Key& key) {
  BeginStat(core(), key, true, Deadline::After(kReportTimeout));
}

}  // namespace reprise::client
