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
  // piece to come, of which `piece_overhead_bytes` stay with the piece.
  HostUpload(HostStore& store, std::shared_ptr<HostMemory> memory, Extent extent, ByteCharge charge,
             uint64_t piece_overhead_bytes, TenantId tenant, const Key& key,
             const PieceAttributes& attributes);
  ~HostUpload() override;
  HostUpload(const HostUpload&) = delete;
  HostUpload& operator=(const HostUpload&) = delete;

  uint64_t total_bytes() const override { return total_bytes_; }
  absl::Status Write(uint64_t offset, ByteSpan bytes) override ABSL_LOCKS_EXCLUDED(mutex_);
  bool complete() const override {
    return written_bytes_.load(std::memory_order_acquire) == total_bytes_;
  }
  absl::StatusOr<CommitOutcome> Commit() override ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  absl::StatusOr<PieceMeta> Verify(ByteSpan container);

  HostStore& store_;
  const std::shared_ptr<HostMemory> memory_;
  const TenantId tenant_;
  const Key key_;
  const PieceAttributes attributes_;
  const uint64_t total_bytes_;
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
