// Every disk call, clock and random source of the tiers, so that a test can fail the n-th call,
// tear a write, lose what was not made durable, or stop time.
//
// Two ways to the disk. EnvFile and the calls of Env block and are for starting, recovering,
// scrubbing and RocksDB's own files. A DiskQueue is the data path: many operations under way at
// once, and nothing is allocated for one of them. An Env and its files and queues are thread-safe
// unless said otherwise; an Env outlives everything it made.
//
// Errors of all calls: NOT_FOUND, ALREADY_EXISTS, PERMISSION_DENIED, RESOURCE_EXHAUSTED (no space,
// quota, descriptors), DATA_LOSS (fewer bytes than asked for: the file ends before them),
// INVALID_ARGUMENT (alignment, not a directory), UNAVAILABLE (what is locked), INTERNAL (any other
// errno, EIO above all). Each message names the path, the call and the system's reason. EINTR and
// short transfers are gone on with, never reported.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/bytes.h"
#include "common/clock.h"
#include "common/status.h"

namespace reprise::storage {

// What offsets, lengths and memory of direct files are multiples of.
inline constexpr uint64_t kDirectAlignmentBytes = 4096;

// Closes the file when destroyed; no operation on it may be under way then.
class EnvFile {
 public:
  virtual ~EnvFile() = default;
  virtual const std::string& path() const = 0;
  // Whether it was opened past the page cache.
  virtual bool direct() const = 0;

  // All of `to`, or DATA_LOSS.
  virtual absl::Status ReadAt(uint64_t offset, MutableByteSpan to) const = 0;
  // All of `bytes`; the file grows as far as they reach.
  virtual absl::Status WriteAt(uint64_t offset, ByteSpan bytes) = 0;
  // What was written, and the file's size, survive power loss afterwards.
  virtual absl::Status Sync() = 0;
  virtual absl::StatusOr<uint64_t> SizeBytes() const = 0;
  virtual absl::Status Truncate(uint64_t size_bytes) = 0;
  // Takes room on the device for [0, size_bytes) and makes the file that long; on file systems that
  // cannot, only the latter.
  virtual absl::Status Preallocate(uint64_t size_bytes) = 0;
};

// One operation of a DiskQueue. Owned by whoever submits it, as a base or a member; must stay where
// it is from Submit until Done.
class DiskOperation {
 public:
  enum class Kind : uint8_t { kRead, kWrite, kSync };

  virtual ~DiskOperation() = default;

  // All bytes were transferred, or the first error. Called once, on a thread of the queue or within
  // Submit; must not block, and may submit again or destroy this object.
  virtual void Done(absl::Status status) = 0;

  Kind kind = Kind::kRead;
  EnvFile* file = nullptr;  // outlives the operation
  uint64_t offset = 0;
  // Read into or written from; not for kSync. On a direct file address, size and offset are
  // multiples of kDirectAlignmentBytes.
  MutableByteSpan bytes{};

 private:
  friend class OperationList;
  DiskOperation* next_ = nullptr;  // among those that wait for room
};

// Operations in no order among each other: what must come after another is submitted in its Done.
class DiskQueue {
 public:
  // Waits for everything submitted.
  virtual ~DiskQueue() = default;

  // Starts each operation now or, where `depth` are under way, as others end. Does not block on the
  // disk and does not allocate.
  virtual void Submit(std::span<DiskOperation* const> operations) = 0;
  void Submit(DiskOperation& operation) {
    DiskOperation* const one = &operation;
    Submit(std::span(&one, 1));
  }
};

struct DiskQueueOptions {
  std::string name;  // of its thread, at most 15 bytes
  uint32_t depth = 64;
  // Memory that most operations read into or write from, registered with the kernel once; may be
  // empty. Must outlive the queue.
  std::vector<MutableByteSpan> buffers{};
};

enum class OpenMode : uint8_t {
  kRead,       // NOT_FOUND when absent
  kReadWrite,  // NOT_FOUND when absent
  kCreate,     // reads and writes; ALREADY_EXISTS when there
  kReplace,    // reads and writes; empty from the start
};

// Held until destroyed, or until the process ends in whatever way.
class DirectoryLock {
 public:
  virtual ~DirectoryLock() = default;
};

struct DiskSpace {
  uint64_t total_bytes = 0;
  uint64_t free_bytes = 0;  // for this user
};

class Env {
 public:
  virtual ~Env() = default;

  // How DiskQueues reach the disk: "io_uring", "pread", or a test's name.
  virtual std::string_view backend() const = 0;

  // `direct` asks to go past the page cache; a file system that cannot says so in the log once, and
  // the file's direct() is false.
  virtual absl::StatusOr<std::unique_ptr<EnvFile>> Open(const std::string& path, OpenMode mode,
                                                        bool direct) = 0;
  virtual absl::StatusOr<std::unique_ptr<DiskQueue>> CreateQueue(
      const DiskQueueOptions& options) = 0;

  // OK when it is there already; its parent must exist.
  virtual absl::Status CreateDirectory(const std::string& path) = 0;
  // Names of what is in it, in ascending order, without "." and "..".
  virtual absl::StatusOr<std::vector<std::string>> List(const std::string& directory) = 0;
  virtual absl::StatusOr<bool> Exists(const std::string& path) = 0;
  virtual absl::Status Delete(const std::string& file) = 0;
  virtual absl::Status DeleteDirectory(const std::string& path) = 0;  // an empty one
  // Over what is there under `to`.
  virtual absl::Status Rename(const std::string& from, const std::string& to) = 0;
  // What was created, renamed or deleted in it survives power loss afterwards.
  virtual absl::Status SyncDirectory(const std::string& path) = 0;
  // UNAVAILABLE, naming the file, when another process has it.
  virtual absl::StatusOr<std::unique_ptr<DirectoryLock>> Lock(const std::string& file) = 0;
  virtual absl::StatusOr<DiskSpace> Space(const std::string& path) = 0;

  virtual const Clock& clock() const = 0;
  virtual uint64_t Random() = 0;

  // The machine's disk, through io_uring, or through a few threads of pread and pwrite where the
  // kernel or its limits deny that, which is logged once with the reason. Lives for ever.
  static Env& Machine();
};

}  // namespace reprise::storage
