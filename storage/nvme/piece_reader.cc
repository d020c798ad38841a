#include "storage/nvme/piece_reader.h"

#include <algorithm>
#include <array>
#include <utility>

#include "absl/strings/str_cat.h"

namespace reprise::storage {

struct PieceReader::Pending {
  struct Run final : DiskOperation {
    void Done(absl::Status status) override {
      pending->reader->RunDone(pending, std::move(status));
    }
    Pending* pending = nullptr;
    uint32_t segment = 0;
  };

  PieceReader* reader = nullptr;
  NvmeTier::Done done;
  std::array<Run, 2> runs;
  uint32_t run_count = 0;
  uint32_t runs_left = 0;
  absl::Status status;
};

PieceReader::PieceReader(TierState& state, std::unique_ptr<DiskQueue> queue)
    : state_(state), queue_(std::move(queue)) {}

PieceReader::~PieceReader() = default;

void PieceReader::Read(TenantId tenant, const Key& key, const ContentId& content, uint32_t planes,
                       uint64_t from_offset, MutableByteSpan to, NvmeTier::Done done) {
  absl::Status status;
  std::unique_ptr<Pending> pending;
  {
    MutexLock lock(state_.mutex);
    const PieceView& view = state_.pieces.view();
    const std::optional<ResidentPieces::Number> piece = state_.pieces.FindLive(tenant, key);
    // Parsed once: it is most of what a read costs beside the disk.
    const PieceRecord record = piece.has_value() ? view.record(*piece) : PieceRecord{};
    if (!piece.has_value() || record.summary.content_id != content) {
      status = absl::NotFoundError(
          absl::StrCat("piece ", key.digest.Hex(), " is not on the disk with that content"));
    } else {
      if (unused_.empty()) {
        pending = std::make_unique<Pending>();
        pending->reader = this;
      } else {
        pending = std::move(unused_.back());
        unused_.pop_back();
      }
      status = Prepare(*pending, record, planes, from_offset, to);
      if (status.ok()) {
        state_.pieces.Use(*piece);
        ++state_.reads_under_way;
      } else {
        unused_.push_back(std::move(pending));
      }
    }
  }
  if (!status.ok()) return state_.Reply(std::move(done), std::move(status));
  pending->done = std::move(done);
  const std::array<DiskOperation*, 2> operations = {&pending->runs[0], &pending->runs[1]};
  const uint32_t count = pending.release()->run_count;
  queue_->Submit(std::span(operations).first(count));
}

absl::Status PieceReader::Prepare(Pending& pending, const PieceRecord& record, uint32_t planes,
                                  uint64_t from_offset, MutableByteSpan to) {
  if (planes == 0 || planes > record.summary.planes_held) {
    return absl::NotFoundError(absl::StrCat("a piece has ", record.summary.planes_held,
                                            " planes on the disk, not ", planes));
  }
  const uint64_t end = record.PagesTo(planes);
  if (from_offset >= end || from_offset % kPageBytes != 0 || to.size() < end - from_offset ||
      reinterpret_cast<uintptr_t>(to.data()) % kPageBytes != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("a read of bytes ", from_offset, " to ", end, " of a container into ",
                     to.size(), " bytes; both begin and end with a page of ", kPageBytes));
  }
  pending.run_count = 0;
  pending.status = absl::OkStatus();
  const uint64_t split = std::min(end, record.PagesTo(record.base_planes));
  if (from_offset < split) {
    AddRun(pending, record.base, from_offset, to.first(split - from_offset));
  }
  if (end > split) {
    const uint64_t begin = std::max(from_offset, split);
    AddRun(pending, record.refinement, begin - split, to.subspan(begin - from_offset, end - begin));
  }
  pending.runs_left = pending.run_count;
  return absl::OkStatus();
}

void PieceReader::AddRun(Pending& pending, const RunPlace& place, uint64_t offset,
                         MutableByteSpan to) {
  Pending::Run& run = pending.runs[pending.run_count++];
  run.pending = &pending;
  run.segment = place.segment;
  run.kind = DiskOperation::Kind::kRead;
  run.file = state_.files[place.segment].get();
  run.offset = place.offset() + offset;
  run.bytes = to;
  state_.space.Pin(place.segment);
}

void PieceReader::RunDone(Pending* pending, absl::Status status) {
  NvmeTier::Done done;
  {
    MutexLock lock(state_.mutex);
    if (!status.ok() && pending->status.ok()) pending->status = std::move(status);
    if (--pending->runs_left > 0) return;
    for (uint32_t i = 0; i < pending->run_count; ++i) {
      state_.space.Unpin(pending->runs[i].segment);
      state_.counted.bytes_read += pending->runs[i].bytes.size();
    }
    --state_.reads_under_way;
    state_.WakeCommitterIfNeeded();
    done = std::move(pending->done);
    status = std::move(pending->status);
    unused_.emplace_back(pending);
  }
  std::move(done)(std::move(status));
}

}  // namespace reprise::storage
