#include "storage/host/host_upload.h"

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

}  // namespace

HostUpload::HostUpload(HostStore& store, std::shared_ptr<HostMemory> memory, Extent extent,
                       ByteCharge charge, uint64_t piece_overhead_bytes, TenantId tenant,
                       const Key& key, const PieceAttributes& attributes)
    : store_(store),
      memory_(std::move(memory)),
      tenant_(tenant),
      key_(key),
      attributes_(attributes),
      total_bytes_(extent.size_bytes()),
      piece_overhead_bytes_(piece_overhead_bytes),
      container_(extent.bytes()),
      extent_(std::move(extent)),
      charge_(std::move(charge)) {
  memory_->uploads.fetch_add(1, std::memory_order_relaxed);
}

HostUpload::~HostUpload() { memory_->uploads.fetch_sub(1, std::memory_order_relaxed); }

absl::Status HostUpload::Write(uint64_t offset, ByteSpan bytes) {
  if (offset > total_bytes_ || bytes.size() > total_bytes_ - offset) {
    return absl::InvalidArgumentError(absl::StrCat("upload of piece ", key_.digest.Hex(), ": ",
                                                   bytes.size(), " bytes at offset ", offset,
                                                   " are outside its ", total_bytes_, " bytes"));
  }
  if (bytes.empty()) return absl::OkStatus();
  {
    MutexLock lock(mutex_);
    if (committed_) {
      return absl::InvalidArgumentError(
          absl::StrCat("upload of piece ", key_.digest.Hex(), " is over"));
    }
    if (absl::Status status = claimed_.Claim(offset, offset + bytes.size()); !status.ok()) {
      return Annotate(status, absl::StrCat("upload of piece ", key_.digest.Hex()));
    }
  }
  std::memcpy(container_.data() + offset, bytes.data(), bytes.size());
  written_bytes_.fetch_add(bytes.size(), std::memory_order_release);
  return absl::OkStatus();
}

absl::StatusOr<CommitOutcome> HostUpload::Commit() {
  {
    MutexLock lock(mutex_);
    if (committed_) {
      return absl::InvalidArgumentError(
          absl::StrCat("upload of piece ", key_.digest.Hex(), " was committed before"));
    }
    if (!complete()) {
      return absl::InvalidArgumentError(absl::StrCat(
          "upload of piece ", key_.digest.Hex(), " has only ",
          written_bytes_.load(std::memory_order_relaxed), " of its ", total_bytes_, " bytes"));
    }
    committed_ = true;
  }
  absl::StatusOr<PieceMeta> meta = Verify(container_);
  if (!meta.ok()) {
    extent_.reset();
    charge_.reset();
    return Annotate(meta.status(), absl::StrCat("piece ", key_.digest.Hex()));
  }
  ByteCharge charge = *std::move(charge_);
  Extent extent = *std::move(extent_);
  charge_.reset();
  extent_.reset();
  charge.ShrinkTo(piece_overhead_bytes_ + ParsedBytes(*meta));
  return store_.Publish(std::make_shared<HostPiece>(memory_, std::move(extent), std::move(charge),
                                                    tenant_, *std::move(meta), attributes_));
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
  if (meta.total_bytes() != container.size()) {
    return absl::DataLossError(absl::StrCat("container of ", container.size(),
                                            " bytes should have ", meta.total_bytes(),
                                            " by its own header"));
  }
  if (meta.header().key != key_) {
    return absl::DataLossError(
        absl::StrCat("its header names another key, ", meta.header().key.digest.Hex()));
  }
  REPRISE_RETURN_IF_ERROR(
      meta.VerifyBody(container.subspan(meta.meta_bytes()), meta.level_count() - 1));
  return meta;
}

}  // namespace reprise::storage
