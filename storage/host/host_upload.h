// One container on its way into the host tier.
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
  // is held of the same content, and is copied. The store has counted it among the tenant's
  // uploads.
  HostUpload(HostStore& store, std::shared_ptr<HostMemory> memory, Extent extent, ByteCharge charge,
             uint64_t piece_overhead_bytes, TenantId tenant, const UploadOffer& offer,
             const HostPiece* restored);
  ~HostUpload() override;
  HostUpload(const HostUpload&) = delete;
  HostUpload& operator=(const HostUpload&) = delete;

  uint64_t total_bytes() const override { return offer_.total_bytes; }
  uint64_t from_offset() const override { return from_offset_; }
  absl::StatusOr<bool> Write(uint64_t offset, ByteSpan bytes) override ABSL_LOCKS_EXCLUDED(mutex_);
  absl::StatusOr<CommitOutcome> Commit() override ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  absl::StatusOr<PieceMeta> Verify(ByteSpan container);
  // That what came is what was offered.
  absl::Status CheckOffer(const PieceMeta& meta) const;

  HostStore& store_;
  const std::shared_ptr<HostMemory> memory_;
  const TenantId tenant_;
  const UploadOffer offer_;
  const uint64_t from_offset_;
  const uint64_t piece_overhead_bytes_;
  const MutableByteSpan container_;
  std::optional<Extent> extent_;  // gone after Commit, to the piece or to the arena
  std::optional<ByteCharge> charge_;
  std::atomic<uint64_t> written_bytes_{0};
  Mutex mutex_;
  WrittenRanges claimed_ ABSL_GUARDED_BY(mutex_);
  bool committed_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace reprise::storage
