// Host memory over a disk: every piece that either tier has, as one store.
//
// What is in memory is served from there; what is only on the disk is read into memory first
// (Open). The host policy decides what leaves memory and what of that is worth a copy on the disk,
// which is made ahead of time, so that making room never waits for the disk. The nvme tier decides
// for itself what it gives up. Where the tiers hold different content under one key, memory's is
// newer and is served; the disk's goes when that is written, so that a durable piece is never
// replaced by one that is not.
//
// Thread-safe. Find, Peek and Describe touch memory only and never allocate.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>

#include "common/clock.h"
#include "common/executor.h"
#include "common/mutex.h"
#include "storage/host/host_store.h"
#include "storage/nvme/nvme_tier.h"
#include "storage/piece_store.h"
#include "storage/tiered/piece_loader.h"
#include "storage/tiered/piece_saver.h"

namespace reprise::storage {

struct TieredStoreOptions {
  HostStoreOptions host{};
  NvmeOptions nvme{};  // its `buffers` are the host tier's arena
  // That verify what was read, and copy nothing.
  size_t threads = 2;
};

class TieredStore final : public PieceStore {
 public:
  // Errors of HostStore::Create and NvmeTier::Open.
  static absl::StatusOr<std::unique_ptr<TieredStore>> Create(const TieredStoreOptions& options);
  // Answers what waits, finishes what was begun.
  ~TieredStore() override;
  TieredStore(const TieredStore&) = delete;
  TieredStore& operator=(const TieredStore&) = delete;

  HostStore& host() const { return *host_; }
  NvmeTier& nvme() const { return *nvme_; }

  absl::StatusOr<std::unique_ptr<Upload>> BeginUpload(TenantId tenant,
                                                      const UploadOffer& offer) override;
  std::optional<PieceSummary> Describe(TenantId tenant, const Key& key) const override;
  PieceRef Find(TenantId tenant, const Key& key) override;
  PieceRef Peek(TenantId tenant, const Key& key) const override;
  void Open(TenantId tenant, const Key& key, uint32_t level, Opened opened) override;
  void Warm(TenantId tenant, const Key& key, uint32_t level, Opened opened) override;
  void Persist(TenantId tenant, const Key& key, const ContentId& content, Persisted done) override;
  absl::StatusOr<TenantId> TenantFor(std::string_view name) override;
  // A piece is held where it reaches the level, in memory if both tiers do.
  bool Hold(TenantId tenant, const Key& key, uint32_t level, Deadline until) override;
  // On the disk, where the piece is written first unless it is there; memory may then do without.
  void Pin(TenantId tenant, const Key& key, Deadline until, Pinned done) override;
  bool Unpin(TenantId tenant, const Key& key) override;
  void SetQuota(TenantId tenant, const TenantQuota& quota) override;
  // With `expected`, only the copy in memory: the disk's may be intact.
  bool Remove(TenantId tenant, const Key& key, const HeldPiece* expected) override;
  uint64_t RemoveNamespace(TenantId tenant, const Digest& fingerprint) override;
  ListPage List(TenantId tenant, const Key* after, uint32_t limit,
                const Digest* fingerprint) const override;
  StoreUsage usage() const override;

  // Begins to write to the disk what only memory has, as far as the policy thinks it worth that,
  // what it values most first. Once, before the destructor, which gives up what is left of it.
  void BeginSaving() { saver_->SaveAll(); }
  bool saving() const { return saver_->saving(); }

  // Begins a pass of the scrubber when one is due: a minute after the start, an hour after the
  // last. To be called about once a second.
  void Sweep() ABSL_LOCKS_EXCLUDED(scrub_mutex_);

 private:
  class TieredUpload;

  TieredStore(std::unique_ptr<HostStore> host, std::unique_ptr<NvmeTier> nvme,
              const TieredStoreOptions& options);

  // A piece was published: another content of it on the disk is out of date.
  void Published(TenantId tenant, const UploadOffer& offer);

  // Of the disk's pieces, without those that are being removed.
  ListPage ListDisk(TenantId tenant, const Key* after, uint32_t limit,
                    const Digest* fingerprint) const;

  const Clock& clock_;
  Mutex scrub_mutex_;
  bool scrubbing_ ABSL_GUARDED_BY(scrub_mutex_) = false;
  TimePoint scrub_due_ ABSL_GUARDED_BY(scrub_mutex_);
  const std::unique_ptr<HostStore> host_;
  std::unique_ptr<NvmeTier> nvme_;
  std::unique_ptr<Executor> executor_;
  const std::unique_ptr<PieceLoader> loader_;
  const std::unique_ptr<PieceSaver> saver_;
};

}  // namespace reprise::storage
