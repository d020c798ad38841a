// The directory of an nvme tier: whose it is, what is in it, and how its budget is divided
// (docs/disk-format.md).
//
// Blocks on the disk. Never changes a directory that is not ours.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "common/status.h"
#include "storage/env/env.h"
#include "storage/nvme/nvme_tier.h"
#include "storage/nvme/tier_state.h"

namespace reprise::storage {

struct TierDirectory {
  std::unique_ptr<DirectoryLock> lock;
  TierLayout layout;
  uint64_t index_disk_bytes = 0;
  uint64_t index_memory_bytes = 0;
  // No segment was ever made, so that an index may be, too.
  bool index_may_be_absent = false;
};

// Errors as NvmeTier::Open.
absl::StatusOr<TierDirectory> OpenTierDirectory(const NvmeOptions& options);

// What IDENTITY says; its own text, for tests.
struct TierIdentity {
  std::string node_id;
  uint64_t segment_bytes = 0;
};
std::string FormatIdentity(const TierIdentity& identity);
// DATA_LOSS, or INVALID_ARGUMENT for another version.
absl::StatusOr<TierIdentity> ParseIdentity(std::string_view text);
// NOT_FOUND when there is none; else as ParseIdentity.
absl::StatusOr<TierIdentity> ReadIdentity(Env& env, const std::string& directory);

std::string SegmentDirectory(const std::string& directory);
std::string IndexDirectory(const std::string& directory);
// UNAVAILABLE when another process has it.
absl::StatusOr<std::unique_ptr<DirectoryLock>> LockTier(Env& env, const std::string& directory);

}  // namespace reprise::storage
