// An Env in memory for tests: fails the calls that it is told to, loses power with whatever was not
// made durable, and has a clock that a test moves. All chance comes from the seed, so that one
// thread sees the same run for the same seed. Thread-safe.
//
//   SimulatedEnv env({.seed = 7});
//   ... write through it ...
//   env.PowerLoss(PowerLossMode::kTorn);   // what was open is dead; open again on what is left
//
// To try every moment of a run, keep a DiskImage before each call, and later look at each one as a
// restarted machine would:
//
//   std::vector<DiskImage> moments;
//   env.BeforeEachCall([&](DiskCall) { moments.push_back(env.image()); });
//   ...
//   SimulatedEnv after({.seed = 8}, moments[n].AfterPowerLoss(PowerLossMode::kDrop, 8));
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "common/clock.h"
#include "common/mutex.h"
#include "storage/env/env.h"
#include "storage/env/testing/disk_faults.h"
#include "storage/env/testing/disk_image.h"

namespace reprise::storage {

struct SimulatedDiskOptions {
  uint64_t seed = 0;
  uint64_t capacity_bytes = uint64_t{1} << 40;  // writes beyond it are RESOURCE_EXHAUSTED
  bool direct_io = true;                        // false: as on tmpfs
};

class SimulatedEnv final : public Env {
 public:
  explicit SimulatedEnv(const SimulatedDiskOptions& options, DiskImage image = {});

  DiskFaults& faults() { return faults_; }
  ManualClock& manual_clock() { return clock_; }
  // The disk at this moment. Cheap.
  DiskImage image() const;
  // Called before each call does anything, without a lock, on the thread of the call. To be set
  // while no call is under way.
  void BeforeEachCall(std::function<void(DiskCall)> hook) { hook_ = std::move(hook); }
  // Files, queues and locks that are open now give errors for ever.
  void PowerLoss(PowerLossMode mode);

  std::string_view backend() const override { return "simulated"; }
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
  const Clock& clock() const override { return clock_; }
  uint64_t Random() override;

 private:
  friend class SimulatedFile;
  friend class SimulatedLock;
  friend class SimulatedQueue;

  // Counts the call. A fault that is an error comes as its status.
  absl::Status Begin(DiskCall call, const std::string& path);
  std::optional<DiskFault> Count(DiskCall call);
  absl::Status CheckGrowth(DiskImage::Node file, uint64_t size_bytes, const std::string& path)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const SimulatedDiskOptions options_;
  DiskFaults faults_;
  ManualClock clock_;
  std::function<void(DiskCall)> hook_;

  mutable Mutex mutex_;
  DiskImage image_ ABSL_GUARDED_BY(mutex_);
  std::mt19937_64 random_ ABSL_GUARDED_BY(mutex_);
  uint64_t power_losses_ ABSL_GUARDED_BY(mutex_) = 0;
  std::multiset<DiskImage::Node> open_ ABSL_GUARDED_BY(mutex_);
  std::set<std::string> locked_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace reprise::storage
