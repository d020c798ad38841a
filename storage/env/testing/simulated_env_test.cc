#include "storage/env/testing/simulated_env.h"

#include <deque>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "storage/env/testing/disk_calls.h"

namespace reprise::storage {
namespace {

constexpr size_t kPage = kDirectAlignmentBytes;

std::unique_ptr<EnvFile> Created(Env& env, const std::string& path, size_t size_bytes = 0) {
  auto file = env.Open(path, OpenMode::kReplace, false);
  EXPECT_TRUE(file.ok()) << file.status();
  EXPECT_TRUE((*file)->WriteAt(0, AsBytes(std::string(size_bytes, 'o'))).ok());
  return *std::move(file);
}

std::string Text(Env& env, const std::string& path) {
  const auto file = env.Open(path, OpenMode::kRead, false);
  if (!file.ok()) return "(absent)";
  std::string text(*(*file)->SizeBytes(), '?');
  EXPECT_TRUE((*file)->ReadAt(0, std::as_writable_bytes(std::span(text))).ok());
  return text;
}

TEST(SimulatedEnvTest, FailsTheNthCallOfAllAndOfAKind) {
  SimulatedEnv env({.seed = 1});
  const auto file = Created(env, "/a", 100);
  env.faults().At(env.faults().calls() + 1, DiskFault::kIoError);
  EXPECT_TRUE(file->SizeBytes().ok());
  EXPECT_EQ(file->SizeBytes().status().code(), absl::StatusCode::kInternal);
  EXPECT_TRUE(file->SizeBytes().ok());

  env.faults().At(DiskCall::kRename, 0, DiskFault::kNoSpace);
  EXPECT_TRUE(file->Sync().ok());
  EXPECT_EQ(env.Rename("/a", "/b").code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(env.Rename("/a", "/b"), absl::OkStatus());
  EXPECT_EQ(env.faults().calls(DiskCall::kRename), 2u);

  env.faults().Always(DiskCall::kWrite, DiskFault::kNoSpace);
  EXPECT_EQ(file->WriteAt(0, AsBytes("x")).code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(file->WriteAt(0, AsBytes("x")).code(), absl::StatusCode::kResourceExhausted);
  env.faults().Heal();
  EXPECT_EQ(file->WriteAt(0, AsBytes("x")), absl::OkStatus());
}

absl::Status Queued(Env& env, EnvFile& file, DiskOperation::Kind kind) {
  std::string bytes(4, 'x');
  AwaitedOperation operation(kind, file, 0, std::as_writable_bytes(std::span(bytes)));
  (*env.CreateQueue({.name = "q"}))->Submit(operation);
  return operation.Wait();
}

// Makes one call of that kind.
absl::Status Call(Env& env, EnvFile& file, DiskCall call) {
  std::string bytes(4, 'x');
  switch (call) {
    case DiskCall::kOpen:
      return env.Open("/a", OpenMode::kRead, false).status();
    case DiskCall::kRead:
      return file.ReadAt(0, std::as_writable_bytes(std::span(bytes)));
    case DiskCall::kWrite:
      return file.WriteAt(0, AsBytes(bytes));
    case DiskCall::kSync:
      return file.Sync();
    case DiskCall::kSize:
      return file.SizeBytes().status();
    case DiskCall::kTruncate:
      return file.Truncate(10);
    case DiskCall::kPreallocate:
      return file.Preallocate(10);
    case DiskCall::kQueueRead:
      return Queued(env, file, DiskOperation::Kind::kRead);
    case DiskCall::kQueueWrite:
      return Queued(env, file, DiskOperation::Kind::kWrite);
    case DiskCall::kQueueSync:
      return Queued(env, file, DiskOperation::Kind::kSync);
    case DiskCall::kCreateQueue:
      return env.CreateQueue({.name = "q"}).status();
    case DiskCall::kCreateDirectory:
      return env.CreateDirectory("/d");
    case DiskCall::kList:
      return env.List("/").status();
    case DiskCall::kExists:
      return env.Exists("/a").status();
    case DiskCall::kDelete:
      return env.Delete("/deleted");
    case DiskCall::kDeleteDirectory:
      return env.DeleteDirectory("/empty");
    case DiskCall::kRename:
      return env.Rename("/renamed", "/b");
    case DiskCall::kSyncDirectory:
      return env.SyncDirectory("/");
    case DiskCall::kLock:
      return env.Lock("/LOCK").status();
    case DiskCall::kSpace:
      return env.Space("/").status();
  }
  return absl::UnimplementedError("no such call");
}

TEST(SimulatedEnvTest, EveryCallSiteFailsOnceAndWorksAgain) {
  for (size_t number = 0; number < kDiskCalls; ++number) {
    const auto call = static_cast<DiskCall>(number);
    for (const DiskFault fault : {DiskFault::kIoError, DiskFault::kNoSpace, DiskFault::kShort}) {
      SimulatedEnv env({.seed = 1});
      const auto file = Created(env, "/a", 100);
      Created(env, "/deleted");
      Created(env, "/renamed");
      ASSERT_TRUE(env.CreateDirectory("/empty").ok());
      env.faults().At(call, env.faults().calls(call), fault);
      EXPECT_FALSE(Call(env, *file, call).ok()) << Name(call) << ", " << Name(fault);
      EXPECT_EQ(Call(env, *file, call), absl::OkStatus()) << Name(call) << ", " << Name(fault);
    }
  }
}

TEST(SimulatedEnvTest, FaultsOfTransfersDoWhatTheyAreCalled) {
  SimulatedEnv env({.seed = 2});
  const auto file = Created(env, "/a", 4 * kPage);
  const auto write = [&](DiskFault fault) {
    env.faults().At(DiskCall::kWrite, env.faults().calls(DiskCall::kWrite), fault);
    return file->WriteAt(0, AsBytes("NEWNEW"));
  };
  EXPECT_EQ(write(DiskFault::kIoError).code(), absl::StatusCode::kInternal);
  EXPECT_EQ(Text(env, "/a"), std::string(4 * kPage, 'o'));
  EXPECT_EQ(write(DiskFault::kShort).code(), absl::StatusCode::kInternal);
  EXPECT_EQ(Text(env, "/a"), "NEW" + std::string(4 * kPage - 3, 'o'));
  EXPECT_EQ(write(DiskFault::kMisdirected), absl::OkStatus());
  const std::string text = Text(env, "/a");
  EXPECT_EQ(text.substr(0, 6), "NEWooo");
  EXPECT_EQ(text.find("NEWNEW") % kPage, 0u);
  EXPECT_EQ(write(DiskFault::kInterrupted), absl::OkStatus());
  EXPECT_EQ(Text(env, "/a").substr(0, 6), "NEWNEW");
}

TEST(SimulatedEnvTest, AnInterruptedWriteCanBeSeenHalfDone) {
  SimulatedEnv env({.seed = 3});
  const auto file = Created(env, "/a", 4);
  std::vector<DiskImage> moments;
  env.faults().At(DiskCall::kWrite, env.faults().calls(DiskCall::kWrite), DiskFault::kInterrupted);
  env.BeforeEachCall([&](DiskCall) { moments.push_back(env.image()); });
  ASSERT_TRUE(file->WriteAt(0, AsBytes("NEWS")).ok());
  env.BeforeEachCall(nullptr);
  ASSERT_EQ(moments.size(), 2u);
  SimulatedEnv before({.seed = 3}, moments[0]);
  EXPECT_EQ(Text(before, "/a"), "oooo");
  SimulatedEnv between({.seed = 3}, moments[1]);
  EXPECT_EQ(Text(between, "/a"), "NEoo");
}

TEST(SimulatedEnvTest, PowerLossKillsWhatIsOpen) {
  SimulatedEnv env({.seed = 4});
  const auto file = Created(env, "/a", 10);
  ASSERT_TRUE(file->Sync().ok());
  ASSERT_TRUE(env.SyncDirectory("/").ok());
  const auto lock = env.Lock("/LOCK");
  auto queue = env.CreateQueue({.name = "q"});
  ASSERT_TRUE(file->WriteAt(0, AsBytes("new")).ok());
  env.PowerLoss(PowerLossMode::kDrop);
  EXPECT_EQ(Text(env, "/a"), "oooooooooo");
  EXPECT_EQ(file->WriteAt(0, AsBytes("late")).code(), absl::StatusCode::kInternal);
  EXPECT_EQ(file->Sync().code(), absl::StatusCode::kInternal);
  AwaitedOperation sync(DiskOperation::Kind::kSync, *file, 0, {});
  (*queue)->Submit(sync);
  EXPECT_EQ(sync.Wait().code(), absl::StatusCode::kInternal);
  EXPECT_TRUE(env.Lock("/LOCK").ok());
  EXPECT_EQ(Text(env, "/a"), "oooooooooo");
}

TEST(SimulatedEnvTest, AFullDiskTakesNoMoreUntilSomethingIsDeleted) {
  SimulatedEnv env({.seed = 5, .capacity_bytes = 8 * kPage});
  Created(env, "/a", 6 * kPage);
  const auto file = Created(env, "/b", kPage);
  EXPECT_EQ(file->Preallocate(3 * kPage).code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(*file->SizeBytes(), kPage);
  EXPECT_EQ(env.Space("/")->free_bytes, kPage);
  ASSERT_TRUE(env.Delete("/a").ok());
  EXPECT_EQ(file->Preallocate(3 * kPage), absl::OkStatus());
}

// Appends its number to a list when done.
class Numbered final : public DiskOperation {
 public:
  Numbered(EnvFile& from, int number, std::vector<int>& order) : number_(number), order_(order) {
    kind = Kind::kSync;
    file = &from;
  }
  void Done(absl::Status status) override {
    EXPECT_EQ(status, absl::OkStatus());
    order_.push_back(number_);
  }

 private:
  const int number_;
  std::vector<int>& order_;
};

std::vector<int> OrderOfDone(uint64_t seed, bool postpone_first) {
  SimulatedEnv env({.seed = seed});
  const auto file = Created(env, "/a");
  std::vector<int> order;
  std::deque<Numbered> operations;
  std::vector<DiskOperation*> batch;
  batch.reserve(10);
  for (int number = 0; number < 10; ++number) {
    batch.push_back(&operations.emplace_back(*file, number, order));
  }
  if (postpone_first) env.faults().At(DiskCall::kQueueSync, 0, DiskFault::kReordered);
  auto queue = env.CreateQueue({.name = "q", .depth = postpone_first ? 1u : 10u});
  (*queue)->Submit(batch);
  queue->reset();
  return order;
}

TEST(SimulatedEnvTest, QueuesCompleteInTheOrderOfTheSeed) {
  EXPECT_EQ(OrderOfDone(6, false), OrderOfDone(6, false));
  EXPECT_NE(OrderOfDone(6, false), OrderOfDone(7, false));
}

TEST(SimulatedEnvTest, AReorderedOperationComesLast) {
  EXPECT_THAT(OrderOfDone(8, true), ::testing::ElementsAre(1, 2, 3, 4, 5, 6, 7, 8, 9, 0));
}

TEST(SimulatedEnvTest, TimeStandsStillUntilItIsMoved) {
  SimulatedEnv env({.seed = 9});
  const TimePoint before = env.clock().Now();
  env.manual_clock().Advance(std::chrono::seconds(5));
  EXPECT_EQ(env.clock().Now() - before, std::chrono::seconds(5));
  EXPECT_EQ(SimulatedEnv({.seed = 9}).Random(), SimulatedEnv({.seed = 9}).Random());
}

TEST(SimulatedEnvTest, FilesAreBufferedWhereThereIsNoDirectIo) {
  SimulatedEnv env({.seed = 10, .direct_io = false});
  const auto file = env.Open("/a", OpenMode::kCreate, true);
  EXPECT_FALSE((*file)->direct());
  EXPECT_TRUE((*file)->WriteAt(3, AsBytes("odd")).ok());
}

}  // namespace
}  // namespace reprise::storage
