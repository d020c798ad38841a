// One container on its way into the host tier, from a publisher or from a slower tier.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>

#include "common/mutex.h"
#include "storage/host/host_piece.h"
#include "storage/host/written_ranges.h"
#include "storage/piece_store.h"

namespace reprise::storage {

class HostStore;

// Thread-safe as Upload says. `store` must outlive it.
class HostUpload final : public Upload {
 public:
  // `extent` has the container's length; `charge` covers this object and the store's share of the
  // piece to come, of which `piece_overhead_bytes` stay with the piece. `restored` is null, or what
  // is held of the same content, and is copied. The store has counted `tenant_share_bytes` of it
  // among the tenant's uploads.
  HostUpload(HostStore& store, std::shared_ptr<HostMemory> memory, Extent extent, ByteCharge charge,
             uint64_t piece_overhead_bytes, TenantId tenant, const UploadOffer& offer,
             const HostPiece* restored, uint64_t tenant_share_bytes);
  ~HostUpload() override;
  HostUpload(const HostUpload&) = delete;
  HostUpload& operator=(const HostUpload&) = delete;

  uint64_t total_bytes() const override { return offer_.total_bytes; }
  uint64_t from_offset() const override { return from_offset_; }
  absl::StatusOr<bool> Write(uint64_t offset, ByteSpan bytes) override ABSL_LOCKS_EXCLUDED(mutex_);
  absl::StatusOr<CommitOutcome> Commit() override ABSL_LOCKS_EXCLUDED(mutex_);

  // Instead of Write and Commit, for a piece that comes from a slower tier: the memory for what is
  // missing, its address and length multiples of kPlaneAlignment, to be filled from
  // load_from_offset() of the container on.
  uint64_t load_from_offset() const { return ExtentAllocator::OccupiedBytes(from_offset_); }
  MutableByteSpan load_area() const;
  // As Commit, when load_area() has been filled: the piece as it is held now, which is another's
  // where that reaches this one or is of other content, since what memory holds is newer. CANCELLED
  // when `cancelled` was set before the piece became visible.
  absl::StatusOr<PieceRef> CommitLoad(const std::atomic<bool>& cancelled)
      ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  // Verifies the container, which is complete, and makes it a piece that nobody sees yet.
  absl::StatusOr<std::shared_ptr<HostPiece>> Finish();
  absl::StatusOr<PieceMeta> Verify(ByteSpan container);
  // That what came is what was offered.
  absl::Status CheckOffer(const PieceMeta& meta) const;

  HostStore& store_;
  const std::shared_ptr<HostMemory> memory_;
  const TenantId tenant_;
  const UploadOffer offer_;
  const uint64_t from_offset_;
  const uint64_t piece_overhead_bytes_;
  const uint64_t tenant_share_bytes_;
  const MutableByteSpan container_;
  std::optional<Extent> extent_;  // gone after Commit, to the piece or to the arena
  std::optional<ByteCharge> charge_;
  std::atomic<uint64_t> written_bytes_{0};
  Mutex mutex_;
  WrittenRanges claimed_ ABSL_GUARDED_BY(mutex_);
  bool committed_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace reprise::storage
