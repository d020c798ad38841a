#include "storage/nvme/reclaimer.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"

#include "common/limits.h"
#include "common/log.h"
#include "storage/nvme/segment_file.h"

namespace reprise::storage {
namespace {

constexpr uint64_t kMoveBytesPerSecond = 256 * kMiB;
// How long a window of a move steps back for reads, at most.
constexpr std::chrono::milliseconds kReadsFirst{20};
constexpr std::chrono::milliseconds kPoll{20};
// Polls in vain until writes that wait for room are refused: what is under way ends well before.
constexpr uint32_t kMaxFruitless = 100;
// Pieces that are given up at once for want of a segment worth emptying.
constexpr int kEvictBatch = 64;
// Moves that are committed together.
constexpr size_t kMoveBatch = 256;

}  // namespace

// One piece on its way to other segments.
struct Reclaimer::Copy {
  PieceSource source;
  MovedPiece move;
  EnvFile* targets[2] = {nullptr, nullptr};
  absl::Status write_status;
};

Reclaimer::Reclaimer(TierState& state, Committer& committer, PieceWriter& writer,
                     std::unique_ptr<RunStream> stream)
    : state_(state),
      committer_(committer),
      writer_(writer),
      stream_(std::move(stream)),
      pacer_(kMoveBytesPerSecond),
      thread_([this] { ThreadMain(); }) {}

Reclaimer::~Reclaimer() {
  {
    MutexLock lock(state_.mutex);
    stopping_ = true;
    state_.wake_reclaimer.notify_all();
  }
  thread_.join();
}

bool Reclaimer::HasWork() const {
  return writer_.has_waiting() || state_.space.NextToCreate().has_value() ||
         (state_.space.WantsReclaim() && state_.space.ChooseVictim().has_value());
}

void Reclaimer::WaitABit() { state_.wake_reclaimer.wait_for(state_.mutex, kPoll); }

void Reclaimer::ThreadMain() {
  for (;;) {
    std::optional<uint32_t> create;
    std::optional<uint32_t> victim;
    absl::Status refused;
    {
      MutexLock lock(state_.mutex);
      while (!stopping_ && !HasWork()) state_.wake_reclaimer.wait(state_.mutex);
      if (stopping_) return;
      refused = state_.MayWrite();
      if (!refused.ok() && !writer_.has_waiting()) {
        WaitABit();
        continue;
      }
      create = state_.space.NextToCreate();
      if (state_.space.WantsReclaim()) victim = state_.space.ChooseVictim();
    }
    if (!refused.ok()) {
      writer_.FailWaiting(refused);
    } else if (create.has_value()) {
      Create(*create);
    } else if (victim.has_value()) {
      Empty(*victim);
    } else {
      GiveUpMore();
    }
    writer_.DispatchWaiting();
  }
}

void Reclaimer::Create(uint32_t segment) {
  absl::StatusOr<std::unique_ptr<EnvFile>> file = CreateSegmentFile(
      state_.env, state_.layout.segment_directory,
      {.node_id = state_.layout.node_id, .number = segment}, state_.layout.segment_bytes);
  MutexLock lock(state_.mutex);
  if (!file.ok()) {
    state_.WriteFailed(file.status());
    return;
  }
  state_.files[segment] = *std::move(file);
  state_.space.AddEmpty(segment);
  fruitless_ = 0;
}

void Reclaimer::GiveUpMore() {
  {
    MutexLock lock(state_.mutex);
    if (!state_.space.Starved()) {
      fruitless_ = 0;
      return;
    }
    const auto helped = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(state_.mutex) {
      return state_.space.ChooseVictim().has_value() || state_.space.awaits_empty();
    };
    for (int i = 0; i < kEvictBatch && !helped() && state_.pieces.EvictOne(); ++i) {
    }
    state_.WakeCommitterIfNeeded();
    ++fruitless_;
    if (state_.space.ChooseVictim().has_value()) return;
    // What is drained, read or being written comes back by itself; it is waited for before more
    // goes.
    WaitABit();
    if (fruitless_ < kMaxFruitless) return;
    fruitless_ = 0;
  }
  writer_.FailWaiting(absl::ResourceExhaustedError(
      absl::StrCat("no segment of ", state_.options.directory,
                   " can be emptied now: what is in them is held, or large for segments of ",
                   state_.layout.segment_bytes, " bytes; give the disk tier more")));
}

void Reclaimer::Empty(uint32_t segment) {
  std::vector<Number> pieces;
  {
    MutexLock lock(state_.mutex);
    pieces = state_.space.tags(segment);
    state_.space.Pin(segment);
  }
  std::ranges::sort(pieces);
  pieces.erase(std::unique(pieces.begin(), pieces.end()), pieces.end());
  std::vector<MovedPiece> moves;
  bool moved = false;
  absl::Status status;
  const auto commit = [&] {
    if (moves.empty()) return;
    const absl::Status committed = committer_.Move(std::exchange(moves, {}));
    if (committed.ok()) moved = true;
    if (status.ok()) status = committed;
  };
  for (const Number piece : pieces) {
    Copy copy;
    Begun begun = Begun::kNothingThere;
    {
      MutexLock lock(state_.mutex);
      begun = BeginCopy(segment, piece, copy);
    }
    if (begun == Begun::kNothingThere) continue;
    if (begun == Begun::kNoRoom) break;
    const absl::Status copied = CopyRuns(copy);
    {
      MutexLock lock(state_.mutex);
      EndCopy(copy, copied);
      if (absl::IsDataLoss(copied)) moved = true;
    }
    if (copied.ok()) {
      moves.push_back(copy.move);
      if (moves.size() == kMoveBatch) commit();
    } else if (!absl::IsDataLoss(copied)) {
      status = copied;
    }
    if (!status.ok()) break;
  }
  commit();
  MutexLock lock(state_.mutex);
  state_.space.Unpin(segment);
  state_.WakeCommitterIfNeeded();
  if (status.ok() && !moved) {
    // Nothing is known to be there, or nothing of it can be moved: another one comes first.
    state_.space.SetUnreadable(segment);
  }
  if (moved) fruitless_ = 0;
}

Reclaimer::Begun Reclaimer::BeginCopy(uint32_t segment, Number piece, Copy& copy) {
  const PieceView& view = state_.pieces.view();
  if (!view.Exists(piece)) return Begun::kNothingThere;
  const PieceRecord record = view.record(piece);
  const bool base = record.base.segment == segment;
  const bool refinement = record.has_refinement() && record.refinement.segment == segment;
  if (!base && !refinement) return Begun::kNothingThere;
  copy.source = {.key = view.key(piece),
                 .record = record,
                 .base = state_.files[record.base.segment].get(),
                 .refinement = record.has_refinement()
                                   ? state_.files[record.refinement.segment].get()
                                   : nullptr};
  copy.move.tenant = view.tenant(piece);
  copy.move.key = copy.source.key;
  copy.move.content = record.summary.content_id;
  const auto place = [&](RunKind kind, const RunPlace& from,
                         uint64_t bytes) ABSL_EXCLUSIVE_LOCKS_REQUIRED(state_.mutex) {
    const std::optional<RunPlace> to = state_.space.Allocate(kind, /*moving=*/true, bytes);
    if (!to.has_value()) return false;
    const size_t at = static_cast<size_t>(kind);
    copy.move.runs[at] = {.from = from, .to = *to, .bytes = bytes};
    copy.targets[at] = state_.files[to->segment].get();
    return true;
  };
  if (base && !place(RunKind::kBase, record.base, record.base_bytes())) return Begun::kNoRoom;
  if (refinement && !place(RunKind::kRefinement, record.refinement, record.refinement_bytes())) {
    if (base) state_.space.Discard(copy.move.runs[0]->to, copy.move.runs[0]->bytes);
    return Begun::kNoRoom;
  }
  state_.space.Pin(record.base.segment);
  if (record.has_refinement()) state_.space.Pin(record.refinement.segment);
  return Begun::kYes;
}

absl::Status Reclaimer::CopyRuns(Copy& copy) {
  return stream_->Read(copy.source, copy.move.runs[0].has_value(), copy.move.runs[1].has_value(),
                       [&](RunKind kind, uint64_t offset, ByteSpan bytes) -> absl::Status {
                         REPRISE_RETURN_IF_ERROR(Pace(bytes.size()));
                         const size_t at = static_cast<size_t>(kind);
                         copy.write_status = copy.targets[at]->WriteAt(
                             copy.move.runs[at]->to.offset() + offset, bytes);
                         if (!copy.write_status.ok()) {
                           // Whatever its code: the piece itself is not at fault.
                           return absl::InternalError(copy.write_status.message());
                         }
                         return absl::OkStatus();
                       });
}

void Reclaimer::EndCopy(const Copy& copy, const absl::Status& status) {
  const PieceRecord& record = copy.source.record;
  state_.space.Unpin(record.base.segment);
  if (record.has_refinement()) state_.space.Unpin(record.refinement.segment);
  uint64_t bytes = 0;
  for (const std::optional<MovedPiece::Run>& run : copy.move.runs) {
    if (!run.has_value()) continue;
    bytes += run->bytes;
    if (!copy.write_status.ok()) state_.space.Abandon(run->to.segment);
    if (!status.ok()) state_.space.Discard(run->to, run->bytes);
  }
  if (status.ok()) {
    state_.counted.bytes_moved += bytes;
    state_.counted.bytes_written += bytes;
    return;
  }
  if (!copy.write_status.ok()) return state_.WriteFailed(copy.write_status);
  if (absl::IsCancelled(status)) return;
  LogError(absl::IsDataLoss(status) ? "dropped a corrupt piece" : "cannot read a piece",
           {{"tenant", copy.move.tenant},
            {"key", copy.move.key.digest.Hex()},
            {"segment", record.base.segment},
            {"reason", std::string(status.message())}});
  if (!absl::IsDataLoss(status)) {
    for (const std::optional<MovedPiece::Run>& run : copy.move.runs) {
      if (run.has_value()) state_.space.SetUnreadable(run->from.segment);
    }
    return;
  }
  const std::optional<Number> piece =
      state_.pieces.Find(copy.move.tenant, copy.move.key, copy.move.content);
  if (piece.has_value()) state_.pieces.ForgetDamaged(*piece);
}

absl::Status Reclaimer::Pace(uint64_t bytes) {
  const Clock& clock = Clock::Steady();
  const TimePoint now = clock.Now();
  const TimePoint ready_at = pacer_.After(bytes, now);
  const TimePoint give_way_until = now + kReadsFirst;
  MutexLock lock(state_.mutex);
  while (!stopping_ && !state_.space.Starved()) {
    const TimePoint at = clock.Now();
    const bool reads_first = state_.reads_under_way > 0 && at < give_way_until;
    if (at >= ready_at && !reads_first) break;
    state_.wake_reclaimer.wait_for(state_.mutex, std::chrono::milliseconds(1));
  }
  return stopping_ ? absl::CancelledError("the tier is closing") : absl::OkStatus();
}

}  // namespace reprise::storage
