// Files and rings that end in every order.

#include "storage/env/ring_files.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

#include "storage/env/machine_env.h"
#include "storage/env/machine_file.h"
#include "storage/env/testing/disk_calls.h"

namespace reprise::storage {
namespace {

class RingFilesTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = testing::TempDir() + "reprise-ring-XXXXXX";
    ASSERT_NE(mkdtemp(folder_.data()), nullptr);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::unique_ptr<EnvFile> Create(const std::string& name) {
    auto file = env_.Open(folder_ + "/" + name, OpenMode::kReplace, false);
    EXPECT_TRUE(file.ok()) << file.status();
    EXPECT_TRUE((*file)->WriteAt(0, AsBytes(name)).ok());
    return *std::move(file);
  }
  std::unique_ptr<DiskQueue> Queue() {
    auto queue = env_.CreateQueue({.name = "test", .depth = 4});
    EXPECT_TRUE(queue.ok()) << queue.status();
    return *std::move(queue);
  }
  static std::string Read(DiskQueue& queue, EnvFile& file, size_t size) {
    std::string text(size, '?');
    AwaitedOperation read(DiskOperation::Kind::kRead, file, 0,
                          std::as_writable_bytes(std::span(text)));
    queue.Submit(read);
    EXPECT_EQ(read.Wait(), absl::OkStatus());
    return text;
  }

  std::string folder_;
  MachineEnv env_{MachineEnv::Backend::kUring};
};

// A lock lives as long as the kernel has the file open, so that taking it again waits for that.
TEST_F(RingFilesTest, AClosedFileIsLetGoByAnIdleQueue) {
  const auto queue = Queue();
  auto file = Create("a");
  EXPECT_EQ(Read(*queue, *file, 1), "a");
  ASSERT_EQ(flock(static_cast<MachineFile&>(*file).descriptor(), LOCK_EX | LOCK_NB), 0);
  file.reset();
  const int again = open((folder_ + "/a").c_str(), O_RDWR | O_CLOEXEC);
  ASSERT_GE(again, 0);
  EXPECT_EQ(flock(again, LOCK_EX), 0);
  close(again);
}

TEST_F(RingFilesTest, QueuesMayEndBeforeTheFilesTheyUsed) {
  const auto file = Create("a");
  for (int i = 0; i < 10; ++i) EXPECT_EQ(Read(*Queue(), *file, 1), "a");
}

TEST_F(RingFilesTest, ManyQueuesUseOneFile) {
  const auto file = Create("a");
  std::vector<std::unique_ptr<DiskQueue>> queues;
  queues.reserve(6);
  for (int i = 0; i < 6; ++i) queues.push_back(Queue());
  for (const auto& queue : queues) EXPECT_EQ(Read(*queue, *file, 1), "a");
}

// An index is used again for another file, never for the one before.
TEST_F(RingFilesTest, FilesComeAndGoWithoutBeingMixedUp) {
  const auto queue = Queue();
  for (int i = 0; i < 300; ++i) {
    const std::string name = absl::StrCat(i);
    EXPECT_EQ(Read(*queue, *Create(name), name.size()), name);
  }
}

TEST_F(RingFilesTest, FilesBeyondTheTableAreReadAllTheSame) {
  rlimit limit{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
  const rlimit low{.rlim_cur = 64, .rlim_max = limit.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &low), 0);
  const auto queue = Queue();
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
  std::vector<std::unique_ptr<EnvFile>> files;
  files.reserve(100);
  for (int i = 0; i < 100; ++i) files.push_back(Create(absl::StrCat(i)));
  for (int i = 0; i < 100; ++i) {
    const std::string name = absl::StrCat(i);
    EXPECT_EQ(Read(*queue, *files[static_cast<size_t>(i)], name.size()), name);
  }
}

}  // namespace
}  // namespace reprise::storage
