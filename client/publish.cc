// Publish: encoded pieces on their way to the store.
//
// Tensors are encoded before Publish returns, so the caller may reuse them at once; what the store
// holds already is then left out, and the rest goes in steps of one part, a bounded number at a
// time. A piece's memory is given back when its last step has been answered.

#include <algorithm>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"

#include "client/entry_points.h"
#include "client/outgoing_piece.h"
#include "client/views.h"
#include "common/limits.h"
#include "proto/reprise.pb.h"

namespace reprise::client {
namespace {

// Steps under way at once, over all pieces of one publish.
constexpr uint32_t kMaxSteps = 4;

class PublishOperation final : public OperationOf<PublishResult> {
 public:
  PublishOperation(Core& publish_core, Deadline deadline, std::vector<OutgoingPiece> pieces)
      : OperationOf(publish_core, deadline), uploads_(pieces.size()) {
    for (size_t i = 0; i < pieces.size(); ++i) uploads_[i].piece = std::move(pieces[i]);
  }

 private:
  enum class Outcome : uint8_t { kNone, kStored, kAlreadyHeld };
  struct Upload {
    OutgoingPiece piece;
    bool held_begins_it = false;  // the store had fewer planes of the same content when asked
    bool opened = false;          // the first step has been answered
    uint64_t upload_id = 0;
    uint64_t next_offset = 0;
    uint32_t steps_under_way = 0;
    Outcome outcome = Outcome::kNone;
  };
  struct Step {
    size_t upload = 0;
    v1::PublishRequest request;
    SharedBytes bulk;
  };

  void OnChannel() override { Ask(0); }

  void Ask(size_t first);
  void OnLookup(size_t first, size_t end, absl::StatusOr<transport::UnaryReply> reply);

  // Starts steps until the window is full or nothing is left; finishes when all is answered.
  void Pump() ABSL_LOCKS_EXCLUDED(uploads_mutex_);
  std::optional<Step> NextStep() ABSL_EXCLUSIVE_LOCKS_REQUIRED(uploads_mutex_);
  Step StepOf(size_t index) ABSL_EXCLUSIVE_LOCKS_REQUIRED(uploads_mutex_);
  void Send(Step step);
  void OnStep(size_t index, uint64_t bytes, absl::StatusOr<transport::UnaryReply> reply)
      ABSL_LOCKS_EXCLUDED(uploads_mutex_);
  absl::Status TakeReply(Upload& upload, const absl::StatusOr<transport::UnaryReply>& reply)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(uploads_mutex_);

  Mutex uploads_mutex_;
  std::vector<Upload> uploads_ ABSL_GUARDED_BY(uploads_mutex_);
  std::vector<size_t> open_
      ABSL_GUARDED_BY(uploads_mutex_);  // uploads begun and not over, oldest first
  size_t next_upload_ ABSL_GUARDED_BY(uploads_mutex_) = 0;
  uint32_t steps_under_way_ ABSL_GUARDED_BY(uploads_mutex_) = 0;
  bool pumping_ ABSL_GUARDED_BY(uploads_mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(uploads_mutex_) = false;
  absl::Status failure_ ABSL_GUARDED_BY(uploads_mutex_);
  PublishResult result_ ABSL_GUARDED_BY(uploads_mutex_);
};

void PublishOperation::Ask(size_t first) {
  v1::LookupRequest request;
  size_t end = first;
  {
    MutexLock lock(uploads_mutex_);
    end = std::min(uploads_.size(), first + kMaxKeysPerLookup);
    for (size_t i = first; i < end; ++i)
      request.add_keys(std::string(uploads_[i].piece.key.digest.AsString()));
  }
  auto self = std::static_pointer_cast<PublishOperation>(shared_from_this());
  CallUnary(v1::LOOKUP, request.SerializeAsString(), {},
            [self, first, end](absl::StatusOr<transport::UnaryReply> reply) {
              self->OnLookup(first, end, std::move(reply));
            });
}

void PublishOperation::OnLookup(size_t first, size_t end,
                                absl::StatusOr<transport::UnaryReply> reply) {
  if (!reply.ok()) return Finish(reply.status());
  v1::LookupReply answer;
  if (!answer.ParseFromString(reply->message) ||
      static_cast<size_t>(answer.pieces_size()) != end - first) {
    return Finish(absl::InternalError("the store's answer to a lookup makes no sense"));
  }
  bool more = false;
  {
    MutexLock lock(uploads_mutex_);
    for (size_t i = first; i < end; ++i) {
      const auto state = ReadPieceInfo(answer.pieces(static_cast<int>(i - first)));
      Upload& upload = uploads_[i];
      upload.held_begins_it = state && upload.piece.IsBegunBy(*state);
      if (!state || !upload.piece.IsReachedBy(*state)) continue;
      upload.outcome = Outcome::kAlreadyHeld;
      upload.piece.container = {};
      ++result_.pieces_already_held;
    }
    more = end < uploads_.size();
  }
  if (more) {
    Ask(end);
  } else {
    Pump();
  }
}

void PublishOperation::Pump() {
  {
    MutexLock lock(uploads_mutex_);
    if (pumping_) return;  // a step was answered while it was being sent: the loop below goes on
    pumping_ = true;
  }
  for (;;) {
    std::optional<Step> step;
    absl::Status failure;
    PublishResult result;
    {
      MutexLock lock(uploads_mutex_);
      step = NextStep();
      if (!step) {
        pumping_ = false;
        if (steps_under_way_ > 0 || finished_) return;
        finished_ = true;
        failure = failure_;
        result = result_;
      }
    }
    if (!step) {
      if (!failure.ok()) return Finish(std::move(failure));
      return Finish(result);
    }
    Send(*std::move(step));
  }
}

std::optional<PublishOperation::Step> PublishOperation::NextStep() {
  if (!failure_.ok() || steps_under_way_ >= kMaxSteps) return std::nullopt;
  for (const size_t index : open_) {
    const Upload& upload = uploads_[index];
    if (upload.opened && upload.next_offset < upload.piece.container.size()) return StepOf(index);
  }
  while (next_upload_ < uploads_.size()) {
    const size_t index = next_upload_++;
    if (uploads_[index].outcome != Outcome::kNone) continue;
    open_.push_back(index);
    return StepOf(index);
  }
  return std::nullopt;
}

PublishOperation::Step PublishOperation::StepOf(size_t index) {
  Upload& upload = uploads_[index];
  const OutgoingPiece& piece = upload.piece;
  // Where the store goes on from what it has is in its first answer; nothing is sent in vain.
  const bool only_asks = !upload.opened && upload.held_begins_it;
  const size_t size =
      only_asks ? 0 : std::min<size_t>(kMaxPartBytes, piece.container.size() - upload.next_offset);
  Step step{
      .upload = index, .request = {}, .bulk = piece.container.Slice(upload.next_offset, size)};
  step.request.set_key(std::string(piece.key.digest.AsString()));
  step.request.set_total_bytes(piece.container.size());
  step.request.set_offset(upload.next_offset);
  step.request.set_upload_id(upload.upload_id);
  if (!upload.opened) {
    step.request.set_content_id(std::string(piece.quality.content_id.digest.AsString()));
    step.request.set_planes(piece.quality.planes);
    step.request.set_key_distortion(piece.quality.distortion.key);
    step.request.set_value_distortion(piece.quality.distortion.value);
    if (piece.parent) step.request.set_parent(std::string(piece.parent->digest.AsString()));
    step.request.set_position(piece.position);
    step.request.set_recompute_seconds(piece.recompute_seconds);
  }
  upload.next_offset += size;
  ++upload.steps_under_way;
  ++steps_under_way_;
  return step;
}

void PublishOperation::Send(Step step) {
  auto self = std::static_pointer_cast<PublishOperation>(shared_from_this());
  const uint64_t bytes = step.bulk.size();
  CallUnary(v1::PUBLISH, step.request.SerializeAsString(), std::move(step.bulk),
            [self, index = step.upload, bytes](absl::StatusOr<transport::UnaryReply> reply) {
              self->OnStep(index, bytes, std::move(reply));
            });
}

void PublishOperation::OnStep(size_t index, uint64_t bytes,
                              absl::StatusOr<transport::UnaryReply> reply) {
  bool cancel_rest = false;
  SharedBytes done_with;
  {
    MutexLock lock(uploads_mutex_);
    Upload& upload = uploads_[index];
    --steps_under_way_;
    --upload.steps_under_way;
    if (reply.ok()) {
      result_.bytes_sent += bytes;
      core().counters.Sent(bytes);
    }
    absl::Status taken = TakeReply(upload, reply);
    if (!taken.ok() && failure_.ok()) {
      failure_ = std::move(taken);
      cancel_rest = true;
    }
    if (upload.outcome != Outcome::kNone && upload.steps_under_way == 0) {
      open_.erase(std::find(open_.begin(), open_.end(), index));
      done_with = std::move(upload.piece.container);
      ++(upload.outcome == Outcome::kStored ? result_.pieces_stored : result_.pieces_already_held);
    }
  }
  if (cancel_rest) CancelCalls();
  Pump();
}

absl::Status PublishOperation::TakeReply(Upload& upload,
                                         const absl::StatusOr<transport::UnaryReply>& reply) {
  // Once the store has answered for the whole piece, its other steps no longer matter.
  if (upload.outcome != Outcome::kNone) return absl::OkStatus();
  if (!reply.ok()) {
    return Annotate(reply.status(),
                    absl::StrCat("publish of piece ", upload.piece.key.digest.Hex()));
  }
  v1::PublishReply answer;
  if (!answer.ParseFromString(reply->message)) {
    return absl::InternalError("the store's answer to a publish cannot be parsed");
  }
  switch (answer.outcome()) {
    case v1::PublishReply::STORED:
      upload.outcome = Outcome::kStored;
      return absl::OkStatus();
    case v1::PublishReply::ALREADY_HELD:
      upload.outcome = Outcome::kAlreadyHeld;
      upload.next_offset = upload.piece.container.size();
      return absl::OkStatus();
    default:
      break;
  }
  const uint64_t piece_bytes = upload.piece.container.size();
  if (!upload.opened) {
    upload.opened = true;
    upload.upload_id = answer.upload_id();
    if (answer.from_offset() >= piece_bytes) {
      return absl::InternalError(absl::StrCat("the store wants bytes from ", answer.from_offset(),
                                              " on of a piece of ", piece_bytes));
    }
    // The store has what lies before, and has dropped bulk that began there.
    if (answer.from_offset() > 0) upload.next_offset = answer.from_offset();
  }
  if (upload.next_offset == piece_bytes && upload.steps_under_way == 0) {
    return absl::InternalError(absl::StrCat("the store took all ", piece_bytes, " bytes of piece ",
                                            upload.piece.key.digest.Hex(),
                                            " but did not say that it stored them"));
  }
  return absl::OkStatus();
}

}  // namespace

Async<PublishResult> BeginPublish(Core& core, const PrefixKeys& keys, uint32_t chunk_count,
                                  std::span<const GroupViews> views, PublishOptions options,
                                  Deadline deadline) {
  auto pieces = EncodeChunks(core, keys, chunk_count, views, options);
  if (!pieces.ok()) return Refused<PublishResult>(pieces.status());
  return PublishOperation::Run(
      std::make_shared<PublishOperation>(core, deadline, *std::move(pieces)));
}

Async<PublishResult> BeginPublishPiece(Core& core, SharedBytes container, uint64_t position,
                                       Deadline deadline) {
  auto piece = WrapContainer(std::move(container), position);
  if (!piece.ok()) return Refused<PublishResult>(piece.status());
  std::vector<OutgoingPiece> pieces;
  pieces.push_back(*std::move(piece));
  return PublishOperation::Run(
      std::make_shared<PublishOperation>(core, deadline, std::move(pieces)));
}

}  // namespace reprise::client
