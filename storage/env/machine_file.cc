#include "storage/env/machine_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "storage/env/disk_status.h"
#include "storage/env/ring_files.h"

namespace reprise::storage {

MachineFile::~MachineFile() {
  for (const FileRegistration& registration : registrations_) {
    if (registration.ring != nullptr) registration.ring->Release(registration.index);
  }
  close(descriptor_);
}

absl::Status MachineFile::ReadAt(uint64_t offset, MutableByteSpan to) const {
  REPRISE_RETURN_IF_ERROR(CheckTransfer(*this, offset, to));
  size_t done = 0;
  while (done < to.size()) {
    const ssize_t read = WithoutInterruption([&] {
      return pread(descriptor_, to.data() + done, to.size() - done,
                   static_cast<off_t>(offset + done));
    });
    if (read < 0) return DiskError(errno, "read", path_);
    done += static_cast<size_t>(read);
    // The rest of a direct transfer that stopped inside a page could not be asked for.
    const bool stopped_at_end = direct_ && done % kDirectAlignmentBytes != 0;
    if (read == 0 || stopped_at_end) return EndOfFile(path_, offset, to.size(), to.size() - done);
  }
  return absl::OkStatus();
}

absl::Status MachineFile::WriteAt(uint64_t offset, ByteSpan bytes) {
  REPRISE_RETURN_IF_ERROR(CheckTransfer(*this, offset, bytes));
  size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t written = WithoutInterruption([&] {
      return pwrite(descriptor_, bytes.data() + done, bytes.size() - done,
                    static_cast<off_t>(offset + done));
    });
    if (written < 0) return DiskError(errno, "write", path_);
    if (written == 0) return DiskError(EIO, "write", path_);
    done += static_cast<size_t>(written);
  }
  return absl::OkStatus();
}

absl::Status MachineFile::Sync() {
  if (WithoutInterruption([&] { return fdatasync(descriptor_); }) != 0) {
    return DiskError(errno, "fdatasync", path_);
  }
  return absl::OkStatus();
}

absl::StatusOr<uint64_t> MachineFile::SizeBytes() const {
  struct stat status {};
  if (fstat(descriptor_, &status) != 0) return DiskError(errno, "fstat", path_);
  return static_cast<uint64_t>(status.st_size);
}

absl::Status MachineFile::Truncate(uint64_t size_bytes) {
  const auto size = static_cast<off_t>(size_bytes);
  if (WithoutInterruption([&] { return ftruncate(descriptor_, size); }) != 0) {
    return DiskError(errno, "ftruncate", path_);
  }
  return absl::OkStatus();
}

absl::Status MachineFile::Preallocate(uint64_t size_bytes) {
  if (size_bytes == 0) return absl::OkStatus();
  const auto size = static_cast<off_t>(size_bytes);
  if (WithoutInterruption([&] { return fallocate(descriptor_, 0, 0, size); }) == 0) {
    return absl::OkStatus();
  }
  if (errno != EOPNOTSUPP) return DiskError(errno, "fallocate", path_);
  REPRISE_ASSIGN_OR_RETURN(const uint64_t held_bytes, SizeBytes());
  return Truncate(std::max(held_bytes, size_bytes));
}

}  // namespace reprise::storage
