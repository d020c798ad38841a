// DiskOperations as tests use them: submitted, then waited for. Not thread-safe, but for what a
// queue's thread does with them.
#pragma once

#include <cstdlib>
#include <memory>
#include <utility>

#include "common/mutex.h"
#include "common/status.h"
#include "storage/env/env.h"

namespace reprise::storage {

class AwaitedOperation final : public DiskOperation {
 public:
  AwaitedOperation() = default;
  AwaitedOperation(Kind wanted, EnvFile& from, uint64_t at, MutableByteSpan memory) {
    kind = wanted;
    file = &from;
    offset = at;
    bytes = memory;
  }

  void Done(absl::Status status) override {
    MutexLock lock(mutex_);
    status_ = std::move(status);
    ++times_done_;
    done_.notify_all();
  }

  absl::Status Wait() {
    MutexLock lock(mutex_);
    while (times_done_ == 0) done_.wait(mutex_);
    return status_;
  }

  int times_done() {
    MutexLock lock(mutex_);
    return times_done_;
  }

 private:
  Mutex mutex_;
  CondVar done_;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
  int times_done_ ABSL_GUARDED_BY(mutex_) = 0;
};

// Memory that direct files take, zero at first.
class AlignedBytes {
 public:
  explicit AlignedBytes(size_t size_bytes)
      : memory_(static_cast<std::byte*>(std::aligned_alloc(kDirectAlignmentBytes, size_bytes)),
                &std::free),
        bytes_(memory_.get(), size_bytes) {
    Fill(0);
  }

  void Fill(unsigned value) {
    for (std::byte& byte : bytes_) byte = static_cast<std::byte>(value);
  }
  MutableByteSpan bytes() const { return bytes_; }
  MutableByteSpan bytes(size_t offset, size_t size) const { return bytes_.subspan(offset, size); }

 private:
  std::unique_ptr<std::byte, void (*)(void*)> memory_;
  MutableByteSpan bytes_;
};

}  // namespace reprise::storage
