#include "storage/env/ring_buffers.h"

#include <pthread.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "common/limits.h"
#include "common/log.h"
#include "common/mutex.h"

namespace reprise::storage {
namespace {

// One huge page. Meanwhile whoever maps memory waits, and so may ending.
constexpr size_t kPopulateStepBytes = 2 * kMiB;

// What this cannot do (before Linux 5.14, or not from a page's beginning), registering does.
void MakeResident(MutableByteSpan bytes) {
  // Queues share an arena: one of them makes a page, the other finds it.
  static Mutex mutex;
  MutexLock lock(mutex);
  // Not madvise(): UCX hooks that, and its own start waits until no call is under way.
  syscall(SYS_madvise, bytes.data(), bytes.size(), MADV_POPULATE_WRITE);
}

}  // namespace

RingBuffers::RingBuffers(io_uring& ring, const DiskQueueOptions& options,
                         std::function<void()> wake)
    : ring_(ring), queue_name_(options.name), wake_(std::move(wake)) {
  for (MutableByteSpan rest : options.buffers) {
    while (!rest.empty()) {
      const size_t size = std::min(rest.size(), kMaxPartBytes);
      parts_.push_back(rest.first(size));
      rest = rest.subspan(size);
    }
  }
  if (parts_.empty()) return;
  if (io_uring_register_buffers_sparse(&ring_, static_cast<unsigned>(parts_.size())) != 0) {
    RegisterAll();
    return;
  }
  may_populate_ = true;
}

RingBuffers::~RingBuffers() {
  stopping_ = true;
  if (populator_.joinable()) populator_.join();
}

void RingBuffers::RegisterAll() {
  std::vector<iovec> regions;
  for (const MutableByteSpan part : parts_) regions.push_back({part.data(), part.size()});
  const int result =
      io_uring_register_buffers(&ring_, regions.data(), static_cast<unsigned>(regions.size()));
  if (result < 0) return Denied(result);
  registered_ = parts_.size();
}

void RingBuffers::Populate() {
  for (const MutableByteSpan part : parts_) {
    for (size_t at = 0; at < part.size(); at += kPopulateStepBytes) {
      if (stopping_) return;
      MakeResident(part.subspan(at, std::min(part.size() - at, kPopulateStepBytes)));
    }
    ++populated_;
    wake_();
  }
}

void RingBuffers::RegisterPopulated() {
  if (std::exchange(may_populate_, false)) {
    populator_ = std::thread([this] {
      pthread_setname_np(pthread_self(), "nvme-populate");
      Populate();
    });
  }
  while (!denied_ && registered_ < populated_) {
    iovec region{.iov_base = parts_[registered_].data(), .iov_len = parts_[registered_].size()};
    const __u64 tag = 0;
    const int result = io_uring_register_buffers_update_tag(
        &ring_, static_cast<unsigned>(registered_), &region, &tag, 1);
    if (result < 0) return Denied(result);
    ++registered_;
  }
}

void RingBuffers::Denied(int result) {
  denied_ = true;
  static std::atomic<bool> said{false};
  if (said.exchange(true)) return;
  LogWarning(
      "kernel does not register the buffers of a disk queue: each transfer costs more; "
      "raise RLIMIT_MEMLOCK above the store's memory",
      {{"queue", queue_name_}, {"reason", std::strerror(-result)}});
}

int RingBuffers::IndexOf(ByteSpan bytes) const {
  // Few: one for each GiB of the arena.
  for (size_t i = 0; i < registered_; ++i) {
    const std::byte* const begin = parts_[i].data();
    const std::byte* const end = begin + parts_[i].size();
    if (bytes.data() >= begin && bytes.data() + bytes.size() <= end) return static_cast<int>(i);
  }
  return -1;
}

}  // namespace reprise::storage
