// Whole files in, and whole files out or none at all.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "common/bytes.h"
#include "common/status.h"

namespace reprise::cli {

// The bytes of `path`, or of standard input for "-". NOT_FOUND, with the system's reason, when it
// cannot be read; INVALID_ARGUMENT when it is longer than `limit_bytes`, naming both numbers where
// the length is known.
absl::StatusOr<std::vector<std::byte>> ReadFile(const std::string& path, size_t limit_bytes);

// Writes `bytes` beside `path` and renames the result over it, so that `path` is never half
// written, even when SIGINT, SIGTERM or SIGHUP ends the process; "-" writes to standard output. Not
// thread-safe. UNAVAILABLE, with the system's reason, when that fails:
// `path` is then as it was.
absl::Status WriteFile(const std::string& path, ByteSpan bytes);

}  // namespace reprise::cli
