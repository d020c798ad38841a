// Brings pieces from the nvme tier into the host tier.
//
// The disk writes into an extent of the arena, which is what the wire sends from; what it brought
// is verified as if it had been uploaded, on the executor, and only then visible. Requests for a
// piece that is being loaded join its load. What runs at once is bounded in number and bytes; the
// rest waits in order, bounded in number, and so does what a reader wants while memory is full of
// pieces that are being sent: it is tried again soon, for a bounded time.
//
// Thread-safe. Borrows the tiers and the executor; Stop comes before any of them goes.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "absl/container/btree_map.h"

#include "common/executor.h"
#include "common/mutex.h"
#include "storage/host/host_store.h"
#include "storage/nvme/nvme_tier.h"
#include "storage/piece_store.h"

namespace reprise::storage {

class PieceLoader {
 public:
  static constexpr size_t kMaxRunning = 64;
  static constexpr size_t kMaxWaiting = 8192;
  // Loads that run at once take at most 1 / kArenaShare of the arena; one alone may be larger.
  static constexpr uint64_t kArenaShare = 4;
  // For how long memory may be full, with nothing else being loaded, until what a reader waits for
  // is given up; and how often it is tried again.
  static constexpr std::chrono::milliseconds kPatience{500};
  static constexpr std::chrono::milliseconds kRetryPause{1};

  // `taking` is told how much memory each load is about to take.
  PieceLoader(HostStore& host, NvmeTier& nvme, Executor& executor,
              std::function<void(uint64_t bytes)> taking);
  // After Stop.
  ~PieceLoader();

  // By a reader now, or by nobody yet.
  enum class Wanted : uint8_t { kNow, kLater };
  // As PieceStore::Open, and as its Warm.
  void Open(TenantId tenant, const Key& key, uint32_t level, Wanted wanted,
            PieceStore::Opened opened) ABSL_LOCKS_EXCLUDED(mutex_);

  // The piece is being removed: what is under way of it ends as a miss. To be followed by its
  // removal from the host tier, which may have it already.
  void Cancel(TenantId tenant, const Key& key) ABSL_LOCKS_EXCLUDED(mutex_);
  void CancelNamespace(TenantId tenant, const Digest& fingerprint) ABSL_LOCKS_EXCLUDED(mutex_);

  // Ends what waits and waits for what runs; every later Open finds only what is in memory. Blocks.
  void Stop() ABSL_LOCKS_EXCLUDED(mutex_);

  struct Figures {
    uint64_t pieces = 0;  // loaded, since start
    uint64_t bytes = 0;   // of those
    uint64_t failed = 0;  // unreadable, or no memory for them
    uint64_t damaged = 0;
  };
  Figures figures() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  struct Load;
  using LoadPtr = std::shared_ptr<Load>;
  using Name = std::pair<TenantId, Key>;

  void StartWaiting() ABSL_LOCKS_EXCLUDED(mutex_);
  // False: there is no room now, and it waits on until one that runs ends, or for a while.
  bool Start(const LoadPtr& load) ABSL_LOCKS_EXCLUDED(mutex_);
  bool Postpone(const LoadPtr& load) ABSL_LOCKS_EXCLUDED(mutex_);
  void RetryMain() ABSL_LOCKS_EXCLUDED(mutex_);
  void OnRead(const LoadPtr& load, absl::Status status);
  // Verifies and publishes what was read, or says why there is nothing, and answers.
  void Complete(const LoadPtr& load, absl::Status status) ABSL_LOCKS_EXCLUDED(mutex_);
  void CountFailure(const Load& load, const absl::Status& status) ABSL_LOCKS_EXCLUDED(mutex_);

  HostStore& host_;
  NvmeTier& nvme_;
  Executor& executor_;
  const std::function<void(uint64_t bytes)> taking_;
  const uint64_t max_running_bytes_;

  mutable Mutex mutex_;
  CondVar ended_;
  CondVar retry_;
  bool retry_wanted_ ABSL_GUARDED_BY(mutex_) = false;  // something waits that nothing else starts
  std::optional<Deadline> patience_ ABSL_GUARDED_BY(mutex_);      // since there was no room
  absl::btree_map<Name, LoadPtr> loads_ ABSL_GUARDED_BY(mutex_);  // waiting or running
  std::deque<LoadPtr> waiting_ ABSL_GUARDED_BY(mutex_);
  size_t running_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t running_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  Figures figures_ ABSL_GUARDED_BY(mutex_);
  std::thread retrier_;
};

}  // namespace reprise::storage
