// Files and queues of a SimulatedEnv. As thread-safe as their interfaces say.
#pragma once

#include <cstdint>
#include <string>
#include <thread>
#include <vector>

#include "common/mutex.h"
#include "storage/env/env.h"
#include "storage/env/testing/disk_faults.h"
#include "storage/env/testing/disk_image.h"
#include "storage/env/testing/simulated_env.h"

namespace reprise::storage {

class SimulatedFile final : public EnvFile {
 public:
  struct Opened {
    DiskImage::Node node = 0;
    uint64_t power_losses = 0;  // of the env until then: after another one the file is dead
    bool direct = false;
    bool writable = false;
  };
  SimulatedFile(SimulatedEnv& env, std::string path, const Opened& opened)
      : env_(env), path_(std::move(path)), opened_(opened) {}
  ~SimulatedFile() override;
  SimulatedFile(const SimulatedFile&) = delete;
  SimulatedFile& operator=(const SimulatedFile&) = delete;

  const std::string& path() const override { return path_; }
  bool direct() const override { return opened_.direct; }
  absl::Status ReadAt(uint64_t offset, MutableByteSpan to) const override;
  absl::Status WriteAt(uint64_t offset, ByteSpan bytes) override;
  absl::Status Sync() override;
  absl::StatusOr<uint64_t> SizeBytes() const override;
  absl::Status Truncate(uint64_t size_bytes) override;
  absl::Status Preallocate(uint64_t size_bytes) override;

 private:
  friend class SimulatedQueue;

  // The calls themselves, once counted.
  absl::Status Read(std::optional<DiskFault> fault, uint64_t offset, MutableByteSpan to) const;
  absl::Status Write(std::optional<DiskFault> fault, uint64_t offset, ByteSpan bytes);
  absl::Status Sync(std::optional<DiskFault> fault);
  absl::Status ReadPart(uint64_t offset, MutableByteSpan to) const;
  absl::Status WritePart(uint64_t offset, ByteSpan bytes);
  absl::Status Resize(DiskCall call, uint64_t size_bytes, bool shrink);
  absl::Status CheckAlive() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(env_.mutex_);
  uint64_t OtherOffset(uint64_t offset, size_t size_bytes) const;

  SimulatedEnv& env_;
  const std::string path_;
  const Opened opened_;
};

// One thread that picks the next operation at random among the first `depth` that wait.
class SimulatedQueue final : public DiskQueue {
 public:
  SimulatedQueue(SimulatedEnv& env, uint32_t depth);
  ~SimulatedQueue() override;
  SimulatedQueue(const SimulatedQueue&) = delete;
  SimulatedQueue& operator=(const SimulatedQueue&) = delete;

  using DiskQueue::Submit;
  void Submit(std::span<DiskOperation* const> operations) override;

 private:
  struct Waiting {
    DiskOperation* operation = nullptr;
    std::optional<DiskFault> fault;
    bool counted = false;
  };
  void ThreadMain();
  absl::Status Run(const Waiting& waiting);

  SimulatedEnv& env_;
  const uint32_t depth_;
  Mutex mutex_;
  CondVar wake_;
  std::vector<Waiting> waiting_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace reprise::storage
