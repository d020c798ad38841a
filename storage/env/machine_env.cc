#include "storage/env/machine_env.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <random>
#include <string_view>

#include "absl/strings/str_cat.h"
#include <dirent.h>

#include "common/log.h"
#include "storage/env/disk_status.h"
#include "storage/env/machine_file.h"
#include "storage/env/pread_queue.h"
#include "storage/env/uring_queue.h"

namespace reprise::storage {
namespace {

constexpr mode_t kFileMode = 0640;
constexpr mode_t kDirectoryMode = 0750;

int OpenFlags(OpenMode mode) {
  switch (mode) {
    case OpenMode::kRead:
      return O_RDONLY;
    case OpenMode::kReadWrite:
      return O_RDWR;
    case OpenMode::kCreate:
      return O_RDWR | O_CREAT | O_EXCL;
    case OpenMode::kReplace:
      return O_RDWR | O_CREAT | O_TRUNC;
  }
  return O_RDONLY;
}

int OpenDescriptor(const std::string& path, int flags) {
  return WithoutInterruption([&] { return open(path.c_str(), flags | O_CLOEXEC, kFileMode); });
}

class FileLock final : public DirectoryLock {
 public:
  explicit FileLock(int descriptor) : descriptor_(descriptor) {}
  ~FileLock() override { close(descriptor_); }
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;

 private:
  const int descriptor_;
};

}  // namespace

Env& Env::Machine() {
  static MachineEnv* const env = new MachineEnv(MachineEnv::Backend::kUring);
  return *env;
}

MachineEnv::MachineEnv(Backend backend) : backend_(backend) {}

std::string_view MachineEnv::backend() const {
  return backend_ == Backend::kUring ? "io_uring" : "pread";
}

absl::StatusOr<std::unique_ptr<EnvFile>> MachineEnv::Open(const std::string& path, OpenMode mode,
                                                          bool direct) {
  const int flags = OpenFlags(mode);
  int descriptor = OpenDescriptor(path, direct ? flags | O_DIRECT : flags);
  if (direct && descriptor < 0 && errno == EINVAL) {
    direct = false;
    // The refused call may have left the file that it was to create, so it is not to be new now.
    descriptor = OpenDescriptor(path, flags & ~O_EXCL);
    if (descriptor >= 0 && !said_not_direct_.exchange(true)) {
      LogWarning("file system has no direct I/O: its files go through the page cache",
                 {{"path", path}});
    }
  }
  if (descriptor < 0) return DiskError(errno, "open", path);
  return std::make_unique<MachineFile>(path, descriptor, direct);
}

absl::StatusOr<std::unique_ptr<DiskQueue>> MachineEnv::CreateQueue(
    const DiskQueueOptions& options) {
  REPRISE_RETURN_IF_ERROR(CheckQueue(options));
  if (backend_ == Backend::kUring) {
    auto queue = UringQueue::Create(options);
    if (queue.ok()) return std::unique_ptr<DiskQueue>(*std::move(queue));
    if (backend_.exchange(Backend::kPread) == Backend::kUring) {
      LogWarning("io_uring is denied: disk queues are threads of pread and pwrite, and slower",
                 {{"queue", options.name}, {"reason", std::string(queue.status().message())}});
    }
  }
  return std::make_unique<PreadQueue>(options);
}

absl::Status MachineEnv::CreateDirectory(const std::string& path) {
  if (mkdir(path.c_str(), kDirectoryMode) == 0) return absl::OkStatus();
  const int error = errno;
  struct stat status {};
  if (error == EEXIST && stat(path.c_str(), &status) == 0) {
    return S_ISDIR(status.st_mode) ? absl::OkStatus() : DiskError(ENOTDIR, "mkdir", path);
  }
  return DiskError(error, "mkdir", path);
}

absl::StatusOr<std::vector<std::string>> MachineEnv::List(const std::string& directory) {
  const std::unique_ptr<DIR, int (*)(DIR*)> stream(opendir(directory.c_str()), closedir);
  if (stream == nullptr) return DiskError(errno, "opendir", directory);
  std::vector<std::string> names;
  for (;;) {
    errno = 0;
    const dirent* const entry = readdir(stream.get());
    if (entry == nullptr && errno != 0) return DiskError(errno, "readdir", directory);
    if (entry == nullptr) break;
    const std::string_view name = entry->d_name;
    if (name != "." && name != "..") names.emplace_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

absl::StatusOr<bool> MachineEnv::Exists(const std::string& path) {
  struct stat status {};
  if (stat(path.c_str(), &status) == 0) return true;
  if (errno == ENOENT) return false;
  return DiskError(errno, "stat", path);
}

absl::Status MachineEnv::Delete(const std::string& file) {
  if (unlink(file.c_str()) != 0) return DiskError(errno, "unlink", file);
  return absl::OkStatus();
}

absl::Status MachineEnv::DeleteDirectory(const std::string& path) {
  if (rmdir(path.c_str()) != 0) return DiskError(errno, "rmdir", path);
  return absl::OkStatus();
}

absl::Status MachineEnv::Rename(const std::string& from, const std::string& to) {
  if (rename(from.c_str(), to.c_str()) != 0) {
    return DiskError(errno, "rename", absl::StrCat(from, " to ", to));
  }
  return absl::OkStatus();
}

absl::Status MachineEnv::SyncDirectory(const std::string& path) {
  const int descriptor = OpenDescriptor(path, O_RDONLY | O_DIRECTORY);
  if (descriptor < 0) return DiskError(errno, "open", path);
  const int failed = WithoutInterruption([&] { return fsync(descriptor); });
  const int error = errno;
  close(descriptor);
  return failed == 0 ? absl::OkStatus() : DiskError(error, "fsync", path);
}

absl::StatusOr<std::unique_ptr<DirectoryLock>> MachineEnv::Lock(const std::string& file) {
  const int descriptor = OpenDescriptor(file, O_RDWR | O_CREAT);
  if (descriptor < 0) return DiskError(errno, "open", file);
  auto lock = std::make_unique<FileLock>(descriptor);
  if (WithoutInterruption([&] { return flock(descriptor, LOCK_EX | LOCK_NB); }) == 0) return lock;
  if (errno != EWOULDBLOCK) return DiskError(errno, "flock", file);
  return absl::UnavailableError(
      absl::StrCat("lock ", file, ": held by another process, or by this one already"));
}

absl::StatusOr<DiskSpace> MachineEnv::Space(const std::string& path) {
  struct statvfs status {};
  if (WithoutInterruption([&] { return statvfs(path.c_str(), &status); }) != 0) {
    return DiskError(errno, "statvfs", path);
  }
  return DiskSpace{.total_bytes = uint64_t{status.f_blocks} * status.f_frsize,
                   .free_bytes = uint64_t{status.f_bavail} * status.f_frsize};
}

uint64_t MachineEnv::Random() {
  uint64_t value = 0;
  // Never short at this size; interrupted only before the kernel's pool is ready at boot.
  WithoutInterruption([&] { return getrandom(&value, sizeof(value), 0); });
  return value;
}

}  // namespace reprise::storage
