// Publish: pieces on their way to the store.
//
// The store is asked first what it holds. What it does not is then encoded, piece by piece on the
// client's encoder threads and only a little ahead of what is being sent, and goes in steps of one
// part, a bounded number at a time. A piece's memory is given back when its last step has been
// answered. Only encoding turns read the caller's tensors, and the result waits for the last.

#include <algorithm>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"

#include "client/entry_points.h"
#include "client/outgoing_piece.h"
#include "common/limits.h"
#include "proto/reprise.pb.h"

namespace reprise::client {
namespace {

// Steps under way at once, over all pieces of one publish.
constexpr uint32_t kMaxSteps = 4;
// Encoded and not stored yet, in one publish, before it encodes another piece: either limit stops
// it, but one piece it may always have.
constexpr uint32_t kMaxPiecesAhead = 2 * kMaxSteps;
constexpr uint64_t kMaxBytesAhead = kMaxSteps * kMaxPartBytes;

class PublishOperation final : public OperationOf<PublishResult>, public TurnTaker {
 public:
  // Without a namespace: `pieces` come encoded.
  PublishOperation(Core& publish_core, Deadline deadline, std::vector<OutgoingPiece> pieces,
                   std::optional<Namespace> name_space, bool durable)
      : OperationOf(publish_core, deadline),
        name_space_(std::move(name_space)),
        durable_(durable),
        uploads_(pieces.size()) {
    for (size_t i = 0; i < pieces.size(); ++i) uploads_[i].piece = std::move(pieces[i]);
  }

 private:
  enum class Outcome : uint8_t { kNone, kStored, kAlreadyHeld };
  struct Upload {
    OutgoingPiece piece;
    std::optional<PieceState> held;  // under its key, and not enough
    uint64_t bytes_ahead = 0;        // of it, while it counts as encoded ahead
    bool opened = false;             // the first step has been answered
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

  // Under way or not: an encoding that waits for its turn gets it at once, and ends the operation.
  void OnCancel() override { Schedule(kAtOnce); }

  void Ask(size_t first);
  void OnLookup(size_t first, size_t end, absl::StatusOr<transport::UnaryReply> reply);

  // Starts steps until the window is full or nothing is left; finishes when all is answered.
  void Pump() ABSL_LOCKS_EXCLUDED(uploads_mutex_);
  // Begins to wait for an encoding turn, when there is something to encode and room for it; a
  // failure when there never will be.
  void WantTurn() ABSL_EXCLUSIVE_LOCKS_REQUIRED(uploads_mutex_);
  void Schedule(TimePoint due);
  void Turn() override ABSL_LOCKS_EXCLUDED(uploads_mutex_);
  void TakeEncoded(size_t index, OutgoingPiece piece) ABSL_EXCLUSIVE_LOCKS_REQUIRED(uploads_mutex_);
  // The first failure counts; what is under way is to end.
  void Fail(absl::Status failure) ABSL_LOCKS_EXCLUDED(uploads_mutex_);
  std::optional<Step> NextStep() ABSL_EXCLUSIVE_LOCKS_REQUIRED(uploads_mutex_);
  Step StepOf(size_t index) ABSL_EXCLUSIVE_LOCKS_REQUIRED(uploads_mutex_);
  void Send(Step step);
  void OnStep(size_t index, uint64_t bytes, absl::StatusOr<transport::UnaryReply> reply)
      ABSL_LOCKS_EXCLUDED(uploads_mutex_);
  absl::Status TakeReply(Upload& upload, const absl::StatusOr<transport::UnaryReply>& reply)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(uploads_mutex_);

  const std::optional<Namespace> name_space_;
  // What is held counts only once the store has answered for it: a first step asks for that.
  const bool durable_;
  const std::shared_ptr<SpareMemory> spare_memory_ = std::make_shared<SpareMemory>();

  Mutex uploads_mutex_;
  std::vector<Upload> uploads_ ABSL_GUARDED_BY(uploads_mutex_);
  std::vector<size_t> open_
      ABSL_GUARDED_BY(uploads_mutex_);  // uploads begun and not over, oldest first
  size_t next_upload_ ABSL_GUARDED_BY(uploads_mutex_) = 0;
  size_t next_encoding_ ABSL_GUARDED_BY(uploads_mutex_) = 0;
  // Set while a turn is waited for or encoding; null when not.
  std::shared_ptr<UnsentBytes> room_ ABSL_GUARDED_BY(uploads_mutex_);
  uint32_t pieces_ahead_ ABSL_GUARDED_BY(uploads_mutex_) = 0;
  uint64_t bytes_ahead_ ABSL_GUARDED_BY(uploads_mutex_) = 0;
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
      auto state = ReadPieceInfo(answer.pieces(static_cast<int>(i - first)));
      Upload& upload = uploads_[i];
      if (!state) continue;
      // What is not encoded yet can be compared once it is.
      if (durable_) {
        upload.held = std::move(state);
      } else if (upload.piece.encoded() ? upload.piece.IsReachedBy(*state) : IsExact(*state)) {
        upload.outcome = Outcome::kAlreadyHeld;
        upload.piece.container = {};
        ++result_.pieces_already_held;
      } else {
        upload.held = std::move(state);
      }
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
        WantTurn();
        pumping_ = false;
        if (steps_under_way_ > 0 || room_ != nullptr || finished_) return;
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
    const size_t index = next_upload_;
    if (uploads_[index].outcome == Outcome::kNone) {
      if (!uploads_[index].piece.encoded()) break;
      open_.push_back(index);
      ++next_upload_;
      return StepOf(index);
    }
    ++next_upload_;
  }
  return std::nullopt;
}

void PublishOperation::WantTurn() {
  if (!failure_.ok() || room_ != nullptr) return;
  while (next_encoding_ < uploads_.size() && (uploads_[next_encoding_].outcome != Outcome::kNone ||
                                              uploads_[next_encoding_].piece.encoded())) {
    ++next_encoding_;
  }
  if (next_encoding_ == uploads_.size()) return;
  const uint64_t bytes = uploads_[next_encoding_].piece.TensorBytes();
  const bool first = pieces_ahead_ == 0;
  if (!first && (pieces_ahead_ >= kMaxPiecesAhead || bytes_ahead_ + bytes > kMaxBytesAhead)) return;
  room_ = UnsentBytes::Reserve(core(), bytes, spare_memory_);
  if (room_ != nullptr) return Schedule(deadline().at());
  // Its own pieces will make room, those of others perhaps not in time.
  if (first) {
    failure_ = absl::ResourceExhaustedError(absl::StrCat(
        "a piece of ", bytes, " bytes does not fit beside what waits to be sent in the ",
        core().options.send_bytes, " of send_bytes; publish less at once, or later"));
  }
}

void PublishOperation::Schedule(TimePoint due) {
  core().encoder.Schedule(std::static_pointer_cast<PublishOperation>(shared_from_this()), due);
}

void PublishOperation::Turn() {
  size_t index = 0;
  OutgoingPiece piece;
  std::shared_ptr<UnsentBytes> room;
  absl::Status encoded;
  {
    MutexLock lock(uploads_mutex_);
    if (room_ == nullptr) return;  // only a cancellation that came too late to matter
    encoded = failure_;
    index = next_encoding_;
    piece = uploads_[index].piece;
    room = room_;
  }
  if (cancelled()) {
    encoded = absl::CancelledError("the publish was cancelled");
  } else if (deadline().PassedAt(Clock::Steady().Now())) {
    encoded = absl::DeadlineExceededError("the deadline passed before everything was encoded");
  }
  if (encoded.ok()) encoded = Encode(*name_space_, std::move(room), piece);
  if (!encoded.ok()) Fail(std::move(encoded));
  {
    MutexLock lock(uploads_mutex_);
    room_ = nullptr;
    if (piece.encoded()) TakeEncoded(index, std::move(piece));
  }
  Pump();
}

void PublishOperation::TakeEncoded(size_t index, OutgoingPiece piece) {
  Upload& upload = uploads_[index];
  ++next_encoding_;
  if (!durable_ && upload.held && piece.IsReachedBy(*upload.held)) {
    upload.outcome = Outcome::kAlreadyHeld;
    ++result_.pieces_already_held;
    return;
  }
  upload.piece = std::move(piece);
  upload.bytes_ahead = upload.piece.container.size();
  ++pieces_ahead_;
  bytes_ahead_ += upload.bytes_ahead;
}

void PublishOperation::Fail(absl::Status failure) {
  {
    MutexLock lock(uploads_mutex_);
    if (!failure_.ok()) return;
    failure_ = std::move(failure);
    // Nothing is encoded any more.
    if (room_ != nullptr) Schedule(kAtOnce);
  }
  CancelCalls();
}

PublishOperation::Step PublishOperation::StepOf(size_t index) {
  Upload& upload = uploads_[index];
  const OutgoingPiece& piece = upload.piece;
  // Where the store goes on from what it has is in its first answer; nothing is sent in vain.
  const bool only_asks = !upload.opened && upload.held &&
                         (piece.IsBegunBy(*upload.held) || piece.IsReachedBy(*upload.held));
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
    step.request.set_durable(durable_);
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
  absl::Status taken;
  SharedBytes done_with;
  std::shared_ptr<UnsentBytes> room;  // it has the container's memory
  {
    MutexLock lock(uploads_mutex_);
    Upload& upload = uploads_[index];
    --steps_under_way_;
    --upload.steps_under_way;
    if (reply.ok()) {
      result_.bytes_sent += bytes;
      core().counters.Sent(bytes);
    }
    taken = TakeReply(upload, reply);
    if (upload.outcome != Outcome::kNone && upload.steps_under_way == 0) {
      open_.erase(std::find(open_.begin(), open_.end(), index));
      done_with = std::move(upload.piece.container);
      room = std::move(upload.piece.room);
      if (room != nullptr) {
        room->Release();
        bytes_ahead_ -= upload.bytes_ahead;
        --pieces_ahead_;
      }
      ++(upload.outcome == Outcome::kStored ? result_.pieces_stored : result_.pieces_already_held);
    }
  }
  if (!taken.ok()) Fail(std::move(taken));
  done_with = {};
  room.reset();
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
                                  std::vector<GroupViews> views, PublishOptions options,
                                  Deadline deadline) {
  auto pieces = PlanChunks(keys, chunk_count, views, options);
  if (!pieces.ok()) return Refused<PublishResult>(pieces.status());
  return PublishOperation::Run(std::make_shared<PublishOperation>(
      core, deadline, *std::move(pieces), keys.name_space(), options.durable));
}

Async<PublishResult> BeginPublishPiece(Core& core, SharedBytes container, PieceOptions options,
                                       Deadline deadline) {
  auto piece = WrapContainer(std::move(container), options.position);
  if (!piece.ok()) return Refused<PublishResult>(piece.status());
  std::vector<OutgoingPiece> pieces;
  pieces.push_back(*std::move(piece));
  return PublishOperation::Run(std::make_shared<PublishOperation>(core, deadline, std::move(pieces),
                                                                  std::nullopt, options.durable));
}

}  // namespace reprise::client
