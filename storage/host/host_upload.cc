#include "storage/host/host_upload.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"

#include "storage/host/host_store.h"

namespace reprise::storage {
namespace {

// Allocator's header and rounding, for each block on the heap.
constexpr uint64_t kHeapBlockBytes = 24;

// What a container's header and directory take at most once parsed, and while being parsed: the
// directory's entries and the levels' distortions are as long in memory as in the container, the
// rest is small.
uint64_t MaxParsedBytes(size_t meta_bytes) {
  return meta_bytes + kMaxPlanes * (sizeof(Level) + kHeapBlockBytes) + 4 * kKiB;
}

// What they take on the heap now.
uint64_t ParsedBytes(const PieceMeta& meta) {
  const PieceHeader& header = meta.header();
  uint64_t bytes = meta.segments().capacity() * sizeof(Segment) +
                   header.codec_parameters.capacity() + header.levels.capacity() * sizeof(Level) +
                   3 * kHeapBlockBytes;
  for (const Level& level : header.levels) {
    bytes += level.distortions.capacity() * sizeof(Distortion) + kHeapBlockBytes;
  }
  return bytes;
}

// Direct writes to a disk take the last block whole, so nothing of others may be left in it.
void ClearTail(const Extent& extent) {
  std::ranges::fill(extent.occupied().subspan(extent.size_bytes()), std::byte{0});
}

}  // namespace

HostUpload::HostUpload(HostStore& store, std::shared_ptr<HostMemory> memory, Extent extent,
                       ByteCharge charge, uint64_t piece_overhead_bytes, TenantId tenant,
                       const UploadOffer& offer, const HostPiece* restored,
                       uint64_t tenant_share_bytes)
    : store_(store),
      memory_(std::move(memory)),
      tenant_(tenant),
      offer_(offer),
      from_offset_(restored == nullptr ? 0 : restored->meta().bytes_to(restored->level())),
      piece_overhead_bytes_(piece_overhead_bytes),
      tenant_share_bytes_(tenant_share_bytes),
      container_(extent.bytes()),
      extent_(std::move(extent)),
      charge_(std::move(charge)),
      written_bytes_(from_offset_) {
  memory_->uploads.fetch_add(1, std::memory_order_relaxed);
  // Header and directory lie right before the body.
  if (restored != nullptr) {
    std::memcpy(container_.data(), restored->meta_bytes().data(), from_offset_);
  }
  ClearTail(*extent_);
}

HostUpload::~HostUpload() {
  memory_->uploads.fetch_sub(1, std::memory_order_relaxed);
  store_.EndUpload(tenant_, tenant_share_bytes_);
}

absl::StatusOr<bool> HostUpload::Write(uint64_t offset, ByteSpan bytes) {
  if (offset < from_offset_ || offset > total_bytes() || bytes.size() > total_bytes() - offset) {
    return absl::InvalidArgumentError(absl::StrCat(
        "upload of piece ", offer_.key.digest.Hex(), ": ", bytes.size(), " bytes at offset ",
        offset, " are outside bytes ", from_offset_, " to ", total_bytes(), ", which it wants"));
  }
  if (bytes.empty()) return false;
  {
    MutexLock lock(mutex_);
    if (committed_) {
      return absl::InvalidArgumentError(
          absl::StrCat("upload of piece ", offer_.key.digest.Hex(), " is over"));
    }
    if (absl::Status status = claimed_.Claim(offset, offset + bytes.size()); !status.ok()) {
      return Annotate(status, absl::StrCat("upload of piece ", offer_.key.digest.Hex()));
    }
  }
  std::memcpy(container_.data() + offset, bytes.data(), bytes.size());
  // Writes never overlap, so the sum reaches the total exactly once, after every copy has been
  // made.
  const uint64_t before = written_bytes_.fetch_add(bytes.size(), std::memory_order_acq_rel);
  return before + bytes.size() == total_bytes();
}

absl::StatusOr<CommitOutcome> HostUpload::Commit() {
  {
    MutexLock lock(mutex_);
    if (committed_) {
      return absl::InvalidArgumentError(
          absl::StrCat("upload of piece ", offer_.key.digest.Hex(), " was committed before"));
    }
    const uint64_t written = written_bytes_.load(std::memory_order_acquire);
    if (written != total_bytes()) {
      return absl::InvalidArgumentError(absl::StrCat("upload of piece ", offer_.key.digest.Hex(),
                                                     " has only ", written, " of its ",
                                                     total_bytes(), " bytes"));
    }
    committed_ = true;
  }
  REPRISE_ASSIGN_OR_RETURN(std::shared_ptr<HostPiece> piece, Finish());
  return store_.Publish(std::move(piece));
}

MutableByteSpan HostUpload::load_area() const {
  const MutableByteSpan all = extent_->occupied();
  return all.subspan(std::min<uint64_t>(load_from_offset(), all.size()));
}

absl::StatusOr<PieceRef> HostUpload::CommitLoad(const std::atomic<bool>& cancelled) {
  {
    MutexLock lock(mutex_);
    if (committed_ || written_bytes_.load(std::memory_order_relaxed) != from_offset_) std::abort();
    committed_ = true;
  }
  // Planes start at multiples of the alignment, so what lies between the planes held and those that
  // were read is padding.
  const MutableByteSpan all = extent_->occupied();
  const MutableByteSpan gap = all.first(all.size() - load_area().size()).subspan(from_offset_);
  std::ranges::fill(gap, std::byte{0});
  ClearTail(*extent_);
  REPRISE_ASSIGN_OR_RETURN(std::shared_ptr<HostPiece> piece, Finish());
  return store_.PublishLoaded(std::move(piece), cancelled);
}

absl::StatusOr<std::shared_ptr<HostPiece>> HostUpload::Finish() {
  absl::StatusOr<PieceMeta> meta = Verify(container_);
  if (!meta.ok()) {
    extent_.reset();
    charge_.reset();
    // Either part may be at fault; while the held one is, no upload can complete it.
    if (from_offset_ > 0 && absl::IsDataLoss(meta.status())) {
      store_.RemoveIfDamaged(tenant_, offer_.key);
    }
    return Annotate(meta.status(), absl::StrCat("piece ", offer_.key.digest.Hex()));
  }
  ByteCharge charge = *std::move(charge_);
  Extent extent = *std::move(extent_);
  charge_.reset();
  extent_.reset();
  charge.ShrinkTo(piece_overhead_bytes_ + ParsedBytes(*meta));
  return std::make_shared<HostPiece>(memory_, std::move(extent), std::move(charge), tenant_,
                                     *std::move(meta), offer_.quality.planes - 1,
                                     offer_.attributes);
}

absl::StatusOr<PieceMeta> HostUpload::Verify(ByteSpan container) {
  REPRISE_ASSIGN_OR_RETURN(const size_t meta_bytes, PieceMeta::PeekMetaBytes(container));
  if (meta_bytes > container.size()) {
    return absl::DataLossError(absl::StrCat("container of ", container.size(),
                                            " bytes is cut short: its header and directory have ",
                                            meta_bytes));
  }
  REPRISE_RETURN_IF_ERROR(store_.GrowCharge(*charge_, MaxParsedBytes(meta_bytes)));
  REPRISE_ASSIGN_OR_RETURN(PieceMeta meta, PieceMeta::Parse(container));
  REPRISE_RETURN_IF_ERROR(CheckOffer(meta));
  REPRISE_RETURN_IF_ERROR(
      meta.VerifyBody(container.subspan(meta.meta_bytes()), offer_.quality.planes - 1));
  return meta;
}

absl::Status HostUpload::CheckOffer(const PieceMeta& meta) const {
  if (meta.header().key != offer_.key) {
    return absl::DataLossError(
        absl::StrCat("its header names another key, ", meta.header().key.digest.Hex()));
  }
  if (meta.header().content_id != offer_.quality.content_id) {
    return absl::DataLossError(absl::StrCat("it has content id ",
                                            meta.header().content_id.digest.Hex(), ", offered was ",
                                            offer_.quality.content_id.digest.Hex()));
  }
  const std::optional<uint32_t> level = meta.LevelEndingAt(total_bytes());
  if (!level.has_value()) {
    return absl::DataLossError(
        absl::StrCat("container of ", total_bytes(),
                     " bytes ends with none of its levels; by its own header it has ",
                     meta.total_bytes(), " with all of them"));
  }
  if (QualityOf(meta, *level + 1) != offer_.quality) {
    const Distortion worst = meta.header().levels[*level].Worst();
    return absl::DataLossError(
        absl::StrCat("its ", *level + 1, " planes leave an error of ", worst.key, " in K and ",
                     worst.value, " in V; offered were ", offer_.quality.planes, " with ",
                     offer_.quality.distortion.key, " and ", offer_.quality.distortion.value));
  }
  return absl::OkStatus();
}

}  // namespace reprise::storage
