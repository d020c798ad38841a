// What env.h promises, asked of every Env there is.

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <deque>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "storage/env/env.h"
#include "storage/env/machine_env.h"
#include "storage/env/testing/disk_calls.h"
#include "storage/env/testing/simulated_env.h"

namespace reprise::storage {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr size_t kPage = kDirectAlignmentBytes;

struct EnvKind {
  std::string name;
  std::function<std::unique_ptr<Env>()> create;
};

class EnvConformanceTest : public ::testing::TestWithParam<EnvKind> {
 protected:
  void SetUp() override {
    // Not a temporary file system by preference: some of those have no direct I/O.
    std::string pattern = testing::TempDir() + "reprise-env-XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    machine_folder_ = pattern;
    env_ = GetParam().create();
    folder_ = machine_folder_ + "/data";
    // An env of its own has none of the folders above either.
    for (size_t end = folder_.find('/', 1); end != std::string::npos;
         end = folder_.find('/', end + 1)) {
      ASSERT_EQ(env_->CreateDirectory(folder_.substr(0, end)), absl::OkStatus());
    }
    ASSERT_TRUE(env_->CreateDirectory(folder_).ok());
  }
  void TearDown() override { std::filesystem::remove_all(machine_folder_); }

  std::string Path(const std::string& name) const { return folder_ + "/" + name; }

  std::unique_ptr<EnvFile> Open(const std::string& name, OpenMode mode, bool direct = false) {
    auto file = env_->Open(Path(name), mode, direct);
    EXPECT_TRUE(file.ok()) << file.status();
    return *std::move(file);
  }

  void WriteFile(const std::string& name, std::string_view text) {
    EXPECT_TRUE(Open(name, OpenMode::kReplace)->WriteAt(0, AsBytes(text)).ok());
  }

  std::string ReadFile(const std::string& name) {
    const auto file = Open(name, OpenMode::kRead);
    std::string text(*file->SizeBytes(), '?');
    EXPECT_TRUE(file->ReadAt(0, std::as_writable_bytes(std::span(text))).ok());
    return text;
  }

  std::unique_ptr<DiskQueue> Queue(uint32_t depth, std::vector<MutableByteSpan> buffers = {}) {
    auto queue = env_->CreateQueue({.name = "test", .depth = depth, .buffers = buffers});
    EXPECT_TRUE(queue.ok()) << queue.status();
    return *std::move(queue);
  }

  std::string machine_folder_;
  std::string folder_;
  std::unique_ptr<Env> env_;
};

TEST_P(EnvConformanceTest, OpenModesSayWhatIsThere) {
  EXPECT_EQ(env_->Open(Path("a"), OpenMode::kRead, false).status().code(),
            absl::StatusCode::kNotFound);
  const absl::Status absent = env_->Open(Path("a"), OpenMode::kReadWrite, false).status();
  EXPECT_EQ(absent.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(absent.message()), HasSubstr(Path("a")));
  EXPECT_TRUE(env_->Open(Path("a"), OpenMode::kCreate, false).ok());
  EXPECT_EQ(env_->Open(Path("a"), OpenMode::kCreate, false).status().code(),
            absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(env_->Open(Path("absent/a"), OpenMode::kCreate, false).status().code(),
            absl::StatusCode::kNotFound);
  WriteFile("a", "old");
  Open("a", OpenMode::kReplace);
  EXPECT_EQ(ReadFile("a"), "");
}

TEST_P(EnvConformanceTest, FilesKeepWhatIsWritten) {
  const auto file = Open("a", OpenMode::kCreate);
  ASSERT_TRUE(file->WriteAt(0, AsBytes("0123456789")).ok());
  ASSERT_TRUE(file->WriteAt(12, AsBytes("cd")).ok());
  ASSERT_TRUE(file->WriteAt(3, AsBytes("xyz")).ok());
  EXPECT_EQ(*file->SizeBytes(), 14u);
  EXPECT_EQ(ReadFile("a"), std::string("012xyz6789\0\0cd", 14));
  ASSERT_TRUE(file->Truncate(5).ok());
  ASSERT_TRUE(file->Truncate(7).ok());
  EXPECT_EQ(ReadFile("a"), std::string("012xy\0\0", 7));
  ASSERT_TRUE(file->Preallocate(9000).ok());
  EXPECT_EQ(*file->SizeBytes(), 9000u);
  ASSERT_TRUE(file->Preallocate(100).ok());
  EXPECT_EQ(*file->SizeBytes(), 9000u);
  EXPECT_EQ(ReadFile("a").substr(0, 5), "012xy");
  EXPECT_TRUE(file->Sync().ok());
}

TEST_P(EnvConformanceTest, ReadingBehindTheEndIsDataLoss) {
  WriteFile("a", "0123456789");
  const auto file = Open("a", OpenMode::kRead);
  std::string text(8, '?');
  const MutableByteSpan to = std::as_writable_bytes(std::span(text));
  const absl::Status status = file->ReadAt(4, to);
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr(Path("a")));
  EXPECT_TRUE(file->ReadAt(2, to).ok());
  EXPECT_EQ(text, "23456789");
  AwaitedOperation read(DiskOperation::Kind::kRead, *file, 4, to);
  Queue(4)->Submit(read);
  EXPECT_EQ(read.Wait().code(), absl::StatusCode::kDataLoss);
}

TEST_P(EnvConformanceTest, FilesOpenedToReadCannotBeWritten) {
  WriteFile("a", "text");
  EXPECT_FALSE(Open("a", OpenMode::kRead)->WriteAt(0, AsBytes("x")).ok());
  EXPECT_EQ(ReadFile("a"), "text");
}

TEST_P(EnvConformanceTest, DirectFilesNeedAlignment) {
  const auto file = Open("a", OpenMode::kCreate, true);
  const AlignedBytes memory(4 * kPage);
  ASSERT_TRUE(file->WriteAt(0, memory.bytes()).ok());
  if (!file->direct()) GTEST_SKIP() << "no direct I/O in " << folder_;
  EXPECT_EQ(file->ReadAt(512, memory.bytes(0, kPage)).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(file->ReadAt(0, memory.bytes(0, 512)).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(file->WriteAt(0, memory.bytes(512, kPage)).code(), absl::StatusCode::kInvalidArgument);
  AwaitedOperation read(DiskOperation::Kind::kRead, *file, 0, memory.bytes(512, kPage));
  Queue(4)->Submit(read);
  EXPECT_EQ(read.Wait().code(), absl::StatusCode::kInvalidArgument);
}

TEST_P(EnvConformanceTest, DirectReadsEndWithTheFile) {
  const auto file = Open("a", OpenMode::kCreate, true);
  const AlignedBytes memory(2 * kPage);
  ASSERT_TRUE(file->WriteAt(0, memory.bytes()).ok());
  ASSERT_TRUE(file->Truncate(kPage + 100).ok());
  EXPECT_EQ(file->ReadAt(0, memory.bytes()).code(), absl::StatusCode::kDataLoss);
  AwaitedOperation read(DiskOperation::Kind::kRead, *file, 0, memory.bytes());
  Queue(4)->Submit(read);
  EXPECT_EQ(read.Wait().code(), absl::StatusCode::kDataLoss);
}

TEST_P(EnvConformanceTest, RangesBehindTheLargestOffsetAreRefused) {
  const auto file = Open("a", OpenMode::kCreate);
  const AlignedBytes memory(kPage);
  const uint64_t offset = ~uint64_t{0} - kPage + 1;
  EXPECT_EQ(file->ReadAt(offset, memory.bytes()).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(file->WriteAt(offset, memory.bytes()).code(), absl::StatusCode::kInvalidArgument);
  AwaitedOperation read(DiskOperation::Kind::kRead, *file, offset, memory.bytes());
  Queue(4)->Submit(read);
  EXPECT_EQ(read.Wait().code(), absl::StatusCode::kInvalidArgument);
}

TEST_P(EnvConformanceTest, DirectoriesListWhatIsInThem) {
  EXPECT_THAT(*env_->List(folder_), IsEmpty());
  WriteFile("b", "b");
  WriteFile("a", "a");
  ASSERT_TRUE(env_->CreateDirectory(Path("c")).ok());
  ASSERT_TRUE(env_->CreateDirectory(Path("c")).ok());
  WriteFile("c/inner", "c");
  EXPECT_THAT(*env_->List(folder_), ElementsAre("a", "b", "c"));
  EXPECT_TRUE(*env_->Exists(Path("a")));
  EXPECT_TRUE(*env_->Exists(Path("c")));
  EXPECT_FALSE(*env_->Exists(Path("d")));
  EXPECT_FALSE(env_->DeleteDirectory(Path("c")).ok());
  ASSERT_TRUE(env_->Delete(Path("c/inner")).ok());
  EXPECT_TRUE(env_->DeleteDirectory(Path("c")).ok());
  EXPECT_TRUE(env_->SyncDirectory(folder_).ok());
  EXPECT_EQ(env_->Delete(Path("d")).code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(env_->List(Path("d")).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(env_->SyncDirectory(Path("d")).code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(env_->CreateDirectory(Path("d/e")).code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(env_->List(Path("a")).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(env_->CreateDirectory(Path("a")).code(), absl::StatusCode::kInvalidArgument);
}

TEST_P(EnvConformanceTest, RenameReplacesAndKeepsOpenFilesUsable) {
  WriteFile("a", "new");
  WriteFile("b", "old");
  const auto open = Open("a", OpenMode::kReadWrite);
  ASSERT_TRUE(env_->Rename(Path("a"), Path("b")).ok());
  EXPECT_THAT(*env_->List(folder_), ElementsAre("b"));
  EXPECT_EQ(ReadFile("b"), "new");
  ASSERT_TRUE(open->WriteAt(0, AsBytes("NEW")).ok());
  EXPECT_EQ(ReadFile("b"), "NEW");
  EXPECT_EQ(env_->Rename(Path("a"), Path("c")).code(), absl::StatusCode::kNotFound);
}

TEST_P(EnvConformanceTest, DeletedFilesStayReadableWhileOpen) {
  WriteFile("a", "text");
  const auto open = Open("a", OpenMode::kRead);
  ASSERT_TRUE(env_->Delete(Path("a")).ok());
  std::string text(4, '?');
  EXPECT_TRUE(open->ReadAt(0, std::as_writable_bytes(std::span(text))).ok());
  EXPECT_EQ(text, "text");
}

TEST_P(EnvConformanceTest, OneHolderOfALock) {
  auto lock = env_->Lock(Path("LOCK"));
  ASSERT_TRUE(lock.ok()) << lock.status();
  const absl::Status second = env_->Lock(Path("LOCK")).status();
  EXPECT_EQ(second.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(second.message()), HasSubstr(Path("LOCK")));
  lock->reset();
  EXPECT_TRUE(env_->Lock(Path("LOCK")).ok());
}

TEST_P(EnvConformanceTest, SpaceIsSomeOfTheWhole) {
  const auto space = env_->Space(folder_);
  ASSERT_TRUE(space.ok()) << space.status();
  EXPECT_GT(space->total_bytes, 0u);
  EXPECT_LE(space->free_bytes, space->total_bytes);
  EXPECT_EQ(env_->Space(Path("absent")).status().code(), absl::StatusCode::kNotFound);
}

TEST_P(EnvConformanceTest, QueuesNeedADepth) {
  EXPECT_EQ(env_->CreateQueue({.name = "none", .depth = 0}).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(env_->CreateQueue({.name = "deep", .depth = 1u << 30}).status().code(),
            absl::StatusCode::kInvalidArgument);
}

// Far more than the depth in one batch, half of it in registered memory, one buffer of which the
// operations overlap the end of.
TEST_P(EnvConformanceTest, QueuesMoveEveryByteToItsPlace) {
  constexpr size_t kCount = 100;
  for (const bool direct : {false, true}) {
    const auto file = Open("a", OpenMode::kReplace, direct);
    const AlignedBytes source(kCount * 2 * kPage);
    for (size_t page = 0; page < 2 * kCount; ++page) {
      for (std::byte& byte : source.bytes(page * kPage, kPage)) byte = std::byte(page);
    }
    const AlignedBytes target(kCount * 2 * kPage);
    const auto queue =
        Queue(8, {source.bytes(0, 51 * kPage), target.bytes(99 * kPage, 60 * kPage)});
    for (const auto kind : {DiskOperation::Kind::kWrite, DiskOperation::Kind::kRead}) {
      std::deque<AwaitedOperation> operations;
      std::vector<DiskOperation*> batch;
      for (size_t i = 0; i < kCount; ++i) {
        const auto& memory = kind == DiskOperation::Kind::kWrite ? source : target;
        operations.emplace_back(kind, *file, i * 2 * kPage, memory.bytes(i * 2 * kPage, 2 * kPage));
        batch.push_back(&operations.back());
      }
      queue->Submit(batch);
      for (AwaitedOperation& operation : operations) ASSERT_EQ(operation.Wait(), absl::OkStatus());
      for (AwaitedOperation& operation : operations) EXPECT_EQ(operation.times_done(), 1);
    }
    EXPECT_TRUE(std::ranges::equal(source.bytes(), target.bytes()));
    AwaitedOperation sync(DiskOperation::Kind::kSync, *file, 0, {});
    queue->Submit(sync);
    EXPECT_EQ(sync.Wait(), absl::OkStatus());
  }
}

TEST_P(EnvConformanceTest, AFailedOperationLeavesTheOthersAlone) {
  WriteFile("readable", std::string(kPage, 'x'));
  const auto file = Open("readable", OpenMode::kRead);
  const AlignedBytes memory(2 * kPage);
  AwaitedOperation write(DiskOperation::Kind::kWrite, *file, 0, memory.bytes(0, kPage));
  AwaitedOperation read(DiskOperation::Kind::kRead, *file, 0, memory.bytes(kPage, kPage));
  const auto queue = Queue(4);
  queue->Submit(std::vector<DiskOperation*>{&write, &read});
  const absl::Status failed = write.Wait();
  EXPECT_FALSE(failed.ok());
  EXPECT_THAT(std::string(failed.message()), HasSubstr(Path("readable")));
  EXPECT_EQ(read.Wait(), absl::OkStatus());
  EXPECT_EQ(memory.bytes()[kPage], std::byte{'x'});
}

// Writes the next page in the Done of the one before.
class Chain final : public DiskOperation {
 public:
  Chain(DiskQueue& queue, EnvFile& to, MutableByteSpan memory, uint64_t pages)
      : queue_(queue), pages_(pages) {
    kind = Kind::kWrite;
    file = &to;
    bytes = memory;
  }
  void Done(absl::Status status) override {
    EXPECT_EQ(status, absl::OkStatus());
    offset += bytes.size();
    if (offset < pages_ * kPage) queue_.Submit(*this);
  }

 private:
  DiskQueue& queue_;
  const uint64_t pages_;
};

TEST_P(EnvConformanceTest, DoneMaySubmitAgainAndTheQueueWaitsForAll) {
  const auto file = Open("a", OpenMode::kCreate);
  const AlignedBytes memory(kPage);
  auto queue = Queue(1);
  Chain chain(*queue, *file, memory.bytes(), 50);
  queue->Submit(chain);
  queue.reset();
  EXPECT_EQ(*file->SizeBytes(), 50 * kPage);
}

class SelfDeleting final : public DiskOperation {
 public:
  explicit SelfDeleting(EnvFile& to) {
    kind = Kind::kSync;
    file = &to;
  }
  void Done(absl::Status status) override {
    EXPECT_EQ(status, absl::OkStatus());
    delete this;
  }
};

TEST_P(EnvConformanceTest, DoneMayDestroyTheOperation) {
  const auto file = Open("a", OpenMode::kCreate);
  const auto queue = Queue(2);
  for (int i = 0; i < 10; ++i) queue->Submit(*new SelfDeleting(*file));
}

TEST_P(EnvConformanceTest, RandomNumbersDiffer) { EXPECT_NE(env_->Random(), env_->Random()); }

INSTANTIATE_TEST_SUITE_P(
    All, EnvConformanceTest,
    ::testing::Values(
        EnvKind{"Uring", [] { return std::make_unique<MachineEnv>(MachineEnv::Backend::kUring); }},
        EnvKind{"Pread", [] { return std::make_unique<MachineEnv>(MachineEnv::Backend::kPread); }},
        EnvKind{"Simulated",
                [] { return std::make_unique<SimulatedEnv>(SimulatedDiskOptions{.seed = 1}); }}),
    [](const auto& kind) { return kind.param.name; });

}  // namespace
}  // namespace reprise::storage
