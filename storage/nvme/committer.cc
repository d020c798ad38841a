#include "storage/nvme/committer.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <map>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"

namespace reprise::storage {
namespace {

constexpr size_t kMaxBatchPieces = 1024;
// How often is looked whether the disk may be tried again.
constexpr std::chrono::milliseconds kRetryPoll{50};

}  // namespace

struct Committer::MoveCall {
  std::vector<MovedPiece> moves;
  bool done = false;
  absl::Status status;
};

struct Committer::Batch {
  enum class Verdict : uint8_t { kPut, kHeld, kHarden, kFail };
  struct Write {
    std::unique_ptr<WrittenPiece> piece;
    Verdict verdict = Verdict::kFail;
    absl::Status status;
  };
  struct Sync {
    EnvFile* file = nullptr;
    absl::Status status;
  };

  absl::Status SyncedAs(const RunPlace& run) const {
    const auto found = syncs.find(run.segment);
    return found == syncs.end() ? absl::OkStatus() : found->second.status;
  }
  absl::Status SyncedAs(const PieceRecord& record) const {
    absl::Status status = SyncedAs(record.base);
    if (status.ok() && record.has_refinement()) status = SyncedAs(record.refinement);
    return status;
  }

  std::vector<Write> writes;
  std::vector<MoveCall*> moves;
  std::vector<ResidentPieces::Change> changes;
  std::vector<uint32_t> drained;
  std::map<uint32_t, Sync> syncs;
  // Held pieces whose record differs from the catalog's once this batch is written.
  absl::flat_hash_map<Number, PieceRecord> changed;
  PieceCatalog::Batch catalog;
  bool sync = false;
  bool sync_failed = false;
};

Committer::Committer(TierState& state, absl::AnyInvocable<void()> room_made)
    : state_(state), room_made_(std::move(room_made)), thread_([this] { ThreadMain(); }) {}

Committer::~Committer() {
  {
    MutexLock lock(state_.mutex);
    stopping_ = true;
    state_.wake_committer.notify_all();
  }
  thread_.join();
}

void Committer::Add(std::unique_ptr<WrittenPiece> piece) {
  state_.mutex.AssertHeld();
  written_.push_back(std::move(piece));
  state_.wake_committer.notify_all();
}

absl::Status Committer::Move(std::vector<MovedPiece> moves) {
  MoveCall call{.moves = std::move(moves), .done = false, .status = {}};
  MutexLock lock(state_.mutex);
  moves_.push_back(&call);
  state_.wake_committer.notify_all();
  while (!call.done) moved_.wait(state_.mutex);
  return call.status;
}

bool Committer::HasWork() const {
  if (!written_.empty() || !moves_.empty()) return true;
  const bool leftovers =
      state_.pieces.has_changes() || state_.space.has_drained() || !drained_.empty();
  return leftovers && (!catalog_failed_ || state_.MayWrite().ok());
}

void Committer::ThreadMain() {
  for (;;) {
    Batch batch;
    {
      MutexLock lock(state_.mutex);
      while (!HasWork() && !stopping_) {
        if (catalog_failed_) {
          state_.wake_committer.wait_for(state_.mutex, kRetryPoll);
        } else {
          state_.wake_committer.wait(state_.mutex);
        }
      }
      if (!HasWork()) return;
      Collect(batch);
    }
    SyncSegments(batch);
    {
      MutexLock lock(state_.mutex);
      Judge(batch);
    }
    const absl::Status status = WriteCatalog(batch);
    {
      MutexLock lock(state_.mutex);
      if (status.ok()) {
        if (!batch.sync_failed) state_.WriteSucceeded();
        Install(batch);
      } else {
        state_.WriteFailed(status);
        GiveUp(batch, status);
      }
      for (MoveCall* call : batch.moves) call->done = true;
      if (!batch.moves.empty()) moved_.notify_all();
      if (state_.space.WantsReclaim()) state_.wake_reclaimer.notify_all();
    }
    for (Batch::Write& write : batch.writes) std::move(write.piece->done)(write.status);
    if (!status.ok() || batch.drained.empty()) continue;
    if (!batch.sync) SyncDrained(batch);
    room_made_();
  }
}

void Committer::Collect(Batch& batch) {
  batch.changes = state_.pieces.TakeChanges();
  batch.drained = std::exchange(drained_, {});
  for (const uint32_t segment : state_.space.TakeDrained()) batch.drained.push_back(segment);

  const auto sync = [&](const PieceRecord& record) ABSL_EXCLUSIVE_LOCKS_REQUIRED(state_.mutex) {
    batch.syncs[record.base.segment].file = state_.files[record.base.segment].get();
    if (!record.has_refinement()) return;
    batch.syncs[record.refinement.segment].file = state_.files[record.refinement.segment].get();
  };
  std::vector<std::unique_ptr<WrittenPiece>> later;
  std::set<std::pair<TenantId, Key>> names;
  for (std::unique_ptr<WrittenPiece>& piece : written_) {
    // What one write decides about another of the same name shows in the next batch.
    if (names.size() == kMaxBatchPieces || !names.insert({piece->tenant, piece->key}).second) {
      later.push_back(std::move(piece));
      continue;
    }
    const std::optional<Number> held = state_.pieces.Find(piece->tenant, piece->key);
    if (held.has_value()) {
      const PieceRecord record = state_.pieces.view().record(*held);
      // What survives power loss is only replaced by what does, too.
      if (piece->is_written && record.durable) piece->record.durable = true;
      if (piece->record.durable && !record.durable) sync(record);
    }
    if (piece->is_written && piece->record.durable) sync(piece->record);
    batch.writes.push_back(
        {.piece = std::move(piece), .verdict = Batch::Verdict::kFail, .status = {}});
  }
  written_ = std::move(later);

  batch.moves = std::exchange(moves_, {});
  for (const MoveCall* call : batch.moves) {
    for (const MovedPiece& move : call->moves) {
      for (const std::optional<MovedPiece::Run>& run : move.runs) {
        if (!run.has_value()) continue;
        batch.syncs[run->to.segment].file = state_.files[run->to.segment].get();
      }
    }
  }
}

void Committer::SyncSegments(Batch& batch) {
  for (auto& [segment, sync] : batch.syncs) sync.status = sync.file->Sync();
}

PieceRecord& Committer::Changed(Batch& batch, Number piece) {
  return batch.changed.try_emplace(piece, state_.pieces.view().record(piece)).first->second;
}

void Committer::Judge(Batch& batch) {
  for (const auto& [segment, sync] : batch.syncs) {
    if (sync.status.ok()) continue;
    // What the device did with what was written there is unknown from now on.
    batch.sync_failed = true;
    state_.space.Abandon(segment);
    state_.WriteFailed(sync.status);
  }
  for (const ResidentPieces::Change& change : batch.changes) {
    const std::optional<Number> piece = state_.pieces.Find(change.tenant, change.key);
    if (piece.has_value()) {
      Changed(batch, *piece);
    } else {
      batch.catalog.Delete(change.tenant, change.key);
    }
  }
  for (MoveCall* call : batch.moves) {
    batch.sync = true;
    for (MovedPiece& move : call->moves) {
      const std::optional<Number> piece = state_.pieces.Find(move.tenant, move.key, move.content);
      for (size_t kind = 0; kind < 2; ++kind) {
        std::optional<MovedPiece::Run>& run = move.runs[kind];
        if (!run.has_value()) continue;
        if (const absl::Status status = batch.SyncedAs(run->to); !status.ok()) {
          call->status = status;
          state_.space.Discard(run->to, run->bytes);
          run.reset();
        } else if (piece.has_value()) {
          PieceRecord& record = Changed(batch, *piece);
          RunPlace& place = kind == 0 ? record.base : record.refinement;
          if (place == run->from) place = run->to;
        }
      }
    }
  }
  for (size_t i = 0; i < batch.writes.size(); ++i) JudgeWrite(batch, i);
  for (const auto& [piece, record] : batch.changed) {
    const PieceView& view = state_.pieces.view();
    batch.catalog.Put(view.tenant(piece), view.key(piece), record);
  }
  for (const Batch::Write& write : batch.writes) {
    if (write.verdict != Batch::Verdict::kPut) continue;
    batch.catalog.Put(write.piece->tenant, write.piece->key, write.piece->record);
  }
}

void Committer::JudgeWrite(Batch& batch, size_t index) {
  using Verdict = Batch::Verdict;
  Batch::Write& write = batch.writes[index];
  const WrittenPiece& piece = *write.piece;
  const ContentId& content = piece.record.summary.content_id;
  const std::optional<Number> held = state_.pieces.Find(piece.tenant, piece.key);
  if (held.has_value()) {
    const PieceRecord record = state_.pieces.view().record(*held);
    if (record.summary.content_id == content &&
        record.summary.planes_held >= piece.record.summary.planes_held) {
      write.verdict = Verdict::kHeld;
      if (!piece.record.durable || record.durable) return;
      write.status = batch.SyncedAs(record);
      if (!write.status.ok()) return;
      write.verdict = Verdict::kHarden;
      Changed(batch, *held).durable = true;
      batch.sync = true;
      return;
    }
  }
  if (!piece.is_written) {
    write.status = absl::UnavailableError(
        absl::StrCat("piece ", piece.key.digest.Hex(),
                     " was given up while it was to become durable; write it again"));
    return;
  }
  if (state_.pieces.HeldWithOther(piece.tenant, piece.key, content)) {
    write.status = absl::ResourceExhaustedError(
        absl::StrCat("piece ", piece.key.digest.Hex(),
                     " is held for a reader with other content; write again when the hold is "
                     "over"));
    return;
  }
  if (piece.record.durable) {
    write.status = batch.SyncedAs(piece.record);
    if (!write.status.ok()) return;
    batch.sync = true;
  }
  write.verdict = Verdict::kPut;
}

absl::Status Committer::WriteCatalog(Batch& batch) {
  if (catalog_failed_) REPRISE_RETURN_IF_ERROR(state_.catalog->Resume());
  const absl::Status status = state_.catalog->Commit(std::move(batch.catalog), batch.sync);
  catalog_failed_ = !status.ok();
  return status;
}

void Committer::SyncDrained(Batch& batch) {
  const absl::Status status = state_.catalog->Commit({}, /*sync=*/true);
  catalog_failed_ = !status.ok();
  MutexLock lock(state_.mutex);
  if (status.ok()) {
    for (const uint32_t segment : batch.drained) state_.space.AddEmpty(segment);
  } else {
    state_.WriteFailed(status);
    drained_.insert(drained_.end(), batch.drained.begin(), batch.drained.end());
  }
}

void Committer::Install(Batch& batch) {
  using Verdict = Batch::Verdict;
  for (const MoveCall* call : batch.moves) {
    for (const MovedPiece& move : call->moves) InstallMove(move);
  }
  for (const Batch::Write& write : batch.writes) {
    const WrittenPiece& piece = *write.piece;
    if (write.verdict == Verdict::kPut) {
      state_.pieces.Install(piece.tenant, piece.key, piece.record);
      continue;
    }
    if (write.verdict == Verdict::kHarden) {
      const std::optional<Number> held =
          state_.pieces.Find(piece.tenant, piece.key, piece.record.summary.content_id);
      if (held.has_value()) state_.pieces.SetDurable(*held);
    }
    if (piece.is_written) Discard(piece.record);
  }
  for (const ResidentPieces::Change& change : batch.changes) {
    for (const std::optional<uint32_t>& segment : change.pinned) {
      if (segment.has_value()) state_.space.Unpin(*segment);
    }
  }
  if (!batch.sync) return;
  for (const uint32_t segment : batch.drained) state_.space.AddEmpty(segment);
}

void Committer::InstallMove(const MovedPiece& move) {
  for (const RunKind kind : {RunKind::kBase, RunKind::kRefinement}) {
    const std::optional<MovedPiece::Run>& run = move.runs[static_cast<size_t>(kind)];
    if (!run.has_value()) continue;
    const std::optional<Number> piece = state_.pieces.Find(move.tenant, move.key, move.content);
    if (piece.has_value()) {
      const PieceRecord record = state_.pieces.view().record(*piece);
      const bool stays = kind == RunKind::kBase
                             ? record.base == run->from
                             : record.has_refinement() && record.refinement == run->from;
      if (stays) {
        state_.pieces.SetPlace(*piece, kind, run->to, run->bytes);
        continue;
      }
    }
    state_.space.Discard(run->to, run->bytes);
  }
}

void Committer::GiveUp(Batch& batch, const absl::Status& status) {
  using Verdict = Batch::Verdict;
  for (Batch::Write& write : batch.writes) {
    const WrittenPiece& piece = *write.piece;
    if (write.verdict == Verdict::kPut || write.verdict == Verdict::kHarden) write.status = status;
    if (write.verdict == Verdict::kPut) {
      state_.pieces.Doubt(piece.tenant, piece.key, piece.record.base.segment,
                          piece.record.has_refinement()
                              ? std::optional(piece.record.refinement.segment)
                              : std::nullopt);
    }
    if (piece.is_written) Discard(piece.record);
  }
  for (MoveCall* call : batch.moves) {
    call->status = status;
    for (const MovedPiece& move : call->moves) {
      for (const std::optional<MovedPiece::Run>& run : move.runs) {
        if (!run.has_value()) continue;
        state_.pieces.Doubt(move.tenant, move.key, run->to.segment, std::nullopt);
        state_.space.Discard(run->to, run->bytes);
      }
    }
  }
  state_.pieces.ReturnChanges(std::move(batch.changes));
  drained_.insert(drained_.end(), batch.drained.begin(), batch.drained.end());
}

void Committer::Discard(const PieceRecord& record) {
  state_.space.Discard(record.base, record.base_bytes());
  if (record.has_refinement()) {
    state_.space.Discard(record.refinement, record.refinement_bytes());
  }
}

}  // namespace reprise::storage
