// The Env of the machine: its files by POSIX calls, its DiskQueues on io_uring or, where that is
// denied, on threads of pread and pwrite. Thread-safe.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "storage/env/env.h"

namespace reprise::storage {

class MachineEnv final : public Env {
 public:
  enum class Backend : uint8_t { kUring, kPread };

  // With kUring a queue that io_uring is denied gets threads instead, and so do all after it.
  explicit MachineEnv(Backend backend);

  std::string_view backend() const override;
  absl::StatusOr<std::unique_ptr<EnvFile>> Open(const std::string& path, OpenMode mode,
                                                bool direct) override;
  absl::StatusOr<std::unique_ptr<DiskQueue>> CreateQueue(const DiskQueueOptions& options) override;
  absl::Status CreateDirectory(const std::string& path) override;
  absl::StatusOr<std::vector<std::string>> List(const std::string& directory) override;
  absl::StatusOr<bool> Exists(const std::string& path) override;
  absl::Status Delete(const std::string& file) override;
  absl::Status DeleteDirectory(const std::string& path) override;
  absl::Status Rename(const std::string& from, const std::string& to) override;
  absl::Status SyncDirectory(const std::string& path) override;
  absl::StatusOr<std::unique_ptr<DirectoryLock>> Lock(const std::string& file) override;
  absl::StatusOr<DiskSpace> Space(const std::string& path) override;
  const Clock& clock() const override { return Clock::Steady(); }
  uint64_t Random() override;

 private:
  std::atomic<Backend> backend_;
  std::atomic<bool> said_not_direct_{false};
};

}  // namespace reprise::storage
