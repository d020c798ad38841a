#include "storage/env/pread_queue.h"

#include <pthread.h>

#include <algorithm>

namespace reprise::storage {
namespace {

constexpr uint32_t kMaxThreads = 8;
constexpr size_t kMaxThreadNameBytes = 15;

absl::Status Run(const DiskOperation& operation) {
  switch (operation.kind) {
    case DiskOperation::Kind::kRead:
      return operation.file->ReadAt(operation.offset, operation.bytes);
    case DiskOperation::Kind::kWrite:
      return operation.file->WriteAt(operation.offset, operation.bytes);
    case DiskOperation::Kind::kSync:
      break;
  }
  return operation.file->Sync();
}

}  // namespace

PreadQueue::PreadQueue(const DiskQueueOptions& options) {
  const uint32_t count = std::min(options.depth, kMaxThreads);
  for (uint32_t i = 0; i < count; ++i) {
    threads_.emplace_back([this, name = options.name] { ThreadMain(name); });
  }
}

PreadQueue::~PreadQueue() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void PreadQueue::Submit(std::span<DiskOperation* const> operations) {
  {
    MutexLock lock(mutex_);
    for (DiskOperation* const operation : operations) waiting_.Append(*operation);
  }
  if (operations.size() == 1) {
    wake_.notify_one();
  } else {
    wake_.notify_all();
  }
}

void PreadQueue::ThreadMain(const std::string& name) {
  pthread_setname_np(pthread_self(), name.substr(0, kMaxThreadNameBytes).c_str());
  MutexLock lock(mutex_);
  for (;;) {
    // What runs may submit more in its Done, so the end has come only when nothing runs either.
    while (waiting_.empty() && !(stopping_ && running_ == 0)) wake_.wait(mutex_);
    if (waiting_.empty()) break;
    DiskOperation& operation = waiting_.Pop();
    ++running_;
    mutex_.Unlock();
    operation.Done(Run(operation));
    mutex_.Lock();
    if (--running_ == 0 && stopping_) wake_.notify_all();
  }
}

}  // namespace reprise::storage
