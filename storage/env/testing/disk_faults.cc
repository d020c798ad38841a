#include "storage/env/testing/disk_faults.h"

namespace reprise::storage {
namespace {

constexpr std::array<std::string_view, kDiskCalls> kCallNames = {
    "open",        "read",           "write",        "sync",
    "size",        "truncate",       "preallocate",  "queue read",
    "queue write", "queue sync",     "create queue", "create directory",
    "list",        "exists",         "delete",       "delete directory",
    "rename",      "sync directory", "lock",         "space"};
constexpr std::array<std::string_view, kDiskFaults> kFaultNames = {
    "I/O error", "no space", "short", "interrupted", "misdirected", "reordered"};

}  // namespace

std::string_view Name(DiskCall call) { return kCallNames[static_cast<size_t>(call)]; }

std::string_view Name(DiskFault fault) { return kFaultNames[static_cast<size_t>(fault)]; }

void DiskFaults::At(uint64_t number, DiskFault fault) {
  MutexLock lock(mutex_);
  by_number_[number] = fault;
}

void DiskFaults::At(DiskCall call, uint64_t number, DiskFault fault) {
  MutexLock lock(mutex_);
  by_call_[{call, number}] = fault;
}

void DiskFaults::Always(DiskCall call, DiskFault fault) {
  MutexLock lock(mutex_);
  always_[call] = fault;
}

void DiskFaults::Heal() {
  MutexLock lock(mutex_);
  by_number_.clear();
  by_call_.clear();
  always_.clear();
}

uint64_t DiskFaults::calls() const {
  MutexLock lock(mutex_);
  return total_;
}

uint64_t DiskFaults::calls(DiskCall call) const {
  MutexLock lock(mutex_);
  return counts_[static_cast<size_t>(call)];
}

std::optional<DiskFault> DiskFaults::Count(DiskCall call) {
  MutexLock lock(mutex_);
  const uint64_t number = total_++;
  const uint64_t of_kind = counts_[static_cast<size_t>(call)]++;
  if (const auto entry = by_number_.find(number); entry != by_number_.end()) return entry->second;
  if (const auto entry = by_call_.find({call, of_kind}); entry != by_call_.end()) {
    return entry->second;
  }
  if (const auto entry = always_.find(call); entry != always_.end()) return entry->second;
  return std::nullopt;
}

}  // namespace reprise::storage
