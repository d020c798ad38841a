// What is in the directory of an nvme tier, and whether it is intact: `reprise du` and `reprise
// fsck`, without a store.
//
// Blocks on the disk for as long as it takes. Errors, beside those of Env: NOT_FOUND for a
// directory that is no nvme tier, INVALID_ARGUMENT for one of another version, UNAVAILABLE when a
// store has it (checking only), DATA_LOSS when the index cannot be opened.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "common/sha256.h"
#include "common/status.h"
#include "storage/env/env.h"
#include "storage/piece_attributes.h"

namespace reprise::storage {

struct NvmeContents {
  struct Namespace {
    TenantId tenant = 0;
    std::string tenant_name;  // empty when the index does not know it
    Digest fingerprint{};
    uint64_t pieces = 0;
    uint64_t bytes = 0;
  };

  std::string node_id;
  uint64_t segment_bytes = 0;
  uint64_t segments = 0;  // files
  uint64_t pieces = 0;
  uint64_t bytes_live = 0;
  uint64_t bytes_in_segments = 0;  // files, whatever is in them
  uint64_t bytes_index = 0;
  uint64_t bad_records = 0;             // of the index
  std::vector<Namespace> namespaces{};  // most bytes first
};
// Reads the index only, also beside a running store, of which it then sees what was there when it
// began.
absl::StatusOr<NvmeContents> ReadNvmeContents(const std::string& directory, Env& env);

struct NvmeCheckOptions {
  std::string directory;
  // Forgets what is damaged; rebuilds an index that cannot be opened from what is left of it.
  bool repair = false;
  // Told now and then of how many pieces were checked, of how many.
  std::function<void(uint64_t checked, uint64_t pieces)> progress = {};
  Env* env = &Env::Machine();
};
struct NvmeCheckReport {
  static constexpr size_t kMaxProblems = 20;

  uint64_t pieces = 0;  // in the index, damaged ones included
  uint64_t bytes = 0;   // of them that were read
  uint64_t damaged = 0;
  bool index_rebuilt = false;
  uint64_t forgotten = 0;             // by repair
  std::vector<std::string> problems;  // a line for each of the first kMaxProblems
};
// Compares the index with the segments and verifies every byte. Changes nothing unless told to
// repair.
absl::StatusOr<NvmeCheckReport> CheckNvme(const NvmeCheckOptions& options);

}  // namespace reprise::storage
