// A DiskQueue on io_uring.
//
// One thread owns the ring: it alone submits, waits and completes, and one system call does all
// three for everything that came up in the meantime. That lets the kernel run completions on this
// thread (DEFER_TASKRUN) instead of interrupting whichever thread submitted, and no request is lost
// with a thread that ends. Other threads append to a list and wake the owner only where it sleeps
// with room to spare.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <liburing.h>

#include "common/mutex.h"
#include "storage/env/env.h"
#include "storage/env/operation_list.h"
#include "storage/env/ring_buffers.h"
#include "storage/env/ring_files.h"

namespace reprise::storage {

class UringQueue final : public DiskQueue {
 public:
  // `options` passed CheckQueue. RESOURCE_EXHAUSTED, PERMISSION_DENIED or INTERNAL,
  // with the system's reason, where the kernel gives no ring. Buffers that it does not register are
  // used unregistered, which is logged once.
  static absl::StatusOr<std::unique_ptr<UringQueue>> Create(const DiskQueueOptions& options);
  ~UringQueue() override;
  UringQueue(const UringQueue&) = delete;
  UringQueue& operator=(const UringQueue&) = delete;

  using DiskQueue::Submit;
  void Submit(std::span<DiskOperation* const> operations) override;

 private:
  struct Slot {
    DiskOperation* operation = nullptr;
    size_t transferred_bytes = 0;
    uint32_t retries = 0;
  };

  explicit UringQueue(uint32_t depth);
  absl::Status Start(const DiskQueueOptions& options);

  // Of the ring's thread, from here on.
  absl::Status CreateRing(const std::string& name);
  void ThreadMain();
  // False when the queue is to end and nothing is left to do.
  bool StartSubmitted();
  void Prepare(uint32_t slot);
  void PrepareTransfer(io_uring_sqe& entry, const Slot& slot, int descriptor);
  void PrepareWake();
  void Complete(uint32_t slot, int32_t result);
  void Finish(uint32_t slot, absl::Status status);

  void Wake();

  const uint32_t depth_;
  io_uring ring_{};
  bool has_ring_ = false;
  int wake_descriptor_ = -1;
  uint64_t wake_count_ = 0;  // what the read of wake_descriptor_ fills
  std::unique_ptr<RingBuffers> buffers_;
  std::shared_ptr<RingFiles> files_;

  std::vector<Slot> slots_;
  std::vector<uint32_t> free_slots_;
  OperationList backlog_;  // taken from submitted_, waiting for a slot

  Mutex mutex_;
  OperationList submitted_ ABSL_GUARDED_BY(mutex_);
  bool wake_wanted_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace reprise::storage
