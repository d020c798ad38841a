// Copies pieces from the host tier to the nvme tier: those that are to be durable, and, ahead of
// eviction, those that the host policy thinks worth it.
//
// Demotion keeps what eviction will come to next copied or not worth it, so that eviction only ever
// drops and never waits for the disk. A piece is written from its extent, which its reference keeps
// in place meanwhile; one write of a key runs at a time.
//
// Thread-safe. Borrows the tiers, the loader, the executor and the clock; Stop comes before any of
// them goes.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <utility>
#include <vector>

#include "absl/container/btree_map.h"

#include "common/clock.h"
#include "common/executor.h"
#include "common/mutex.h"
#include "storage/host/host_store.h"
#include "storage/nvme/nvme_tier.h"
#include "storage/piece_store.h"
#include "storage/tiered/piece_loader.h"

namespace reprise::storage {

class PieceSaver {
 public:
  static constexpr size_t kMaxRunning = 64;
  static constexpr size_t kMaxWaiting = 4096;
  // Of the arena, what is kept ready to be dropped, and what writes that run at once may pin.
  static constexpr uint64_t kAheadShare = 8;
  static constexpr uint64_t kArenaShare = 8;
  // How often is looked ahead while as many bytes come as were looked at.
  static constexpr uint64_t kLooksAhead = 16;
  // No demotion for so long after a write failed: the disk is full or ill, and memory serves on.
  static constexpr Duration kPause = std::chrono::seconds(1);

  PieceSaver(HostStore& host, NvmeTier& nvme, PieceLoader& loader, Executor& executor,
             const Clock& clock);

  // As PieceStore::Persist.
  void Persist(TenantId tenant, const Key& key, const ContentId& content,
               PieceStore::Persisted done) ABSL_LOCKS_EXCLUDED(mutex_);

  // The host tier took so many bytes more.
  void Added(uint64_t bytes);
  // A tenant has this quota of memory, within which its own pieces go for what it brings. Not
  // thread-safe, unlike the rest.
  void LookAheadWithin(uint64_t quota_bytes);

  // The piece was removed from the host tier and is about to be from the nvme tier: what a write
  // that is under way brings there goes again, and until then Hides says so.
  void Cancel(TenantId tenant, const Key& key) ABSL_LOCKS_EXCLUDED(mutex_);
  void CancelNamespace(TenantId tenant, const Digest& fingerprint) ABSL_LOCKS_EXCLUDED(mutex_);
  // Whether what the nvme tier shows under the key was removed. Costs one load while nothing is.
  bool Hides(TenantId tenant, const Key& key) const ABSL_LOCKS_EXCLUDED(mutex_);
  // All of the tenant's that are hidden, in order.
  std::vector<Key> Hidden(TenantId tenant) const ABSL_LOCKS_EXCLUDED(mutex_);

  // Begins to write everything in memory that the host policy thinks worth a copy, what it values
  // most first, after what it builds on. For a store that serves no longer; once.
  void SaveAll() ABSL_LOCKS_EXCLUDED(mutex_);
  // Whether some of that is still to be written.
  bool saving() const ABSL_LOCKS_EXCLUDED(mutex_);

  // Fails what waits and waits for what runs. Blocks.
  void Stop() ABSL_LOCKS_EXCLUDED(mutex_);

  struct Figures {
    uint64_t demoted_pieces = 0;
    uint64_t demoted_bytes = 0;
    uint64_t persisted_pieces = 0;
  };
  Figures figures() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  struct Write;
  using WritePtr = std::shared_ptr<Write>;
  using Name = std::pair<TenantId, Key>;

  void Submit(WritePtr write) ABSL_LOCKS_EXCLUDED(mutex_);
  void StartWaiting() ABSL_LOCKS_EXCLUDED(mutex_);
  void Start(const WritePtr& write);
  void Complete(const WritePtr& write, const absl::Status& status) ABSL_LOCKS_EXCLUDED(mutex_);
  // What was to be written is not held any more.
  void Forget(const WritePtr& write) ABSL_LOCKS_EXCLUDED(mutex_);
  void Release(Write& write) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Ends it, before it ran, for whoever asked for it.
  void Answer(Write& write, const absl::Status& status);
  void ScheduleDemotion();
  void Demote() ABSL_LOCKS_EXCLUDED(mutex_);
  void SaveMore() ABSL_LOCKS_EXCLUDED(mutex_);
  void SubmitDemotions(std::vector<std::shared_ptr<const HostPiece>> pieces)
      ABSL_LOCKS_EXCLUDED(mutex_);
  void MarkRemoved(Write& write) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  HostStore& host_;
  NvmeTier& nvme_;
  PieceLoader& loader_;
  Executor& executor_;
  const Clock& clock_;
  const uint64_t ahead_bytes_;
  std::atomic<uint64_t> look_every_bytes_;
  const uint64_t max_running_bytes_;

  std::atomic<uint64_t> added_bytes_{0};
  std::atomic<bool> demotion_scheduled_{false};
  std::atomic<size_t> removed_{0};  // writes under way of pieces that were removed

  mutable Mutex mutex_;
  CondVar ended_;
  absl::btree_map<Name, WritePtr> running_writes_ ABSL_GUARDED_BY(mutex_);
  std::deque<WritePtr> waiting_ ABSL_GUARDED_BY(mutex_);
  uint64_t running_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  size_t demotions_ ABSL_GUARDED_BY(mutex_) = 0;  // waiting or running
  TimePoint paused_until_ ABSL_GUARDED_BY(mutex_){};
  bool saving_all_ ABSL_GUARDED_BY(mutex_) = false;
  // Of SaveAll, the next at the back; and calls that are about to submit one.
  std::vector<std::shared_ptr<const HostPiece>> unsaved_ ABSL_GUARDED_BY(mutex_);
  size_t submitting_ ABSL_GUARDED_BY(mutex_) = 0;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  Figures figures_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace reprise::storage
