#include "storage/env/testing/simulated_env.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"

#include "storage/env/disk_status.h"
#include "storage/env/testing/simulated_file.h"

namespace reprise::storage {

class SimulatedLock final : public DirectoryLock {
 public:
  SimulatedLock(SimulatedEnv& env, std::string file, uint64_t power_losses)
      : env_(env), file_(std::move(file)), power_losses_(power_losses) {}
  ~SimulatedLock() override {
    MutexLock lock(env_.mutex_);
    if (env_.power_losses_ == power_losses_) env_.locked_.erase(file_);
  }
  SimulatedLock(const SimulatedLock&) = delete;
  SimulatedLock& operator=(const SimulatedLock&) = delete;

 private:
  SimulatedEnv& env_;
  const std::string file_;
  const uint64_t power_losses_;
};

SimulatedEnv::SimulatedEnv(const SimulatedDiskOptions& options, DiskImage image)
    : options_(options), image_(std::move(image)), random_(options.seed) {}

DiskImage SimulatedEnv::image() const {
  MutexLock lock(mutex_);
  return image_;
}

void SimulatedEnv::PowerLoss(PowerLossMode mode) {
  MutexLock lock(mutex_);
  image_ = image_.AfterPowerLoss(mode, random_());
  ++power_losses_;
  open_.clear();
  locked_.clear();
}

std::optional<DiskFault> SimulatedEnv::Count(DiskCall call) {
  if (hook_) hook_(call);
  return faults_.Count(call);
}

absl::Status SimulatedEnv::Begin(DiskCall call, const std::string& path) {
  const std::optional<DiskFault> fault = Count(call);
  const std::string name(Name(call));
  if (fault == DiskFault::kIoError || fault == DiskFault::kShort) {
    return DiskError(EIO, name.c_str(), path);
  }
  if (fault == DiskFault::kNoSpace) return DiskError(ENOSPC, name.c_str(), path);
  return absl::OkStatus();
}

absl::Status SimulatedEnv::CheckGrowth(DiskImage::Node file, uint64_t size_bytes,
                                       const std::string& path) {
  const uint64_t held = image_.SizeBytes(file);
  if (size_bytes <= held) return absl::OkStatus();
  const uint64_t used = image_.UsedBytes(open_);
  const uint64_t free = options_.capacity_bytes - std::min(used, options_.capacity_bytes);
  if (size_bytes - held <= free) return absl::OkStatus();
  return DiskError(ENOSPC, "write", path);
}

absl::StatusOr<std::unique_ptr<EnvFile>> SimulatedEnv::Open(const std::string& path, OpenMode mode,
                                                            bool direct) {
  REPRISE_RETURN_IF_ERROR(Begin(DiskCall::kOpen, path));
  MutexLock lock(mutex_);
  absl::StatusOr<DiskImage::Node> node = image_.Find(path);
  if (node.ok() && mode == OpenMode::kCreate) return DiskError(EEXIST, "open", path);
  if (node.ok() && image_.IsDirectory(*node)) return DiskError(EISDIR, "open", path);
  const bool may_create = mode == OpenMode::kCreate || mode == OpenMode::kReplace;
  if (!node.ok() && may_create) node = image_.CreateFile(path);
  if (!node.ok()) return node.status();
  if (mode == OpenMode::kReplace) image_.Resize(*node, 0);
  open_.insert(*node);
  return std::make_unique<SimulatedFile>(
      *this, path,
      SimulatedFile::Opened{.node = *node,
                            .power_losses = power_losses_,
                            .direct = direct && options_.direct_io,
                            .writable = mode != OpenMode::kRead});
}

absl::StatusOr<std::unique_ptr<DiskQueue>> SimulatedEnv::CreateQueue(
    const DiskQueueOptions& options) {
  REPRISE_RETURN_IF_ERROR(CheckQueue(options));
  REPRISE_RETURN_IF_ERROR(Begin(DiskCall::kCreateQueue, options.name));
  return std::make_unique<SimulatedQueue>(*this, options.depth);
}

absl::Status SimulatedEnv::CreateDirectory(const std::string& path) {
  REPRISE_RETURN_IF_ERROR(Begin(DiskCall::kCreateDirectory, path));
  MutexLock lock(mutex_);
  return image_.CreateDirectory(path);
}

absl::StatusOr<std::vector<std::string>> SimulatedEnv::List(const std::string& directory) {
  REPRISE_RETURN_IF_ERROR(Begin(DiskCall::kList, directory));
  MutexLock lock(mutex_);
  return image_.List(directory);
}

absl::StatusOr<bool> SimulatedEnv::Exists(const std::string& path) {
  REPRISE_RETURN_IF_ERROR(Begin(DiskCall::kExists, path));
  MutexLock lock(mutex_);
  const absl::Status status = image_.Find(path).status();
  if (absl::IsNotFound(status)) return false;
  if (!status.ok()) return status;
  return true;
}

absl::Status SimulatedEnv::Delete(const std::string& file) {
  REPRISE_RETURN_IF_ERROR(Begin(DiskCall::kDelete, file));
  MutexLock lock(mutex_);
  return image_.Delete(file);
}

absl::Status SimulatedEnv::DeleteDirectory(const std::string& path) {
  REPRISE_RETURN_IF_ERROR(Begin(DiskCall::kDeleteDirectory, path));
  MutexLock lock(mutex_);
  return image_.DeleteDirectory(path);
}

absl::Status SimulatedEnv::Rename(const std::string& from, const std::string& to) {
  REPRISE_RETURN_IF_ERROR(Begin(DiskCall::kRename, from));
  MutexLock lock(mutex_);
  return image_.Rename(from, to);
}

absl::Status SimulatedEnv::SyncDirectory(const std::string& path) {
  REPRISE_RETURN_IF_ERROR(Begin(DiskCall::kSyncDirectory, path));
  MutexLock lock(mutex_);
  REPRISE_RETURN_IF_ERROR(image_.SyncDirectory(path));
  image_.Collect(open_);
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<DirectoryLock>> SimulatedEnv::Lock(const std::string& file) {
  REPRISE_RETURN_IF_ERROR(Begin(DiskCall::kLock, file));
  MutexLock lock(mutex_);
  if (absl::IsNotFound(image_.Find(file).status())) {
    REPRISE_RETURN_IF_ERROR(image_.CreateFile(file).status());
  }
  if (!locked_.insert(file).second) {
    return absl::UnavailableError(
        absl::StrCat("lock ", file, ": held by another process, or by this one already"));
  }
  return std::make_unique<SimulatedLock>(*this, file, power_losses_);
}

absl::StatusOr<DiskSpace> SimulatedEnv::Space(const std::string& path) {
  REPRISE_RETURN_IF_ERROR(Begin(DiskCall::kSpace, path));
  MutexLock lock(mutex_);
  REPRISE_RETURN_IF_ERROR(image_.Find(path).status());
  const uint64_t used = image_.UsedBytes(open_);
  const uint64_t total = options_.capacity_bytes;
  return DiskSpace{.total_bytes = total, .free_bytes = total > used ? total - used : 0};
}

uint64_t SimulatedEnv::Random() {
  MutexLock lock(mutex_);
  return random_();
}

}  // namespace reprise::storage
