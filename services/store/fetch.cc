#include <algorithm>
#include <atomic>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

#include "common/limits.h"
#include "proto/reprise.pb.h"
#include "services/store/fetch_plan.h"
#include "services/store/handlers.h"
#include "services/store/open_ahead.h"

namespace reprise::store {
namespace {

struct Selection {
  Key key;
  std::optional<ContentId> content_id;
  uint32_t layer_begin = 0;
  uint32_t layer_end = 0;
  uint32_t level = 0;
  uint32_t first_plane = 0;
  bool omit_meta = false;
};

absl::StatusOr<std::vector<Selection>> ParseSelections(const v1::FetchRequest& request) {
  if (request.pieces_size() == 0 ||
      static_cast<size_t>(request.pieces_size()) > kMaxPiecesPerFetch) {
    return absl::InvalidArgumentError(absl::StrCat(
        "Fetch of ", request.pieces_size(), " pieces; 1 to ", kMaxPiecesPerFetch, " are allowed"));
  }
  std::vector<Selection> selections;
  selections.reserve(static_cast<size_t>(request.pieces_size()));
  for (const v1::PieceSelection& piece : request.pieces()) {
    Selection selection;
    REPRISE_ASSIGN_OR_RETURN(selection.key.digest, ParseDigest(piece.key(), "a key"));
    if (!piece.content_id().empty()) {
      REPRISE_ASSIGN_OR_RETURN(const Digest content,
                               ParseDigest(piece.content_id(), "a content id"));
      selection.content_id = ContentId{content};
    }
    selection.layer_begin = piece.layer_begin();
    selection.layer_end = piece.layer_end();
    selection.level = piece.level();
    selection.first_plane = piece.first_plane();
    selection.omit_meta = piece.omit_meta();
    if (selection.first_plane > selection.level) {
      return absl::InvalidArgumentError(
          absl::StrCat("piece ", selections.size(), ": planes from ", selection.first_plane,
                       " on are asked for, and none above ", selection.level));
    }
    selections.push_back(selection);
  }
  return selections;
}

std::vector<OpenAhead::Wanted> WantedOf(const std::vector<Selection>& selections) {
  std::vector<OpenAhead::Wanted> wanted;
  wanted.reserve(selections.size());
  for (const Selection& selection : selections) wanted.push_back({selection.key, selection.level});
  return wanted;
}

// Sends the parts of one Fetch, piece after piece, never more than credit allows. Between parts it
// waits without a thread, and so it does for pieces that come from a disk: the carrier's call back
// goes on with what only hands bytes over, and the executor with the rest.
class FetchRun : public std::enable_shared_from_this<FetchRun> {
 public:
  FetchRun(StoreContext& context, CallPtr call, std::vector<Selection> selections)
      : context_(context),
        call_(std::move(call)),
        selections_(std::move(selections)),
        pieces_(std::make_shared<OpenAhead>(context.pieces, call_->tenant(), WantedOf(selections_),
                                            context.memory_bytes)),
        window_(call_->session().send_window()) {}

  enum class Thread { kExecutor, kCarrier };

  // Goes on until the end, or until the call must wait for credit, the executor or a disk.
  void Advance(Thread thread) {
    while (true) {
      absl::Status wanted = call_->StillWanted();
      if (!wanted.ok()) return End(std::move(wanted));
      if (piece_ == nullptr && next_piece_ == selections_.size()) return End(absl::OkStatus());
      // Each gathering is a turn of its own, so that sessions share the copying.
      if (thread == Thread::kCarrier ? NextIsWork() : NextGatherBytes() > turn_bytes_) {
        return ContinueOnExecutor();
      }
      if (piece_ == nullptr) {
        storage::PieceRef piece;
        if (!pieces_->Take(next_piece_, piece,
                           [self = shared_from_this()] { self->ContinueOnExecutor(); })) {
          return;  // this object may be in use elsewhere now
        }
        absl::Status begun = BeginPiece(std::move(piece));
        if (!begun.ok()) return End(std::move(begun));
        continue;
      }
      if (!writable_ && !WaitUntilWritable()) return;  // this object may be in use elsewhere now
      if (opening_sent_ && room_bytes_ == 0 && !TakeRoom()) return;  // as above
      SendNext();
    }
  }

 private:
  // Taking a piece searches and plans; gathering copies.
  bool NextIsWork() const { return piece_ == nullptr || !opening_sent_ || NextGatherBytes() > 0; }

  uint64_t NextGatherBytes() const {
    if (piece_ == nullptr || !opening_sent_ || parts_[next_part_].runs.size() == 1) return 0;
    return parts_[next_part_].bytes;
  }

  void End(absl::Status status) {
    context_.metrics.CountFetch(hits_, misses_);
    piece_ = nullptr;
    if (room_bytes_ > 0) window_->GiveBack(share_, std::exchange(room_bytes_, 0));
    if (status.ok()) {
      call_->Finish();
    } else {
      call_->Fail(std::move(status));
    }
  }

  void ContinueOnExecutor() {
    const uint64_t gather_bytes = NextGatherBytes();
    if (context_.executor.TryRun(WorkClass::kFetch, call_->session_name(),
                                 kSmallWorkBytes + gather_bytes,
                                 [self = shared_from_this(), gather_bytes] {
                                   self->turn_bytes_ = gather_bytes;
                                   self->Advance(Thread::kExecutor);
                                 })) {
      return;
    }
    context_.metrics.CountRefused();
    End(absl::ResourceExhaustedError("the store has too many requests waiting; try again"));
  }

  absl::Status BeginPiece(storage::PieceRef piece) {
    const Selection& selection = selections_[next_piece_];
    if (piece == nullptr) return SendMiss(v1::ABSENT);
    const PieceMeta& meta = piece->meta();
    if (selection.content_id.has_value() && *selection.content_id != meta.header().content_id) {
      return SendMiss(v1::OTHER_CONTENT);
    }
    const bool all_layers = selection.layer_begin == 0 && selection.layer_end == 0;
    level_ = std::min(selection.level, piece->level());
    absl::StatusOr<std::vector<SegmentRun>> runs =
        meta.Resolve(selection.layer_begin, all_layers ? meta.layer_count() : selection.layer_end,
                     level_, selection.first_plane);
    if (!runs.ok()) return Annotate(runs.status(), absl::StrCat("piece ", next_piece_));
    parts_ = PlanParts(meta, *runs);
    next_part_ = 0;
    opening_sent_ = false;
    piece_ = std::move(piece);
    ++hits_;
    return absl::OkStatus();
  }

  absl::Status SendMiss(v1::MissReason reason) {
    v1::FetchPart message;
    message.set_piece(static_cast<uint32_t>(next_piece_++));
    message.set_miss(reason);
    call_->Send({message.SerializeAsString(), {}});
    ++misses_;
    return absl::OkStatus();
  }

  void SendNext() {
    if (!opening_sent_) {
      SendOpening();
    } else {
      SendPart();
      writable_ = false;
    }
    if (next_part_ == parts_.size()) {
      // An opening that nothing follows waits for the reader too.
      writable_ = false;
      piece_ = nullptr;
      ++next_piece_;
    }
  }

  void SendOpening() {
    opening_.set_piece(static_cast<uint32_t>(next_piece_));
    v1::PieceOpening& opening = *opening_.mutable_opening();
    const ByteSpan meta = piece_->meta_bytes();
    const bool omit_meta = selections_[next_piece_].omit_meta;
    opening.set_meta(meta.data(), omit_meta ? 0 : meta.size());
    opening.set_level(level_);
    opening.mutable_content_id()->assign(piece_->meta().header().content_id.digest.AsString());
    call_->Send({opening_.SerializeAsString(), {}});
    opening_sent_ = true;
  }

  void SendPart() {
    std::shared_ptr<GatherPool::Buffer> buffer;
    if (NextGatherBytes() > 0) {
      buffer = context_.gather->TryTake(call_->session_name(), NextGatherBytes());
      if (buffer == nullptr) context_.metrics.CountGatherFallback();
      SplitPart(buffer != nullptr ? buffer->bytes().size() : 0);
      turn_bytes_ = 0;
    }
    const PlannedPart& part = parts_[next_part_++];
    SharedBytes bulk;
    if (part.runs.size() > 1) {
      bulk = SharedBytes(Gather(part, buffer->bytes()), buffer);
    } else {
      const ByteRange range = piece_->meta().RangeOf(part.runs[0]);
      bulk = SharedBytes(piece_->body().subspan(range.offset, range.length), piece_);
    }
    segments_.set_piece(static_cast<uint32_t>(next_piece_));
    segments_.mutable_segments()->clear_runs();
    for (const SegmentRun& run : part.runs) {
      v1::PieceSegments::Run& entry = *segments_.mutable_segments()->add_runs();
      entry.set_first(run.first);
      entry.set_count(run.count);
    }
    const uint64_t room = std::exchange(room_bytes_, 0);
    call_->Send({segments_.SerializeAsString(), window_->Lend(share_, room, std::move(bulk))});
  }

  // Makes of the next part several, each of one run or of as many as `room` holds.
  void SplitPart(uint64_t room) {
    if (parts_[next_part_].bytes <= room) return;
    const PlannedPart whole = std::move(parts_[next_part_]);
    std::vector<PlannedPart> split;
    for (const SegmentRun& run : whole.runs) {
      const uint64_t bytes = piece_->meta().RangeOf(run).length;
      if (split.empty() || split.back().bytes + bytes > room) split.emplace_back();
      split.back().runs.push_back(run);
      split.back().bytes += bytes;
    }
    const auto at = parts_.begin() + static_cast<ptrdiff_t>(next_part_);
    *at = std::move(split.front());
    parts_.insert(at + 1, std::make_move_iterator(split.begin() + 1),
                  std::make_move_iterator(split.end()));
  }

  ByteSpan Gather(const PlannedPart& part, MutableByteSpan buffer) {
    const ByteSpan body = piece_->body();
    size_t filled = 0;
    for (const SegmentRun& run : part.runs) {
      const ByteRange range = piece_->meta().RangeOf(run);
      std::memcpy(buffer.data() + filled, body.data() + range.offset, range.length);
      filled += range.length;
    }
    return buffer.first(filled);
  }

  // True when the next part may be sent now. False when it may not: then Advance runs again later,
  // on the carrier's thread, and nothing of this object may be touched by the caller any more.
  bool WaitUntilWritable() {
    gate_.store(Gate::kAsking);
    call_->WhenWritable([self = shared_from_this()] {
      if (self->gate_.exchange(Gate::kOpen) != Gate::kParked) return;
      self->writable_ = true;
      self->Advance(Thread::kCarrier);
    });
    if (gate_.exchange(Gate::kParked) != Gate::kOpen) return false;
    writable_ = true;
    return true;
  }

  // Room in the session's window for the next part. As WaitUntilWritable, but on the executor.
  bool TakeRoom() {
    const uint64_t bytes = parts_[next_part_].bytes;
    const bool taken = window_->Take(share_, bytes, [self = shared_from_this(), bytes] {
      self->room_bytes_ = bytes;
      self->ContinueOnExecutor();
    });
    if (taken) room_bytes_ = bytes;
    return taken;
  }

  enum class Gate { kAsking, kOpen, kParked };

  StoreContext& context_;
  const CallPtr call_;
  const std::vector<Selection> selections_;
  const std::shared_ptr<OpenAhead> pieces_;
  const std::shared_ptr<SendWindow> window_;
  const std::shared_ptr<SendWindow::CallShare> share_ = std::make_shared<SendWindow::CallShare>();

  size_t next_piece_ = 0;
  storage::PieceRef piece_;  // being sent; null between pieces
  uint32_t level_ = 0;
  bool opening_sent_ = false;
  // Messages, kept for their memory.
  v1::FetchPart opening_;
  v1::FetchPart segments_;
  std::vector<PlannedPart> parts_;
  size_t next_part_ = 0;
  uint64_t room_bytes_ = 0;  // taken in the window for the next part
  uint64_t turn_bytes_ = 0;  // that this turn on the executor may gather
  bool writable_ = false;
  std::atomic<Gate> gate_{Gate::kAsking};
  size_t hits_ = 0;
  size_t misses_ = 0;
};

}  // namespace

void HandleFetch(StoreContext& context, const CallPtr& call) {
  v1::FetchRequest request;
  if (!request.ParseFromString(call->message())) {
    return call->Fail(absl::InvalidArgumentError("the Fetch message cannot be parsed"));
  }
  absl::StatusOr<std::vector<Selection>> selections = ParseSelections(request);
  if (!selections.ok()) return call->Fail(selections.status());
  std::make_shared<FetchRun>(context, call, *std::move(selections))
      ->Advance(FetchRun::Thread::kExecutor);
}

}  // namespace reprise::store
