// Which calls of a SimulatedEnv go wrong, and how; and how many calls there were. Thread-safe.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string_view>
#include <utility>

#include "common/mutex.h"

namespace reprise::storage {

// The call sites: what of Env, EnvFile and DiskQueue was called.
enum class DiskCall : uint8_t {
  kOpen,
  kRead,
  kWrite,
  kSync,
  kSize,
  kTruncate,
  kPreallocate,
  kQueueRead,
  kQueueWrite,
  kQueueSync,
  kCreateQueue,
  kCreateDirectory,
  kList,
  kExists,
  kDelete,
  kDeleteDirectory,
  kRename,
  kSyncDirectory,
  kLock,
  kSpace,
};
inline constexpr size_t kDiskCalls = static_cast<size_t>(DiskCall::kSpace) + 1;

std::string_view Name(DiskCall call);

// The first three are seen by the caller as errors, the others not at all. Those that make no sense
// for a call (a misdirected rename) leave it alone.
enum class DiskFault : uint8_t {
  kIoError,      // nothing happens but EIO; what a sync was to make durable is lost
  kNoSpace,      // nothing happens but ENOSPC
  kShort,        // EIO after a part of the bytes
  kInterrupted,  // two parts with the hook of the env between them
  kMisdirected,  // other pages of the file are read or written
  kReordered,    // a queue's operation comes after all that wait beside it
};
inline constexpr size_t kDiskFaults = static_cast<size_t>(DiskFault::kReordered) + 1;

std::string_view Name(DiskFault fault);

class DiskFaults {
 public:
  // Calls are counted from 0, over all of them or over one kind; each fault happens once.
  void At(uint64_t number, DiskFault fault);
  void At(DiskCall call, uint64_t number, DiskFault fault);
  // From now on every call of that kind, until Heal.
  void Always(DiskCall call, DiskFault fault);
  // Nothing fails from now on.
  void Heal();

  uint64_t calls() const;
  uint64_t calls(DiskCall call) const;

  // Counts a call and says what is to go wrong with it.
  std::optional<DiskFault> Count(DiskCall call);

 private:
  mutable Mutex mutex_;
  uint64_t total_ ABSL_GUARDED_BY(mutex_) = 0;
  std::array<uint64_t, kDiskCalls> counts_ ABSL_GUARDED_BY(mutex_){};
  std::map<uint64_t, DiskFault> by_number_ ABSL_GUARDED_BY(mutex_);
  std::map<std::pair<DiskCall, uint64_t>, DiskFault> by_call_ ABSL_GUARDED_BY(mutex_);
  std::map<DiskCall, DiskFault> always_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace reprise::storage
