#include "storage/env/ring_files.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>

#include "storage/env/machine_file.h"

namespace reprise::storage {
namespace {

constexpr rlim_t kMaxFiles = 4096;

}  // namespace

std::shared_ptr<RingFiles> RingFiles::Create(io_uring& ring, int wake_descriptor) {
  std::shared_ptr<RingFiles> files(new RingFiles(ring, wake_descriptor));
  rlimit limit{};
  // The kernel's own bound for such a table.
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return files;
  const auto count = static_cast<int>(std::min(limit.rlim_cur, kMaxFiles));
  if (io_uring_register_files_sparse(&ring, static_cast<unsigned>(count)) != 0) return files;
  for (int index = count - 1; index >= 0; --index) files->free_.push_back(index);
  MutexLock lock(files->mutex_);
  files->released_.reserve(files->free_.size());
  return files;
}

int RingFiles::IndexOf(MachineFile& file) {
  for (FileRegistration& registration : file.registrations()) {
    RingFiles* claimed = registration.claimed.load(std::memory_order_relaxed);
    if (claimed == this) return registration.index;
    if (claimed != nullptr) continue;
    if (free_.empty()) return -1;
    // Another ring's thread may meet the file at the same time.
    if (!registration.claimed.compare_exchange_strong(claimed, this)) continue;
    int descriptor = file.descriptor();
    const auto index = static_cast<unsigned>(free_.back());
    if (io_uring_register_files_update(&ring_, index, &descriptor, 1) == 1) {
      registration.index = free_.back();
      registration.ring = shared_from_this();
      free_.pop_back();
    }
    return registration.index;
  }
  return -1;
}

void RingFiles::ForgetReleased() {
  if (!any_released_.exchange(false)) return;
  MutexLock lock(mutex_);
  for (const int index : released_) {
    int nothing = -1;
    io_uring_register_files_update(&ring_, static_cast<unsigned>(index), &nothing, 1);
    free_.push_back(index);
  }
  released_.clear();
}

void RingFiles::Close() {
  MutexLock lock(mutex_);
  closed_ = true;
}

void RingFiles::Release(int index) {
  MutexLock lock(mutex_);
  if (closed_) return;
  released_.push_back(index);
  any_released_ = true;
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written =
      WithoutInterruption([&] { return write(wake_descriptor_, &one, sizeof(one)); });
}

}  // namespace reprise::storage
