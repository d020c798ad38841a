// The size limits that every carrier enforces on what it is asked to send, and again on what it
// receives.
#pragma once

#include <cstddef>

#include "common/status.h"

namespace reprise::transport {

// INVALID_ARGUMENT when a message of `message_bytes` with `bulk_bytes` of bulk (0: none) may not
// travel: bulk over kMaxPartBytes, a message beside bulk over kMaxBulkMessageBytes, or one alone
// over kMaxMessageBytes.
absl::Status CheckPartSizes(size_t message_bytes, size_t bulk_bytes);

}  // namespace reprise::transport
