// A file of the machine's: an EnvFile over a descriptor, and by which index each io_uring that uses
// it knows it. As thread-safe as its interface says.
#pragma once

#include <array>
#include <atomic>
#include <cerrno>
#include <memory>
#include <span>
#include <string>
#include <utility>

#include "storage/env/env.h"

namespace reprise::storage {

class RingFiles;

// Written once by the thread of the ring that claimed it.
struct FileRegistration {
  std::atomic<RingFiles*> claimed{nullptr};
  std::shared_ptr<RingFiles> ring{};  // null when it could not be registered
  int index = -1;
};

class MachineFile final : public EnvFile {
 public:
  // Takes the descriptor.
  MachineFile(std::string path, int descriptor, bool direct)
      : path_(std::move(path)), descriptor_(descriptor), direct_(direct) {}
  ~MachineFile() override;
  MachineFile(const MachineFile&) = delete;
  MachineFile& operator=(const MachineFile&) = delete;

  const std::string& path() const override { return path_; }
  bool direct() const override { return direct_; }
  int descriptor() const { return descriptor_; }
  std::span<FileRegistration> registrations() { return registrations_; }

  absl::Status ReadAt(uint64_t offset, MutableByteSpan to) const override;
  absl::Status WriteAt(uint64_t offset, ByteSpan bytes) override;
  absl::Status Sync() override;
  absl::StatusOr<uint64_t> SizeBytes() const override;
  absl::Status Truncate(uint64_t size_bytes) override;
  absl::Status Preallocate(uint64_t size_bytes) override;

 private:
  const std::string path_;
  const int descriptor_;
  const bool direct_;
  // Rings beyond these use the descriptor.
  std::array<FileRegistration, 4> registrations_{};
};

// A call that a signal may interrupt, made until none does; `call` gives -1 and errno.
template <typename Call>
auto WithoutInterruption(const Call& call) {
  for (;;) {
    const auto result = call();
    if (result != -1 || errno != EINTR) return result;
  }
}

}  // namespace reprise::storage
