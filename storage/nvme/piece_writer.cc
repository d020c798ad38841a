#include "storage/nvme/piece_writer.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"

namespace reprise::storage {
namespace {

bool Reaches(const Distortion& at, const Distortion& floor) {
  return at.key <= floor.key && at.value <= floor.value;
}

// Planes up to the first level that is good enough to serve; all where none is.
uint32_t BasePlanes(const PieceSummary& summary, const Distortion& floor) {
  for (uint32_t planes = 1; planes < summary.planes_held; ++planes) {
    if (Reaches(summary.all_levels[planes - 1].distortion, floor)) return planes;
  }
  return summary.planes_held;
}

absl::Status CheckRequest(const NvmeTier::WriteRequest& request) {
  if (request.meta == nullptr || request.planes == 0 ||
      request.planes > request.meta->level_count()) {
    return absl::InvalidArgumentError(
        absl::StrCat("a write of ", request.planes, " planes of a piece that has ",
                     request.meta == nullptr ? 0 : request.meta->level_count()));
  }
  const uint64_t need = AlignUp(request.meta->bytes_to(request.planes - 1), kPageBytes);
  const auto address = reinterpret_cast<uintptr_t>(request.container.data());
  if (request.container.size() < need || address % kPageBytes != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("a container of ", request.container.size(), " bytes at an address ",
                     address % kPageBytes, " bytes behind a page; it takes ", need,
                     " bytes, zeros behind its last included, from a page's beginning"));
  }
  return absl::OkStatus();
}

}  // namespace

struct PieceWriter::Pending {
  struct Run final : DiskOperation {
    void Done(absl::Status status) override {
      pending->writer->RunDone(pending, run_kind, std::move(status));
    }
    Pending* pending = nullptr;
    RunKind run_kind = RunKind::kBase;
  };

  RunPlace& place(RunKind kind) {
    return kind == RunKind::kBase ? piece->record.base : piece->record.refinement;
  }
  uint64_t bytes(RunKind kind) const {
    return kind == RunKind::kBase ? piece->record.base_bytes() : piece->record.refinement_bytes();
  }

  PieceWriter* writer = nullptr;
  std::unique_ptr<WrittenPiece> piece;
  SharedBytes container;
  std::array<Run, 2> runs;
  std::array<bool, 2> placed{};
  uint32_t runs_left = 0;
  absl::Status status;
};

PieceWriter::PieceWriter(TierState& state, Committer& committer, std::unique_ptr<DiskQueue> queue)
    : state_(state), committer_(committer), queue_(std::move(queue)) {}

PieceWriter::~PieceWriter() = default;

void PieceWriter::WaitUntilIdle() {
  MutexLock lock(state_.mutex);
  while (pending_ > 0) idle_.wait(state_.mutex);
}

void PieceWriter::Write(NvmeTier::WriteRequest request, NvmeTier::Done done) {
  if (const absl::Status status = CheckRequest(request); !status.ok()) {
    return state_.Reply(std::move(done), status);
  }
  auto pending = std::make_unique<Pending>();
  pending->writer = this;
  pending->container = std::move(request.container);
  pending->piece = std::make_unique<WrittenPiece>();
  WrittenPiece& piece = *pending->piece;
  piece.tenant = request.tenant;
  piece.key = request.meta->header().key;
  piece.record.summary = SummaryOf(*request.meta, request.attributes, request.planes, Tier::kNvme);
  double& seconds = piece.record.summary.attributes.recompute_seconds;
  if (!std::isfinite(seconds)) seconds = 0;
  piece.record.durable = request.durable;
  piece.record.base_planes = BasePlanes(piece.record.summary, state_.options.floor);
  piece.done = std::move(done);

  bool begin = false;
  absl::Status status;
  {
    MutexLock lock(state_.mutex);
    status = state_.MayWrite();
    state_.pieces.ForgetIfExpired(piece.tenant, piece.key);
    const std::optional<ResidentPieces::Number> held = state_.pieces.Find(piece.tenant, piece.key);
    if (status.ok() && held.has_value()) {
      const PieceRecord record = state_.pieces.view().record(*held);
      // As the committer does, which does not see what goes to make room for this write.
      if (record.durable) piece.record.durable = true;
      if (record.summary.content_id == piece.record.summary.content_id &&
          record.summary.planes_held >= request.planes) {
        piece.is_written = false;
        committer_.Add(std::move(pending->piece));
        return;
      }
    }
    if (status.ok()) status = Admit(*pending);
    if (status.ok()) {
      ++pending_;
      pending_bytes_ += piece.record.run_bytes();
      begin = waiting_.empty() && TryPlace(*pending);
      if (!begin) {
        waiting_bytes_ += piece.record.run_bytes();
        waiting_.push_back(std::move(pending));
      }
      state_.WakeCommitterIfNeeded();
      if (!begin || state_.space.WantsReclaim() || state_.space.NextToCreate().has_value()) {
        state_.wake_reclaimer.notify_all();
      }
    }
  }
  if (!status.ok()) return state_.Reply(std::move(piece.done), status);
  if (begin) Submit(*pending.release());
}

absl::Status PieceWriter::Admit(Pending& pending) {
  const PieceRecord& record = pending.piece->record;
  const uint64_t bytes = record.run_bytes();
  const std::string name =
      absl::StrCat("piece ", pending.piece->key.digest.Hex(), " of ", bytes, " bytes: ");
  const uint64_t usable = state_.space.usable_bytes();
  if (record.base_bytes() > usable || record.refinement_bytes() > usable) {
    return absl::ResourceExhaustedError(
        absl::StrCat(name, "larger than the ", usable, " bytes of a segment of ",
                     state_.options.directory, "; larger segments need a new directory"));
  }
  if (pending_ == kMaxPendingWrites ||
      (pending_ > 0 && pending_bytes_ + bytes > kMaxPendingBytes)) {
    return absl::ResourceExhaustedError(absl::StrCat(name, pending_, " writes of ", pending_bytes_,
                                                     " bytes are on their way to ",
                                                     state_.options.directory, "; write later"));
  }
  if (!state_.pieces.KeepWithinQuota(pending.piece->tenant, bytes)) {
    return Annotate(state_.pieces.AboveQuota(pending.piece->tenant), name);
  }
  if (!state_.pieces.MakeRoom(bytes + waiting_bytes_)) {
    return absl::ResourceExhaustedError(absl::StrCat(
        name, "no room in ", state_.options.directory, ": of ", state_.space.live_limit_bytes(),
        " bytes for pieces, ", state_.space.live_bytes() + waiting_bytes_,
        " are held, pinned or being written; give the disk tier more"));
  }
  return absl::OkStatus();
}

bool PieceWriter::TryPlace(Pending& pending) {
  for (const RunKind kind : {RunKind::kBase, RunKind::kRefinement}) {
    bool& placed = pending.placed[static_cast<size_t>(kind)];
    const uint64_t bytes = pending.bytes(kind);
    if (placed || bytes == 0) continue;
    const std::optional<RunPlace> place = state_.space.Allocate(kind, /*moving=*/false, bytes);
    if (!place.has_value()) return false;
    placed = true;
    pending.place(kind) = *place;
    Pending::Run& run = pending.runs[static_cast<size_t>(kind)];
    run.pending = &pending;
    run.run_kind = kind;
    run.kind = DiskOperation::Kind::kWrite;
    run.file = state_.files[place->segment].get();
    run.offset = place->offset();
    ++pending.runs_left;
  }
  return true;
}

void PieceWriter::Submit(Pending& pending) {
  // An operation reads what it writes, whatever its type says.
  auto* from = const_cast<std::byte*>(pending.container.data());
  const uint64_t base_bytes = pending.bytes(RunKind::kBase);
  pending.runs[0].bytes = {from, base_bytes};
  pending.runs[1].bytes = {from + base_bytes, pending.bytes(RunKind::kRefinement)};
  const std::array<DiskOperation*, 2> operations = {&pending.runs[0], &pending.runs[1]};
  queue_->Submit(std::span(operations).first(pending.runs_left));
}

void PieceWriter::RunDone(Pending* pending, RunKind kind, absl::Status status) {
  std::unique_ptr<Pending> ended;
  {
    MutexLock lock(state_.mutex);
    if (status.ok()) {
      state_.counted.bytes_written += pending->bytes(kind);
    } else {
      state_.space.Abandon(pending->place(kind).segment);
      state_.WriteFailed(status);
      pending->status = std::move(status);
    }
    if (--pending->runs_left > 0) return;
    ended.reset(pending);
    if (ended->status.ok()) {
      Forget(*ended);
      committer_.Add(std::move(ended->piece));
    } else {
      for (const RunKind each : {RunKind::kBase, RunKind::kRefinement}) {
        if (ended->bytes(each) > 0) state_.space.Discard(ended->place(each), ended->bytes(each));
      }
      state_.WakeCommitterIfNeeded();
    }
  }
  if (ended->piece == nullptr) return;
  std::move(ended->piece->done)(ended->status);
  MutexLock lock(state_.mutex);
  Forget(*ended);
}

void PieceWriter::Forget(const Pending& pending) {
  --pending_;
  pending_bytes_ -= pending.runs[0].bytes.size() + pending.runs[1].bytes.size();
  if (pending_ == 0) idle_.notify_all();
}

void PieceWriter::DispatchWaiting() {
  for (;;) {
    std::unique_ptr<Pending> next;
    {
      MutexLock lock(state_.mutex);
      if (waiting_.empty() || !TryPlace(*waiting_.front())) return;
      next = std::move(waiting_.front());
      waiting_.pop_front();
      waiting_bytes_ -= next->piece->record.run_bytes();
    }
    Submit(*next.release());
  }
}

void PieceWriter::FailWaiting(const absl::Status& status) {
  for (;;) {
    std::unique_ptr<Pending> next;
    {
      MutexLock lock(state_.mutex);
      if (waiting_.empty()) return;
      next = std::move(waiting_.front());
      waiting_.pop_front();
      waiting_bytes_ -= next->piece->record.run_bytes();
      if (next->placed[0]) {
        state_.space.Discard(next->piece->record.base, next->bytes(RunKind::kBase));
      }
      ++state_.counted.failed_writes;
    }
    std::move(next->piece->done)(status);
    MutexLock lock(state_.mutex);
    pending_bytes_ -= next->piece->record.run_bytes();
    if (--pending_ == 0) idle_.notify_all();
  }
}

}  // namespace reprise::storage
