#include "storage/env/uring_queue.h"

#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <future>
#include <utility>

#include "absl/strings/str_cat.h"

#include "storage/env/disk_status.h"
#include "storage/env/machine_file.h"

namespace reprise::storage {
namespace {

// The kernel moves no more than twice this in one operation.
constexpr size_t kMaxTransferBytes = RingBuffers::kMaxPartBytes;
// Interrupted and postponed operations are asked for again; one that never succeeds is an error.
constexpr uint32_t kMaxRetries = 1000;
// What a completion leads to is given to the disk after at most so many of them: a disk that waits
// while all that came at once is dealt with did 9 % less of 64 KiB.
constexpr unsigned kMaxCompletionsAtOnce = 4;
constexpr size_t kMaxThreadNameBytes = 15;
constexpr uint64_t kWakeData = ~uint64_t{0};

const char* CallOf(DiskOperation::Kind kind) {
  switch (kind) {
    case DiskOperation::Kind::kRead:
      return "read";
    case DiskOperation::Kind::kWrite:
      return "write";
    case DiskOperation::Kind::kSync:
      break;
  }
  return "fdatasync";
}

bool ShouldRetry(int32_t result) {
  return result == -EINTR || result == -EAGAIN || result == -ECANCELED;
}

}  // namespace

absl::StatusOr<std::unique_ptr<UringQueue>> UringQueue::Create(const DiskQueueOptions& options) {
  std::unique_ptr<UringQueue> queue(new UringQueue(options.depth));
  REPRISE_RETURN_IF_ERROR(queue->Start(options));
  return queue;
}

UringQueue::UringQueue(uint32_t depth) : depth_(depth), slots_(depth) {
  free_slots_.reserve(depth);
  for (uint32_t slot = 0; slot < depth; ++slot) free_slots_.push_back(slot);
}

UringQueue::~UringQueue() {
  if (thread_.joinable()) {
    {
      MutexLock lock(mutex_);
      stopping_ = true;
    }
    Wake();
    thread_.join();
  }
  buffers_.reset();
  if (has_ring_) io_uring_queue_exit(&ring_);
  if (wake_descriptor_ >= 0) close(wake_descriptor_);
}

absl::Status UringQueue::CreateRing(const std::string& name) {
  wake_descriptor_ = eventfd(0, EFD_CLOEXEC);
  if (wake_descriptor_ < 0) return DiskError(errno, "eventfd", name);
  // One more than the depth, for the read that wakes the thread. Kernels before 6.1 know no
  // deferred task work.
  const uint32_t entries = depth_ + 1;
  int result =
      io_uring_queue_init(entries, &ring_, IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN);
  if (result == -EINVAL) result = io_uring_queue_init(entries, &ring_, 0);
  if (result < 0) return DiskError(-result, "io_uring_setup", name);
  has_ring_ = true;
  return absl::OkStatus();
}

absl::Status UringQueue::Start(const DiskQueueOptions& options) {
  std::promise<absl::Status> ready;
  std::future<absl::Status> result = ready.get_future();
  // The thread that makes a ring is the one that may use it.
  thread_ = std::thread([this, &options, ready = std::move(ready)]() mutable {
    pthread_setname_np(pthread_self(), options.name.substr(0, kMaxThreadNameBytes).c_str());
    const absl::Status status = CreateRing(options.name);
    if (status.ok()) {
      buffers_ = std::make_unique<RingBuffers>(ring_, options, [this] { Wake(); });
      files_ = RingFiles::Create(ring_, wake_descriptor_);
    }
    ready.set_value(status);
    if (status.ok()) ThreadMain();
  });
  return result.get();
}

void UringQueue::Submit(std::span<DiskOperation* const> operations) {
  bool wake = false;
  {
    MutexLock lock(mutex_);
    for (DiskOperation* const operation : operations) submitted_.Append(*operation);
    wake = std::exchange(wake_wanted_, false);
  }
  if (wake) Wake();
}

void UringQueue::Wake() {
  const uint64_t one = 1;
  // Fails only where a count of 2^64 waits to be read.
  [[maybe_unused]] const ssize_t written =
      WithoutInterruption([&] { return write(wake_descriptor_, &one, sizeof(one)); });
}

void UringQueue::ThreadMain() {
  // Saves looking the ring's descriptor up in each call; it works without.
  io_uring_register_ring_fd(&ring_);
  PrepareWake();
  while (StartSubmitted()) {
    // What fails here (interrupted, out of memory for now) was not submitted and stays in the ring.
    io_uring_submit_and_wait(&ring_, 1);
    {
      MutexLock lock(mutex_);
      wake_wanted_ = false;
    }
    io_uring_cqe* entry = nullptr;
    unsigned head = 0;
    unsigned count = 0;
    io_uring_for_each_cqe(&ring_, head, entry) {
      ++count;
      if (entry->user_data == kWakeData) {
        PrepareWake();
      } else {
        Complete(static_cast<uint32_t>(entry->user_data), entry->res);
      }
      if (count == kMaxCompletionsAtOnce) break;
    }
    io_uring_cq_advance(&ring_, count);
    buffers_->RegisterPopulated();
    files_->ForgetReleased();
  }
  files_->Close();
}

bool UringQueue::StartSubmitted() {
  for (;;) {
    while (!free_slots_.empty() && !backlog_.empty()) {
      const uint32_t slot = free_slots_.back();
      DiskOperation& operation = backlog_.Pop();
      absl::Status status;
      if (operation.kind != DiskOperation::Kind::kSync) {
        status = CheckTransfer(*operation.file, operation.offset, operation.bytes);
        if (status.ok() && operation.bytes.empty()) {
          operation.Done(absl::OkStatus());
          continue;
        }
      }
      if (!status.ok()) {
        operation.Done(std::move(status));
        continue;
      }
      free_slots_.pop_back();
      slots_[slot] = {.operation = &operation};
      Prepare(slot);
    }
    // Without a free slot there is nothing to wake up for before a completion.
    if (free_slots_.empty()) return true;
    MutexLock lock(mutex_);
    if (submitted_.empty()) {
      wake_wanted_ = true;
      return !stopping_ || free_slots_.size() < depth_;
    }
    backlog_.Append(submitted_);
  }
}

void UringQueue::PrepareWake() {
  io_uring_sqe* const entry = io_uring_get_sqe(&ring_);
  io_uring_prep_read(entry, wake_descriptor_, &wake_count_, sizeof(wake_count_), 0);
  io_uring_sqe_set_data64(entry, kWakeData);
}

void UringQueue::Prepare(uint32_t slot) {
  // Never null: the ring has an entry for every slot and for the wake-up.
  io_uring_sqe* const entry = io_uring_get_sqe(&ring_);
  const DiskOperation& operation = *slots_[slot].operation;
  auto& file = static_cast<MachineFile&>(*operation.file);
  const int index = files_->IndexOf(file);
  const int descriptor = index >= 0 ? index : file.descriptor();
  if (operation.kind == DiskOperation::Kind::kSync) {
    io_uring_prep_fsync(entry, descriptor, IORING_FSYNC_DATASYNC);
  } else {
    PrepareTransfer(*entry, slots_[slot], descriptor);
  }
  if (index >= 0) entry->flags |= IOSQE_FIXED_FILE;
  io_uring_sqe_set_data64(entry, slot);
}

void UringQueue::PrepareTransfer(io_uring_sqe& entry, const Slot& slot, int descriptor) {
  const DiskOperation& operation = *slot.operation;
  const MutableByteSpan rest = operation.bytes.subspan(slot.transferred_bytes);
  const auto size = static_cast<unsigned>(std::min(rest.size(), kMaxTransferBytes));
  const uint64_t offset = operation.offset + slot.transferred_bytes;
  const int index = buffers_->IndexOf(rest.first(size));
  const bool read = operation.kind == DiskOperation::Kind::kRead;
  if (index >= 0 && read) {
    io_uring_prep_read_fixed(&entry, descriptor, rest.data(), size, offset, index);
  } else if (index >= 0) {
    io_uring_prep_write_fixed(&entry, descriptor, rest.data(), size, offset, index);
  } else if (read) {
    io_uring_prep_read(&entry, descriptor, rest.data(), size, offset);
  } else {
    io_uring_prep_write(&entry, descriptor, rest.data(), size, offset);
  }
}

void UringQueue::Complete(uint32_t index, int32_t result) {
  Slot& slot = slots_[index];
  const DiskOperation& operation = *slot.operation;
  const std::string& path = operation.file->path();
  if (ShouldRetry(result) && ++slot.retries <= kMaxRetries) return Prepare(index);
  if (result < 0) return Finish(index, DiskError(-result, CallOf(operation.kind), path));
  if (operation.kind == DiskOperation::Kind::kSync) return Finish(index, absl::OkStatus());
  slot.transferred_bytes += static_cast<size_t>(result);
  const size_t missing = operation.bytes.size() - slot.transferred_bytes;
  if (missing == 0) return Finish(index, absl::OkStatus());
  // The rest of a direct transfer that stopped inside a page could not be asked for.
  const bool stopped = result == 0 || (operation.file->direct() &&
                                       slot.transferred_bytes % kDirectAlignmentBytes != 0);
  if (!stopped) return Prepare(index);
  Finish(index, operation.kind == DiskOperation::Kind::kRead
                    ? EndOfFile(path, operation.offset, operation.bytes.size(), missing)
                    : DiskError(EIO, "write", path));
}

void UringQueue::Finish(uint32_t index, absl::Status status) {
  DiskOperation& operation = *std::exchange(slots_[index].operation, nullptr);
  free_slots_.push_back(index);
  operation.Done(std::move(status));
}

}  // namespace reprise::storage
