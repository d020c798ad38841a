#include "storage/nvme/scrubber.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "common/log.h"
#include "storage/nvme/pacer.h"
#include "storage/nvme/segment_file.h"

namespace reprise::storage {

Scrubber::Scrubber(TierState& state, std::unique_ptr<RunStream> stream)
    : state_(state), stream_(std::move(stream)), thread_([this] { ThreadMain(); }) {}

Scrubber::~Scrubber() {
  {
    MutexLock lock(state_.mutex);
    stopping_ = true;
    wake_.notify_all();
  }
  thread_.join();
}

void Scrubber::Scrub(uint64_t bytes_per_second, Done done) {
  MutexLock lock(state_.mutex);
  passes_.push_back(
      {.bytes_per_second = std::max<uint64_t>(1, bytes_per_second), .done = std::move(done)});
  wake_.notify_all();
}

void Scrubber::ThreadMain() {
  for (;;) {
    std::optional<Pass> pass;
    {
      MutexLock lock(state_.mutex);
      while (!stopping_ && passes_.empty()) wake_.wait(state_.mutex);
      if (passes_.empty()) return;
      pass = std::move(passes_.front());
      passes_.pop_front();
    }
    std::move(pass->done)(RunPass(pass->bytes_per_second));
  }
}

uint64_t Scrubber::RunPass(uint64_t bytes_per_second) {
  Pacer pacer(bytes_per_second);
  const auto pace = [&](RunKind, uint64_t, ByteSpan bytes) -> absl::Status {
    const TimePoint ready_at = pacer.After(bytes.size(), Clock::Steady().Now());
    MutexLock lock(state_.mutex);
    state_.counted.scrubbed_bytes += bytes.size();
    while (!stopping_ && Clock::Steady().Now() < ready_at) {
      wake_.wait_until(state_.mutex, ready_at);
    }
    return stopping_ ? absl::CancelledError("the tier is closing") : absl::OkStatus();
  };

  CheckHeaders();
  uint64_t damaged = 0;
  TenantId tenant = 0;
  std::optional<Key> after;
  for (;;) {
    PieceSource source;
    {
      MutexLock lock(state_.mutex);
      const PieceView& view = state_.pieces.view();
      const std::optional<PieceView::Number> piece =
          stopping_ ? std::nullopt : view.Next(tenant, after.has_value() ? &*after : nullptr);
      if (!piece.has_value()) return damaged;
      tenant = view.tenant(*piece);
      after = view.key(*piece);
      source.key = *after;
      source.record = view.record(*piece);
      const PieceRecord& record = source.record;
      source.base = state_.files[record.base.segment].get();
      state_.space.Pin(record.base.segment);
      if (record.has_refinement()) {
        source.refinement = state_.files[record.refinement.segment].get();
        state_.space.Pin(record.refinement.segment);
      }
    }
    if (CheckPiece(tenant, source, pace)) ++damaged;
  }
}

bool Scrubber::CheckPiece(TenantId tenant, const PieceSource& source, RunStream::Window window) {
  const absl::Status status = stream_->Read(source, true, true, window);
  const PieceRecord& record = source.record;
  MutexLock lock(state_.mutex);
  state_.space.Unpin(record.base.segment);
  if (record.has_refinement()) state_.space.Unpin(record.refinement.segment);
  bool damaged = false;
  if (!status.ok() && !absl::IsCancelled(status)) {
    LogError(absl::IsDataLoss(status) ? "dropped a corrupt piece" : "cannot read a piece",
             {{"tenant", tenant},
              {"key", source.key.digest.Hex()},
              {"segment", record.base.segment},
              {"reason", std::string(status.message())}});
  }
  if (absl::IsDataLoss(status)) {
    const std::optional<ResidentPieces::Number> piece =
        state_.pieces.Find(tenant, source.key, record.summary.content_id);
    // Reclaim may have moved it meanwhile, verified; then that is another copy.
    if (piece.has_value()) {
      const PieceRecord now = state_.pieces.view().record(*piece);
      damaged =
          now.base == record.base && (!now.has_refinement() || now.refinement == record.refinement);
      if (damaged) state_.pieces.ForgetDamaged(*piece);
    }
  }
  state_.WakeCommitterIfNeeded();
  return damaged;
}

void Scrubber::CheckHeaders() {
  for (uint32_t segment = 0; segment < state_.layout.max_segments; ++segment) {
    EnvFile* file = nullptr;
    {
      MutexLock lock(state_.mutex);
      file = state_.files[segment].get();
    }
    if (file == nullptr) continue;
    const SegmentIdentity expected{.node_id = state_.layout.node_id, .number = segment};
    const absl::StatusOr<std::optional<SegmentIdentity>> header = ReadSegmentHeader(*file);
    absl::Status status = header.status();
    if (status.ok() && *header != expected) {
      LogWarning("damaged header of a segment", {{"file", file->path()}});
      status = WriteSegmentHeader(*file, expected);
    }
    if (!status.ok()) {
      LogError("cannot mend the header of a segment",
               {{"file", file->path()}, {"reason", std::string(status.message())}});
    }
  }
}

}  // namespace reprise::storage
