// Queues of the machine against the heap: this binary counts every allocation, and operations that
// succeed must make none.

#include <atomic>
#include <deque>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"

#include "common/mutex.h"
#include "storage/env/machine_env.h"
#include "storage/env/testing/disk_calls.h"
#include "storage/testing/counted_heap.h"

namespace reprise::storage {
namespace {

constexpr size_t kPage = kDirectAlignmentBytes;
constexpr uint32_t kDepth = 4;
constexpr size_t kOperations = 3 * kDepth;  // so that some always wait for room
constexpr uint64_t kWarmUp = 100;
constexpr uint64_t kTimes = 2000;

// Counts what is done, and the allocations as of the first and the last that count.
struct Progress {
  DiskQueue* queue = nullptr;
  std::atomic<uint64_t> done = 0;
  std::atomic<uint64_t> allocations_before = 0;
  std::atomic<uint64_t> allocations_after = 0;
  Mutex mutex;
  CondVar ended;
  size_t left ABSL_GUARDED_BY(mutex) = kOperations;
};

class Repeated final : public DiskOperation {
 public:
  Repeated(Progress& progress, Kind repeated, EnvFile& of, MutableByteSpan memory)
      : progress_(progress) {
    kind = repeated;
    file = &of;
    bytes = memory;
  }
  void Done(absl::Status status) override {
    EXPECT_EQ(status, absl::OkStatus());
    const uint64_t number = ++progress_.done;
    if (number == kWarmUp) progress_.allocations_before = counted_heap.allocations.load();
    if (number == kTimes) progress_.allocations_after = counted_heap.allocations.load();
    if (number < kTimes) return progress_.queue->Submit(*this);
    MutexLock lock(progress_.mutex);
    if (--progress_.left == 0) progress_.ended.notify_all();
  }

 private:
  Progress& progress_;
};

class DiskQueueMemoryTest : public ::testing::TestWithParam<MachineEnv::Backend> {};

TEST_P(DiskQueueMemoryTest, OperationsAllocateNothing) {
  std::string folder = testing::TempDir() + "reprise-queue-XXXXXX";
  ASSERT_NE(mkdtemp(folder.data()), nullptr);
  MachineEnv env(GetParam());
  auto file = env.Open(folder + "/a", OpenMode::kCreate, true);
  ASSERT_TRUE(file.ok()) << file.status();
  const AlignedBytes memory(kOperations * kPage);
  ASSERT_TRUE((*file)->WriteAt(0, memory.bytes()).ok());
  auto queue = env.CreateQueue(
      {.name = "test", .depth = kDepth, .buffers = {memory.bytes(0, kOperations / 2 * kPage)}});
  ASSERT_TRUE(queue.ok()) << queue.status();
  for (const auto kind : {DiskOperation::Kind::kWrite, DiskOperation::Kind::kRead}) {
    Progress progress;
    progress.queue = queue->get();
    std::deque<Repeated> operations;
    std::vector<DiskOperation*> batch;
    for (size_t i = 0; i < kOperations; ++i) {
      operations.emplace_back(progress, kind, **file, memory.bytes(i * kPage, kPage));
      operations.back().offset = i * kPage;
      batch.push_back(&operations.back());
    }
    (*queue)->Submit(batch);
    MutexLock lock(progress.mutex);
    while (progress.left > 0) progress.ended.wait(progress.mutex);
    EXPECT_EQ(progress.allocations_after - progress.allocations_before, 0u);
  }
  queue->reset();
  file->reset();
  std::filesystem::remove_all(folder);
}

INSTANTIATE_TEST_SUITE_P(All, DiskQueueMemoryTest,
                         ::testing::Values(MachineEnv::Backend::kUring,
                                           MachineEnv::Backend::kPread),
                         [](const auto& backend) {
                           return backend.param == MachineEnv::Backend::kUring ? "Uring" : "Pread";
                         });

}  // namespace
}  // namespace reprise::storage
