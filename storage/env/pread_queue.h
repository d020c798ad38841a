// A DiskQueue on a few threads that block in pread and pwrite: for where io_uring is denied. Slower
// and dearer, so no figure is taken with it.
#pragma once

#include <cstddef>
#include <string>
#include <thread>
#include <vector>

#include "common/mutex.h"
#include "storage/env/env.h"
#include "storage/env/operation_list.h"

namespace reprise::storage {

class PreadQueue final : public DiskQueue {
 public:
  explicit PreadQueue(const DiskQueueOptions& options);
  ~PreadQueue() override;
  PreadQueue(const PreadQueue&) = delete;
  PreadQueue& operator=(const PreadQueue&) = delete;

  using DiskQueue::Submit;
  void Submit(std::span<DiskOperation* const> operations) override;

 private:
  void ThreadMain(const std::string& name);

  Mutex mutex_;
  CondVar wake_;
  OperationList waiting_ ABSL_GUARDED_BY(mutex_);
  size_t running_ ABSL_GUARDED_BY(mutex_) = 0;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace reprise::storage
