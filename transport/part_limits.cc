#include "transport/part_limits.h"

#include "absl/strings/str_cat.h"

#include "common/limits.h"

namespace reprise::transport {

absl::Status CheckPartSizes(size_t message_bytes, size_t bulk_bytes) {
  if (bulk_bytes > kMaxPartBytes) {
    return absl::InvalidArgumentError(absl::StrCat("bulk of ", bulk_bytes,
                                                   " bytes is over the limit of ", kMaxPartBytes,
                                                   " bytes a message; send it in parts"));
  }
  const size_t limit = bulk_bytes > 0 ? kMaxBulkMessageBytes : kMaxMessageBytes;
  if (message_bytes > limit) {
    return absl::InvalidArgumentError(absl::StrCat("a message of ", message_bytes, " bytes ",
                                                   bulk_bytes > 0 ? "beside bulk " : "",
                                                   "is over the limit of ", limit, " bytes"));
  }
  return absl::OkStatus();
}

}  // namespace reprise::transport
