#include "storage/env/testing/simulated_file.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"

#include "storage/env/disk_status.h"

namespace reprise::storage {
namespace {

DiskCall CallOf(DiskOperation::Kind kind) {
  switch (kind) {
    case DiskOperation::Kind::kRead:
      return DiskCall::kQueueRead;
    case DiskOperation::Kind::kWrite:
      return DiskCall::kQueueWrite;
    case DiskOperation::Kind::kSync:
      break;
  }
  return DiskCall::kQueueSync;
}

// What two parts are made of: at least a byte in the first where there are any.
size_t FirstPart(size_t size_bytes) { return (size_bytes + 1) / 2; }

}  // namespace

SimulatedFile::~SimulatedFile() {
  MutexLock lock(env_.mutex_);
  if (!CheckAlive().ok()) return;
  env_.open_.extract(opened_.node);
  env_.image_.Collect(env_.open_);
}

absl::Status SimulatedFile::CheckAlive() const {
  if (opened_.power_losses == env_.power_losses_) return absl::OkStatus();
  return absl::InternalError(
      absl::StrCat("use of ", path_, ": power was lost since it was opened"));
}

absl::Status SimulatedFile::ReadAt(uint64_t offset, MutableByteSpan to) const {
  REPRISE_RETURN_IF_ERROR(CheckTransfer(*this, offset, to));
  return Read(env_.Count(DiskCall::kRead), offset, to);
}

absl::Status SimulatedFile::WriteAt(uint64_t offset, ByteSpan bytes) {
  REPRISE_RETURN_IF_ERROR(CheckTransfer(*this, offset, bytes));
  return Write(env_.Count(DiskCall::kWrite), offset, bytes);
}

absl::Status SimulatedFile::Sync() { return Sync(env_.Count(DiskCall::kSync)); }

absl::StatusOr<uint64_t> SimulatedFile::SizeBytes() const {
  REPRISE_RETURN_IF_ERROR(env_.Begin(DiskCall::kSize, path_));
  MutexLock lock(env_.mutex_);
  REPRISE_RETURN_IF_ERROR(CheckAlive());
  return env_.image_.SizeBytes(opened_.node);
}

absl::Status SimulatedFile::Truncate(uint64_t size_bytes) {
  return Resize(DiskCall::kTruncate, size_bytes, true);
}

absl::Status SimulatedFile::Preallocate(uint64_t size_bytes) {
  return Resize(DiskCall::kPreallocate, size_bytes, false);
}

absl::Status SimulatedFile::Resize(DiskCall call, uint64_t size_bytes, bool shrink) {
  REPRISE_RETURN_IF_ERROR(env_.Begin(call, path_));
  MutexLock lock(env_.mutex_);
  REPRISE_RETURN_IF_ERROR(CheckAlive());
  if (!opened_.writable) return DiskError(EINVAL, "resize", path_);
  if (!shrink && size_bytes <= env_.image_.SizeBytes(opened_.node)) return absl::OkStatus();
  REPRISE_RETURN_IF_ERROR(env_.CheckGrowth(opened_.node, size_bytes, path_));
  env_.image_.Resize(opened_.node, size_bytes);
  return absl::OkStatus();
}

absl::Status SimulatedFile::Read(std::optional<DiskFault> fault, uint64_t offset,
                                 MutableByteSpan to) const {
  if (fault == DiskFault::kIoError || fault == DiskFault::kNoSpace) {
    return DiskError(EIO, "read", path_);
  }
  if (fault == DiskFault::kShort || fault == DiskFault::kInterrupted) {
    const size_t first = FirstPart(to.size());
    REPRISE_RETURN_IF_ERROR(ReadPart(offset, to.first(first)));
    if (fault == DiskFault::kShort) return DiskError(EIO, "read", path_);
    if (env_.hook_) env_.hook_(DiskCall::kRead);
    return ReadPart(offset + first, to.subspan(first));
  }
  if (fault == DiskFault::kMisdirected) offset = OtherOffset(offset, to.size());
  return ReadPart(offset, to);
}

absl::Status SimulatedFile::Write(std::optional<DiskFault> fault, uint64_t offset, ByteSpan bytes) {
  if (fault == DiskFault::kIoError) return DiskError(EIO, "write", path_);
  if (fault == DiskFault::kNoSpace) return DiskError(ENOSPC, "write", path_);
  if (fault == DiskFault::kShort || fault == DiskFault::kInterrupted) {
    const size_t first = FirstPart(bytes.size());
    REPRISE_RETURN_IF_ERROR(WritePart(offset, bytes.first(first)));
    if (fault == DiskFault::kShort) return DiskError(EIO, "write", path_);
    if (env_.hook_) env_.hook_(DiskCall::kWrite);
    return WritePart(offset + first, bytes.subspan(first));
  }
  if (fault == DiskFault::kMisdirected) offset = OtherOffset(offset, bytes.size());
  return WritePart(offset, bytes);
}

absl::Status SimulatedFile::Sync(std::optional<DiskFault> fault) {
  MutexLock lock(env_.mutex_);
  REPRISE_RETURN_IF_ERROR(CheckAlive());
  if (fault == DiskFault::kIoError || fault == DiskFault::kNoSpace || fault == DiskFault::kShort) {
    env_.image_.FailSync(opened_.node);
    return DiskError(fault == DiskFault::kNoSpace ? ENOSPC : EIO, "fdatasync", path_);
  }
  env_.image_.Sync(opened_.node);
  return absl::OkStatus();
}

absl::Status SimulatedFile::ReadPart(uint64_t offset, MutableByteSpan to) const {
  MutexLock lock(env_.mutex_);
  REPRISE_RETURN_IF_ERROR(CheckAlive());
  const size_t read = env_.image_.Read(opened_.node, offset, to);
  if (read == to.size()) return absl::OkStatus();
  return EndOfFile(path_, offset, to.size(), to.size() - read);
}

absl::Status SimulatedFile::WritePart(uint64_t offset, ByteSpan bytes) {
  MutexLock lock(env_.mutex_);
  REPRISE_RETURN_IF_ERROR(CheckAlive());
  if (!opened_.writable) return DiskError(EBADF, "write", path_);
  REPRISE_RETURN_IF_ERROR(env_.CheckGrowth(opened_.node, offset + bytes.size(), path_));
  env_.image_.Write(opened_.node, offset, bytes);
  return absl::OkStatus();
}

// Another place in the file where the bytes fit, in whole pages; the same where there is none.
uint64_t SimulatedFile::OtherOffset(uint64_t offset, size_t size_bytes) const {
  MutexLock lock(env_.mutex_);
  if (!CheckAlive().ok()) return offset;
  const uint64_t held = env_.image_.SizeBytes(opened_.node);
  if (held < size_bytes) return offset;
  const uint64_t places = (held - size_bytes) / kDirectAlignmentBytes + 1;
  const uint64_t other = env_.random_() % places * kDirectAlignmentBytes;
  return other != offset ? other
                         : (other + kDirectAlignmentBytes) % (places * kDirectAlignmentBytes);
}

SimulatedQueue::SimulatedQueue(SimulatedEnv& env, uint32_t depth)
    : env_(env), depth_(depth), thread_([this] { ThreadMain(); }) {}

SimulatedQueue::~SimulatedQueue() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  thread_.join();
}

void SimulatedQueue::Submit(std::span<DiskOperation* const> operations) {
  MutexLock lock(mutex_);
  for (DiskOperation* const operation : operations) {
    waiting_.push_back({.operation = operation, .fault = std::nullopt});
  }
  wake_.notify_all();
}

void SimulatedQueue::ThreadMain() {
  MutexLock lock(mutex_);
  for (;;) {
    while (waiting_.empty() && !stopping_) wake_.wait(mutex_);
    if (waiting_.empty()) return;
    const size_t choices = std::min<size_t>(waiting_.size(), depth_);
    const auto chosen = waiting_.begin() + static_cast<ptrdiff_t>(env_.Random() % choices);
    Waiting next = *chosen;
    waiting_.erase(chosen);
    mutex_.Unlock();
    if (!next.counted) {
      next.fault = env_.Count(CallOf(next.operation->kind));
      next.counted = true;
    }
    const bool postponed = next.fault == DiskFault::kReordered;
    if (!postponed) next.operation->Done(Run(next));
    mutex_.Lock();
    if (!postponed) continue;
    next.fault = std::nullopt;
    if (waiting_.empty()) {
      mutex_.Unlock();
      next.operation->Done(Run(next));
      mutex_.Lock();
    } else {
      waiting_.push_back(next);
    }
  }
}

absl::Status SimulatedQueue::Run(const Waiting& waiting) {
  const DiskOperation& operation = *waiting.operation;
  auto& file = static_cast<SimulatedFile&>(*operation.file);
  if (operation.kind == DiskOperation::Kind::kSync) return file.Sync(waiting.fault);
  REPRISE_RETURN_IF_ERROR(CheckTransfer(file, operation.offset, operation.bytes));
  return operation.kind == DiskOperation::Kind::kRead
             ? file.Read(waiting.fault, operation.offset, operation.bytes)
             : file.Write(waiting.fault, operation.offset, operation.bytes);
}

}  // namespace reprise::storage
