// Publish: pieces on their way to the stores.
//
// The stores are asked first what they hold. What one of them lacks is encoded once, piece by piece
// on the client's encoder threads, only a little ahead of what is being sent, and goes to each in
// steps of one part, a bounded number at a time. A piece's memory is given back when its last step
// has been answered. Only encoding turns read the caller's tensors; the result waits for the last.

#include <algorithm>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/strings/str_cat.h"

#include "client/entry_points.h"
#include "client/outgoing_copy.h"
#include "client/outgoing_piece.h"
#include "client/placement.h"
#include "common/limits.h"
#include "proto/reprise.pb.h"

namespace reprise::client {
namespace {

class PublishOperation final : public OperationOf<PublishResult>, public TurnTaker {
 public:
  // The nodes of a piece.
  using Place = absl::FunctionRef<Replicas(const View& view, const OutgoingPiece& piece)>;

  // Without a namespace: `pieces` come encoded.
  PublishOperation(Core& publish_core, Deadline deadline, std::vector<OutgoingPiece> pieces,
                   Place place, std::optional<Namespace> name_space, bool durable,
                   std::chrono::seconds ttl);

 private:
  struct Step {
    uint32_t node = 0;
    CopyAt at;
    v1::PublishRequest request;
    SharedBytes bulk;
  };

  void Start() override;

  // Under way or not: an encoding that waits for its turn gets it at once, and ends the operation.
  void OnCancel() override { Schedule(kAtOnce); }

  void Ask(size_t destination, size_t first);
  void OnLookup(size_t destination, size_t first, size_t end,
                const absl::StatusOr<transport::UnaryReply>& reply);
  absl::Status TakeLookup(Destination& destination, size_t first, size_t end,
                          const absl::StatusOr<transport::UnaryReply>& reply)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(uploads_mutex_);

  // Starts steps until the windows are full or nothing is left; finishes when all is answered.
  void Pump() ABSL_LOCKS_EXCLUDED(uploads_mutex_);
  // Begins to wait for an encoding turn, when there is something to encode and room for it; a
  // failure when there never will be.
  void WantTurn() ABSL_EXCLUSIVE_LOCKS_REQUIRED(uploads_mutex_);
  void Schedule(TimePoint due);
  void Turn() override ABSL_LOCKS_EXCLUDED(uploads_mutex_);
  void TakeEncoded(size_t index, OutgoingPiece piece) ABSL_EXCLUSIVE_LOCKS_REQUIRED(uploads_mutex_);
  bool has_others() const { return std::min<size_t>(node_count(), core().options.replicas) > 1; }
  // The first failure counts; what is under way is to end.
  void Fail(absl::Status failure) ABSL_LOCKS_EXCLUDED(uploads_mutex_);
  void GiveUp(Destination& destination, absl::Status failure)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(uploads_mutex_);
  std::optional<Step> NextStep() ABSL_EXCLUSIVE_LOCKS_REQUIRED(uploads_mutex_);
  std::optional<Step> NextStepTo(Destination& destination)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(uploads_mutex_);
  Step StepOf(Destination& destination, CopyAt at) ABSL_EXCLUSIVE_LOCKS_REQUIRED(uploads_mutex_);
  void Send(Step step);
  void OnStep(CopyAt at, uint64_t bytes, const absl::StatusOr<transport::UnaryReply>& reply)
      ABSL_LOCKS_EXCLUDED(uploads_mutex_);
  // Counts an upload whose copies have all ended, and gives its memory back.
  void Settle(Upload& upload) ABSL_EXCLUSIVE_LOCKS_REQUIRED(uploads_mutex_);

  const std::optional<Namespace> name_space_;
  const bool durable_;
  const uint32_t ttl_s_;
  const std::shared_ptr<SpareMemory> spare_memory_ = std::make_shared<SpareMemory>();
  Mutex uploads_mutex_;
  std::vector<Upload> uploads_ ABSL_GUARDED_BY(uploads_mutex_);
  std::vector<Destination> destinations_ ABSL_GUARDED_BY(uploads_mutex_);
  size_t lookups_under_way_ ABSL_GUARDED_BY(uploads_mutex_) = 0;
  size_t next_encoding_ ABSL_GUARDED_BY(uploads_mutex_) = 0;
  // Set while a turn is waited for or encoding; null when not.
  std::shared_ptr<UnsentBytes> room_ ABSL_GUARDED_BY(uploads_mutex_);
  uint32_t pieces_ahead_ ABSL_GUARDED_BY(uploads_mutex_) = 0;
  uint64_t bytes_ahead_ ABSL_GUARDED_BY(uploads_mutex_) = 0;
  uint32_t steps_under_way_ ABSL_GUARDED_BY(uploads_mutex_) = 0;
  bool pumping_ ABSL_GUARDED_BY(uploads_mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(uploads_mutex_) = false;
  absl::Status failure_ ABSL_GUARDED_BY(uploads_mutex_);
  absl::Status lost_ ABSL_GUARDED_BY(uploads_mutex_);  // why a piece is nowhere
  PublishResult result_ ABSL_GUARDED_BY(uploads_mutex_);
};

PublishOperation::PublishOperation(Core& publish_core, Deadline deadline,
                                   std::vector<OutgoingPiece> pieces, Place place,
                                   std::optional<Namespace> name_space, bool durable,
                                   std::chrono::seconds ttl)
    : OperationOf(publish_core, deadline),
      name_space_(std::move(name_space)),
      durable_(durable),
      ttl_s_(static_cast<uint32_t>(ttl.count())),
      uploads_(pieces.size()) {
  std::map<uint32_t, uint32_t> places;  // of nodes, in destinations_
  for (size_t i = 0; i < pieces.size(); ++i) {
    for (const uint32_t node : place(view(), pieces[i])) {
      const auto [at, is_new] =
          places.try_emplace(node, static_cast<uint32_t>(destinations_.size()));
      if (is_new) destinations_.emplace_back().node = node;
      destinations_[at->second].copies.push_back({i, uploads_[i].copies.size()});
      uploads_[i].copies.emplace_back().destination = at->second;
    }
    uploads_[i].piece = std::move(pieces[i]);
    // To a store without the run before, it would look like a piece that nobody can reach.
    if (node_count() > 1 && uploads_[i].piece.position % kRunChunks == 0)
      uploads_[i].piece.parent.reset();
  }
  lookups_under_way_ = destinations_.size();
}

void PublishOperation::Start() {
  size_t count = 0;
  {
    MutexLock lock(uploads_mutex_);
    count = destinations_.size();
  }
  for (size_t i = 0; i < count; ++i) Ask(i, 0);
}

void PublishOperation::Ask(size_t destination, size_t first) {
  v1::LookupRequest request;
  size_t end = first;
  uint32_t node = 0;
  {
    MutexLock lock(uploads_mutex_);
    const Destination& asked = destinations_[destination];
    node = asked.node;
    end = std::min(asked.copies.size(), first + kMaxKeysPerLookup);
    for (size_t i = first; i < end; ++i) {
      const Key& key = uploads_[asked.copies[i].upload].piece.key;
      request.add_keys(std::string(key.digest.AsString()));
    }
  }
  auto self = std::static_pointer_cast<PublishOperation>(shared_from_this());
  CallUnary(node, Patience(!has_others()), v1::LOOKUP, request.SerializeAsString(), {},
            [self, destination, first, end](const absl::StatusOr<transport::UnaryReply>& reply) {
              self->OnLookup(destination, first, end, reply);
            });
}

void PublishOperation::OnLookup(size_t destination, size_t first, size_t end,
                                const absl::StatusOr<transport::UnaryReply>& reply) {
  bool more = false;
  {
    MutexLock lock(uploads_mutex_);
    Destination& asked = destinations_[destination];
    absl::Status taken = TakeLookup(asked, first, end, reply);
    more = taken.ok() && end < asked.copies.size();
    if (!taken.ok()) GiveUp(asked, std::move(taken));
    if (!more && --lookups_under_way_ > 0) return;
  }
  if (more) {
    Ask(destination, end);
  } else {
    Pump();
  }
}

absl::Status PublishOperation::TakeLookup(Destination& destination, size_t first, size_t end,
                                          const absl::StatusOr<transport::UnaryReply>& reply) {
  REPRISE_RETURN_IF_ERROR(reply.status());
  v1::LookupReply answer;
  if (!answer.ParseFromString(reply->message) ||
      static_cast<size_t>(answer.pieces_size()) != end - first) {
    return absl::InternalError("the store's answer to a lookup makes no sense");
  }
  for (size_t i = first; i < end; ++i) {
    auto state = ReadPieceInfo(answer.pieces(static_cast<int>(i - first)));
    if (!state) continue;
    Upload& upload = uploads_[destination.copies[i].upload];
    upload.copies[destination.copies[i].copy].TakeHeld(*std::move(state), upload.piece, durable_);
    Settle(upload);
  }
  return absl::OkStatus();
}

void PublishOperation::Pump() {
  {
    MutexLock lock(uploads_mutex_);
    if (pumping_) return;  // a step was answered while it was being sent: the loop below goes on
    pumping_ = true;
  }
  for (;;) {
    std::optional<Step> step;
    absl::Status outcome;
    PublishResult result;
    {
      MutexLock lock(uploads_mutex_);
      step = NextStep();
      if (!step) {
        WantTurn();
        pumping_ = false;
        if (steps_under_way_ > 0 || room_ != nullptr || finished_) return;
        finished_ = true;
        outcome = failure_.ok() ? lost_ : failure_;
        result = result_;
      }
    }
    if (!step) {
      if (!outcome.ok()) return Finish(std::move(outcome));
      return Finish(result);
    }
    Send(*std::move(step));
  }
}

std::optional<PublishOperation::Step> PublishOperation::NextStep() {
  if (!failure_.ok()) return std::nullopt;
  for (Destination& destination : destinations_) {
    if (std::optional<Step> step = NextStepTo(destination)) return step;
  }
  return std::nullopt;
}

std::optional<PublishOperation::Step> PublishOperation::NextStepTo(Destination& destination) {
  if (!destination.failure.ok() || destination.steps_under_way >= kMaxSteps) return std::nullopt;
  for (const CopyAt at : destination.open) {
    const Upload& upload = uploads_[at.upload];
    const OutgoingCopy& copy = upload.copies[at.copy];
    if (copy.opened && copy.next_offset < upload.piece.container.size())
      return StepOf(destination, at);
  }
  while (destination.next < destination.copies.size()) {
    const CopyAt at = destination.copies[destination.next];
    const Upload& upload = uploads_[at.upload];
    if (upload.copies[at.copy].outcome == OutgoingCopy::Outcome::kNone) {
      if (!upload.piece.encoded()) break;
      destination.open.push_back(at);
      ++destination.next;
      return StepOf(destination, at);
    }
    ++destination.next;
  }
  return std::nullopt;
}

void PublishOperation::WantTurn() {
  if (!failure_.ok() || room_ != nullptr) return;
  while (next_encoding_ < uploads_.size() &&
         (uploads_[next_encoding_].settled || uploads_[next_encoding_].piece.encoded())) {
    ++next_encoding_;
  }
  if (next_encoding_ == uploads_.size()) return;
  const uint64_t bytes = uploads_[next_encoding_].piece.TensorBytes();
  const bool first = pieces_ahead_ == 0;
  if (!first && (pieces_ahead_ >= kMaxPiecesAhead || bytes_ahead_ + bytes > kMaxBytesAhead)) return;
  room_ = UnsentBytes::Reserve(core(), bytes, spare_memory_);
  if (room_ != nullptr) return Schedule(cancelled() ? kAtOnce : deadline().at());
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
  if (upload.settled) return;
  for (OutgoingCopy& copy : upload.copies) {
    if (copy.outcome == OutgoingCopy::Outcome::kNone) copy.CompareHeld(piece, durable_);
  }
  upload.piece = std::move(piece);
  upload.bytes_ahead = upload.piece.container.size();
  ++pieces_ahead_;
  bytes_ahead_ += upload.bytes_ahead;
  Settle(upload);
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

void PublishOperation::GiveUp(Destination& destination, absl::Status failure) {
  if (!destination.failure.ok()) return;
  if (node_count() > 1) {
    failure = Annotate(failure, absl::StrCat("store ", view().nodes[destination.node].address));
  }
  destination.failure = std::move(failure);
  for (const CopyAt at : destination.copies) {
    OutgoingCopy& copy = uploads_[at.upload].copies[at.copy];
    if (copy.outcome == OutgoingCopy::Outcome::kNone) copy.outcome = OutgoingCopy::Outcome::kFailed;
    Settle(uploads_[at.upload]);
  }
}

PublishOperation::Step PublishOperation::StepOf(Destination& destination, CopyAt at) {
  Upload& upload = uploads_[at.upload];
  Step step{.node = destination.node, .at = at, .request = {}, .bulk = {}};
  step.request = upload.copies[at.copy].NextStep(upload.piece, durable_, ttl_s_, step.bulk);
  ++destination.steps_under_way;
  ++steps_under_way_;
  return step;
}

void PublishOperation::Send(Step step) {
  auto self = std::static_pointer_cast<PublishOperation>(shared_from_this());
  const uint64_t bytes = step.bulk.size();
  CallUnary(step.node, Patience(!has_others()), v1::PUBLISH, step.request.SerializeAsString(),
            std::move(step.bulk),
            [self, at = step.at, bytes](const absl::StatusOr<transport::UnaryReply>& reply) {
              self->OnStep(at, bytes, reply);
            });
}

void PublishOperation::OnStep(CopyAt at, uint64_t bytes,
                              const absl::StatusOr<transport::UnaryReply>& reply) {
  absl::Status none_left;
  {
    MutexLock lock(uploads_mutex_);
    Upload& upload = uploads_[at.upload];
    OutgoingCopy& copy = upload.copies[at.copy];
    Destination& destination = destinations_[copy.destination];
    --steps_under_way_;
    --destination.steps_under_way;
    --copy.steps_under_way;
    if (reply.ok()) {
      result_.bytes_sent += bytes;
      core().counters.Sent(bytes);
    }
    // Once the store has answered for the whole piece, its other steps no longer matter.
    if (copy.outcome == OutgoingCopy::Outcome::kNone) {
      absl::Status taken =
          reply.ok() ? copy.TakeReply(upload.piece, reply->message)
                     : Annotate(reply.status(),
                                absl::StrCat("publish of piece ", upload.piece.key.digest.Hex()));
      if (!taken.ok()) GiveUp(destination, std::move(taken));
      const auto failed = [](const Destination& other) { return !other.failure.ok(); };
      if (std::all_of(destinations_.begin(), destinations_.end(), failed))
        none_left = destination.failure;
    }
    if (copy.outcome != OutgoingCopy::Outcome::kNone && copy.steps_under_way == 0)
      std::erase(destination.open, at);
    Settle(upload);
  }
  if (!none_left.ok()) Fail(std::move(none_left));
  Pump();
}

void PublishOperation::Settle(Upload& upload) {
  if (upload.settled) return;
  uint32_t replicas = 0;
  bool stored = false;
  for (const OutgoingCopy& copy : upload.copies) {
    if (copy.outcome == OutgoingCopy::Outcome::kNone || copy.steps_under_way > 0) return;
    if (copy.is_held()) ++replicas;
    stored = stored || copy.outcome == OutgoingCopy::Outcome::kStored;
  }
  upload.settled = true;
  upload.piece.container = {};
  if (const auto room = std::move(upload.piece.room); room != nullptr) {
    room->Release();
    bytes_ahead_ -= upload.bytes_ahead;
    --pieces_ahead_;
  }
  if (replicas == 0) {
    if (lost_.ok()) lost_ = destinations_[upload.copies.back().destination].failure;
    return;
  }
  ++(stored ? result_.pieces_stored : result_.pieces_already_held);
  const bool first = result_.pieces_stored + result_.pieces_already_held == 1;
  result_.replicas = first ? replicas : std::min(result_.replicas, replicas);
}

}  // namespace

Async<PublishResult> BeginPublish(Core& core, const PrefixKeys& keys, uint32_t chunk_count,
                                  std::vector<GroupViews> views, PublishOptions options,
                                  Deadline deadline) {
  auto pieces = PlanChunks(keys, chunk_count, views, options);
  if (!pieces.ok()) return Refused<PublishResult>(pieces.status());
  std::optional<Placement> placement;
  const auto place = [&](const View& view, const OutgoingPiece& piece) {
    if (!placement) placement.emplace(view, core.options.replicas, keys);
    return placement->OfChunk(static_cast<uint32_t>(piece.position));
  };
  return PublishOperation::Run(std::make_shared<PublishOperation>(
      core, deadline, *std::move(pieces), place, keys.name_space(), options.durable, options.ttl));
}

Async<PublishResult> BeginPublishPiece(Core& core, SharedBytes container, PieceOptions options,
                                       Deadline deadline) {
  if (absl::Status ttl = CheckTtl(options.ttl); !ttl.ok()) return Refused<PublishResult>(ttl);
  auto piece = WrapContainer(std::move(container), options.position);
  if (!piece.ok()) return Refused<PublishResult>(piece.status());
  std::vector<OutgoingPiece> pieces(1, *std::move(piece));
  const auto place = [&core](const View& view, const OutgoingPiece& lone) {
    return PlaceUnit(view, lone.key.digest, core.options.replicas);
  };
  return PublishOperation::Run(std::make_shared<PublishOperation>(
      core, deadline, std::move(pieces), place, std::nullopt, options.durable, options.ttl));
}

}  // namespace reprise::client
