// What the parts of the nvme tier share: its pieces and segments under one lock, the files, and
// whether the disk takes writes.
//
// Internal to storage/nvme. Everything but `mutex` itself and what is const is guarded by it; no
// one blocks on the disk while holding it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "common/executor.h"
#include "common/mutex.h"
#include "storage/index/piece_catalog.h"
#include "storage/nvme/nvme_tier.h"
#include "storage/nvme/resident_pieces.h"
#include "storage/nvme/segment_space.h"

namespace reprise::storage {

// Found when opening, fixed from then on.
struct TierLayout {
  std::string node_id;
  std::string segment_directory;
  std::string index_directory;
  uint64_t segment_bytes = 0;
  uint32_t max_segments = 0;
  size_t max_pieces = 0;
};

struct TierState {
  TierState(const NvmeOptions& tier_options, const TierLayout& tier_layout,
            std::unique_ptr<PieceCatalog> tier_catalog)
      : options(tier_options),
        layout(tier_layout),
        env(*tier_options.env),
        catalog(std::move(tier_catalog)),
        space(layout.segment_bytes, layout.max_segments),
        pieces(layout.max_pieces, options.make_policy, space, env.clock()),
        files(layout.max_segments) {}

  // OK when a write may be tried; otherwise what the last one failed with, until a while has
  // passed.
  absl::Status MayWrite() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);
  void WriteFailed(const absl::Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);
  void WriteSucceeded() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);

  // After anything that may have made pieces or segments go.
  void WakeCommitterIfNeeded() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    if (pieces.has_changes() || space.has_drained()) wake_committer.notify_all();
  }

  // Calls back with what was found before anything was begun, outside of the caller's own call.
  void Reply(NvmeTier::Done done, absl::Status status);

  const NvmeOptions options;
  const TierLayout layout;
  Env& env;
  const std::unique_ptr<PieceCatalog> catalog;

  Mutex mutex;
  SegmentSpace space ABSL_GUARDED_BY(mutex);
  ResidentPieces pieces ABSL_GUARDED_BY(mutex);
  // By number; null where there is none. A file stays where it is once it is here.
  std::vector<std::unique_ptr<EnvFile>> files ABSL_GUARDED_BY(mutex);
  // Only what is counted as it happens.
  NvmeUsage counted ABSL_GUARDED_BY(mutex);
  uint32_t reads_under_way ABSL_GUARDED_BY(mutex) = 0;
  absl::Status write_error ABSL_GUARDED_BY(mutex);
  TimePoint retry_at ABSL_GUARDED_BY(mutex){};
  // Something for the committer, for the reclaimer.
  CondVar wake_committer;
  CondVar wake_reclaimer;

  // Last, so that it ends first.
  Executor calls{"nvme-calls", 1, SIZE_MAX};
};

}  // namespace reprise::storage
