#include "storage/env/disk_status.h"

#include <cerrno>
#include <cstring>
#include <limits>
#include <string>

#include "absl/strings/str_cat.h"

namespace reprise::storage {
namespace {

constexpr uint64_t kMaxFileOffset = std::numeric_limits<int64_t>::max();

absl::StatusCode CodeOf(int error) {
  switch (error) {
    case ENOENT:
      return absl::StatusCode::kNotFound;
    case EEXIST:
      return absl::StatusCode::kAlreadyExists;
    case EACCES:
    case EPERM:
    case EROFS:
      return absl::StatusCode::kPermissionDenied;
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
    case EMFILE:
    case ENFILE:
    case ENOMEM:
      return absl::StatusCode::kResourceExhausted;
    case EINVAL:
    case EISDIR:
    case ENOTDIR:
    case ENOTEMPTY:
    case ENAMETOOLONG:
    case ELOOP:
      return absl::StatusCode::kInvalidArgument;
    default:
      return absl::StatusCode::kInternal;
  }
}

}  // namespace

absl::Status DiskError(int error, const char* call, const std::string& path) {
  char buffer[128];
  return absl::Status(CodeOf(error), absl::StrCat(call, " ", path, ": ",
                                                  strerror_r(error, buffer, sizeof(buffer))));
}

absl::Status EndOfFile(const std::string& path, uint64_t offset, uint64_t size_bytes,
                       uint64_t missing_bytes) {
  return absl::DataLossError(absl::StrCat("read ", path, ": of ", size_bytes, " bytes at ", offset,
                                          " the last ", missing_bytes,
                                          " lie behind the end of the file"));
}

absl::Status CheckTransfer(const EnvFile& file, uint64_t offset, ByteSpan bytes) {
  if (offset > kMaxFileOffset || bytes.size() > kMaxFileOffset - offset) {
    return absl::InvalidArgumentError(absl::StrCat("transfer of ", bytes.size(), " bytes at ",
                                                   offset, " of ", file.path(),
                                                   " passes the largest file offset"));
  }
  const auto address = reinterpret_cast<uintptr_t>(bytes.data());
  if (file.direct() && (offset | bytes.size() | address) % kDirectAlignmentBytes != 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "transfer of ", bytes.size(), " bytes at ", offset, " of ", file.path(), " with memory at ",
        absl::Hex(address), ": a direct file needs multiples of ", kDirectAlignmentBytes));
  }
  return absl::OkStatus();
}

absl::Status CheckQueue(const DiskQueueOptions& options) {
  if (options.depth >= 1 && options.depth <= kMaxQueueDepth) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("disk queue ", options.name, ": depth ",
                                                 options.depth, " is not in [1, ", kMaxQueueDepth,
                                                 "]"));
}

}  // namespace reprise::storage
