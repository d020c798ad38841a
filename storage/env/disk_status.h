// What went wrong with a file, as the statuses that every Env gives. Pure functions.
#pragma once

#include <cstdint>
#include <string>

#include "common/status.h"
#include "storage/env/env.h"

namespace reprise::storage {

inline constexpr uint32_t kMaxQueueDepth = 4096;

// The status of an errno, "CALL PATH: REASON": codes as in env.h. `error` is not 0.
absl::Status DiskError(int error, const char* call, const std::string& path);

// DATA_LOSS: the file ends `missing_bytes` before what was asked for.
absl::Status EndOfFile(const std::string& path, uint64_t offset, uint64_t size_bytes,
                       uint64_t missing_bytes);

// INVALID_ARGUMENT when a direct file is asked for what is not aligned, or when the end of the
// range is no file offset.
absl::Status CheckTransfer(const EnvFile& file, uint64_t offset, ByteSpan bytes);

// INVALID_ARGUMENT unless the depth is in [1, kMaxQueueDepth].
absl::Status CheckQueue(const DiskQueueOptions& options);

}  // namespace reprise::storage
