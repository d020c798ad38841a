// A store with a disk, as its operator sees it: restarts, kills, and what is wrong with a disk.

#include <signal.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <fstream>
#include <random>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "services/cli/commands.h"
#include "services/cli/reprise_process.h"

namespace reprise::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

std::vector<std::string> WithDisk(const std::string& directory, const std::string& size = "1GiB") {
  return {"--memory", "400MiB", "--disk", directory, "--disk-size", size};
}

double Metric(const RunningStore& store, const std::string& series) {
  const std::string text = "\n" + store.Http("/metrics");
  const size_t at = text.find("\n" + series + " ");
  return at == std::string::npos ? -1 : std::stod(text.substr(at + 1 + series.size()));
}

// Of all files there; one that goes meanwhile counts as nothing.
uint64_t BytesIn(const std::string& directory) {
  uint64_t bytes = 0;
  std::error_code gone;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(directory, gone)) {
    if (!entry.is_regular_file(gone)) continue;
    const uint64_t size = entry.file_size(gone);
    if (!gone) bytes += size;
  }
  return bytes;
}

// `reprise store` must end by itself with one line on standard error.
void ExpectRefused(std::vector<std::string> args, const std::string& says) {
  args.insert(args.begin(), "store");
  args.insert(args.end(), {"--listen", "127.0.0.1:0", "--metrics", "off"});
  const Finished finished = RunReprise(args);
  EXPECT_EQ(finished.exit_code, kExitError) << finished.err;
  EXPECT_THAT(finished.err, StartsWith("reprise: "));
  EXPECT_THAT(finished.err, HasSubstr(says));
  EXPECT_EQ(std::count(finished.err.begin(), finished.err.end(), '\n'), 1) << finished.err;
  EXPECT_EQ(finished.out, "");
}

TEST(CliDisk, WhatWasPutDurablySurvivesAKill) {
  const ScratchDir scratch;
  const std::string disk = scratch.Path("disk");
  const std::string small = scratch.Write("small", "a few bytes");
  const std::string large = scratch.Write("large", Pattern(5'000'000, 1));
  {
    RunningStore store(WithDisk(disk));
    ASSERT_NE(store.grpc(), "");
    ASSERT_EQ(store.Run({"put", "small", small, "--durable"}).exit_code, kExitOk);
    ASSERT_EQ(store.Run({"put", "large", large}).exit_code, kExitOk);
    // Held already, and durable only from now on.
    const Finished again = store.Run({"put", "large", large, "--durable"});
    ASSERT_EQ(again.exit_code, kExitOk) << again.err;
    EXPECT_THAT(again.out, StartsWith("already held"));
    EXPECT_EQ(Metric(store, "reprise_store_persisted_pieces_total"), 2);
    store.Stop(SIGKILL);
  }
  const RunningStore store(WithDisk(disk));
  ASSERT_NE(store.grpc(), "");
  EXPECT_EQ(Metric(store, "reprise_store_pieces"), 0);
  EXPECT_EQ(Metric(store, "reprise_store_disk_pieces"), 2);
  EXPECT_THAT(store.Run({"stat", "small"}).out, HasSubstr("nvme"));
  const Finished verified = store.Run({"stat", "large", "--verify"});
  EXPECT_EQ(verified.exit_code, kExitOk) << verified.err;
  for (const char* carrier : {"ucx", "grpc"}) {
    EXPECT_EQ(store.Run({"get", "small", "--carrier", carrier}).out, "a few bytes");
    EXPECT_EQ(store.Run({"get", "large", "--carrier", carrier}).out, ReadWhole(large));
  }
  EXPECT_EQ(Metric(store, "reprise_store_loaded_pieces_total"), 2);
  EXPECT_EQ(store.Run({"rm", "small"}).exit_code, kExitOk);
  EXPECT_EQ(store.Run({"get", "small"}).exit_code, kExitMiss);
}

TEST(CliDisk, APlannedEndSavesWhatOnlyMemoryHas) {
  const ScratchDir scratch;
  const std::string disk = scratch.Path("disk");
  const std::string first = scratch.Write("first", Pattern(3'000'000, 1));
  const std::string second = scratch.Write("second", "a few bytes");
  {
    RunningStore store(WithDisk(disk));
    ASSERT_EQ(store.Run({"put", "first", first}).exit_code, kExitOk);
    ASSERT_EQ(store.Run({"put", "second", second}).exit_code, kExitOk);
    EXPECT_EQ(Metric(store, "reprise_store_disk_pieces"), 0);
    EXPECT_EQ(store.Stop(SIGTERM).exit_code, kExitOk);
  }
  const RunningStore store(WithDisk(disk));
  EXPECT_EQ(Metric(store, "reprise_store_disk_pieces"), 2);
  EXPECT_EQ(store.Run({"get", "first"}).out, ReadWhole(first));
  EXPECT_EQ(store.Run({"get", "second"}).out, "a few bytes");
}

TEST(CliDisk, AKillWhileItSavesLosesNothingDurable) {
  const ScratchDir scratch;
  const std::string disk = scratch.Path("disk");
  const std::string file = scratch.Write("in", Pattern(8 << 20, 1));
  constexpr int kPieces = 8;
  for (int round = 0; round < 3; ++round) {
    {
      RunningStore store(WithDisk(disk));
      for (int i = 0; i < kPieces; ++i) {
        std::vector<std::string> put = {"put", std::to_string(round * kPieces + i), file};
        if (i % 2 == 0) put.push_back("--durable");
        ASSERT_EQ(store.Run(put).exit_code, kExitOk);
      }
      ASSERT_EQ(kill(store.pid(), SIGTERM), 0);
      // Before it saves, after one piece and after two; -1 when it was faster and is gone.
      double saved = 0;
      while (saved >= 0 && saved < round) {
        saved = Metric(store, "reprise_store_demoted_pieces_total");
      }
      store.Stop(SIGKILL);
    }
    const RunningStore store(WithDisk(disk));
    for (int i = 0; i < (round + 1) * kPieces; ++i) {
      const Finished get = store.Run({"get", std::to_string(i)});
      if (get.exit_code == kExitMiss && i % 2 == 1) continue;
      EXPECT_EQ(get.exit_code, kExitOk) << get.err;
      EXPECT_EQ(get.out, ReadWhole(file)) << i;
    }
  }
}

TEST(CliDisk, DurableNeedsADisk) {
  const ScratchDir scratch;
  const RunningStore store({"--memory", "400MiB"});
  const Finished put = store.Run({"put", "x", scratch.Write("x", "x"), "--durable"});
  EXPECT_EQ(put.exit_code, kExitError);
  EXPECT_THAT(put.err, HasSubstr("start it with --disk"));
  EXPECT_EQ(store.Run({"get", "x"}).exit_code, kExitMiss);
}

TEST(CliDisk, MoreThanMemoryHoldsIsServedWithinBothBudgets) {
  const ScratchDir scratch;
  const std::string disk = scratch.Path("disk");
  const RunningStore store(WithDisk(disk, "512MiB"));
  ASSERT_NE(store.grpc(), "");
  std::vector<std::string> files;
  for (uint32_t i = 0; i < 40; ++i) {
    files.push_back(scratch.Write("in" + std::to_string(i), Pattern(4 << 20, i)));
    ASSERT_EQ(store.Run({"put", "x" + std::to_string(i), files.back()}).exit_code, kExitOk);
  }
  int same = 0;
  for (uint32_t i = 0; i < 40; ++i) {
    const Finished get = store.Run({"get", "x" + std::to_string(i)});
    same += get.exit_code == kExitOk && get.out == ReadWhole(files[i]) ? 1 : 0;
  }
  EXPECT_EQ(same, 40);
  EXPECT_GT(Metric(store, "reprise_store_demoted_pieces_total"), 10);
  const uint64_t on_disk = BytesIn(disk);
  EXPECT_LE(on_disk, uint64_t{512} << 20);
  EXPECT_GT(on_disk, uint64_t{64} << 20);
#ifndef REPRISE_SANITIZED
  EXPECT_LT(store.StatusKb("VmHWM"), 400 * 1024);
#endif
}

#ifndef REPRISE_SANITIZED
TEST(CliDisk, BothBudgetsHoldAllTheTimeUnderLoad) {
  constexpr int kPieces = 160;
  constexpr int kClients = 4;
  constexpr uint64_t kDiskBytes = uint64_t{512} << 20;
  const ScratchDir scratch;
  const std::string disk = scratch.Path("disk");
  const RunningStore store(WithDisk(disk, "512MiB"));
  ASSERT_NE(store.grpc(), "");
  std::vector<std::string> files;
  for (uint32_t i = 0; i < kClients; ++i) {
    files.push_back(scratch.Write("in" + std::to_string(i), Pattern(8 << 20, i)));
  }
  // 1.25 GiB through half a gigabyte of disk, and after each piece any earlier one is read.
  std::atomic<int> running{kClients};
  std::atomic<int> stored{0};
  std::atomic<int> same{0};
  std::atomic<int> other{0};
  std::vector<std::thread> clients;
  clients.reserve(kClients);
  for (int client = 0; client < kClients; ++client) {
    clients.emplace_back([&, client] {
      const std::string& file = files[static_cast<size_t>(client)];
      std::mt19937 random(static_cast<uint32_t>(client));
      const auto name = [](int i) { return "load" + std::to_string(i); };
      for (int i = client; i < kPieces; i += kClients) {
        const std::string carrier = i % 8 < 4 ? "ucx" : "grpc";
        std::vector<std::string> put = {"put", name(i), file, "--carrier", carrier};
        if (i % 2 == 0) put.push_back("--durable");
        stored += store.Run(put).exit_code == kExitOk ? 1 : 0;
        const int earlier =
            client +
            static_cast<int>(random() % static_cast<uint32_t>(i / kClients + 1)) * kClients;
        const Finished get = store.Run({"get", name(earlier), "--carrier", carrier});
        if (get.exit_code == kExitOk) (get.out == ReadWhole(file) ? same : other) += 1;
      }
      --running;
    });
  }
  uint64_t most_on_disk = 0;
  int64_t most_kb = 0;
  while (running > 0) {
    most_on_disk = std::max(most_on_disk, BytesIn(disk));
    most_kb = std::max(most_kb, store.StatusKb("VmRSS") + store.StatusKb("HugetlbPages"));
    std::this_thread::yield();
  }
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(stored, kPieces);
  EXPECT_GT(same, kPieces / 8);
  EXPECT_EQ(other, 0);
  EXPECT_GT(Metric(store, "reprise_store_loaded_pieces_total"), 0);
  EXPECT_GT(Metric(store, "reprise_store_disk_evicted_pieces_total"), kPieces / 4);
  EXPECT_LE(most_on_disk, kDiskBytes);
  EXPECT_GT(most_on_disk, kDiskBytes / 2);
  EXPECT_LT(std::max(most_kb, store.StatusKb("VmHWM")), 400 * 1024);
  EXPECT_GT(most_kb, 50 * 1024);
  RecordProperty("peak_kb", static_cast<int>(most_kb));
  RecordProperty("most_on_disk_mib", static_cast<int>(most_on_disk >> 20));
}
#endif

TEST(CliDisk, OneStoreAtATime) {
  const ScratchDir scratch;
  const std::string disk = scratch.Path("disk");
  const RunningStore store(WithDisk(disk));
  ASSERT_NE(store.grpc(), "");
  ExpectRefused(WithDisk(disk), disk);
}

TEST(CliDisk, WhatIsWrongWithADiskIsSaidInOneLine) {
  const ScratchDir scratch;
  const std::string file = scratch.Write("file", "not a directory");
  ExpectRefused(WithDisk(file), file + " is no directory");
  EXPECT_EQ(ReadWhole(file), "not a directory");
  const std::string orphan = scratch.Path("no/such/parent");
  ExpectRefused(WithDisk(orphan), orphan + ": No such file or directory; make what is missing");
  // Where not even root may make a directory.
  ExpectRefused(WithDisk("/sys/reprise"), "let this user write there");
  ExpectRefused(WithDisk(scratch.Path("small"), "1MiB"), "too small");
  const std::string others = scratch.Path("others");
  std::filesystem::create_directory(others);
  scratch.Write("others/thesis.tex", "years of work");
  ExpectRefused(WithDisk(others), others);
  EXPECT_EQ(ReadWhole(others + "/thesis.tex"), "years of work");
}

TEST(CliDisk, ADiskThatIsTooSmallNamesASizeThatIsEnough) {
  const ScratchDir scratch;
  const std::string disk = scratch.Path("disk");
  const Finished refused = RunReprise({"store", "--memory", "400MiB", "--disk", disk, "--disk-size",
                                       "32MiB", "--listen", "127.0.0.1:0"});
  EXPECT_EQ(refused.exit_code, kExitError) << refused.err;
  EXPECT_FALSE(std::filesystem::exists(disk));
  const std::string before = "give at least ";
  const size_t at = refused.err.find(before);
  ASSERT_NE(at, std::string::npos) << refused.err;
  const uint64_t enough = std::stoull(refused.err.substr(at + before.size()));
  ExpectRefused(WithDisk(disk, std::to_string(enough - 1)), before + std::to_string(enough));
  const RunningStore store(WithDisk(disk, std::to_string(enough)));
  ASSERT_NE(store.grpc(), "");
  EXPECT_EQ(store.Run({"put", "x", scratch.Write("x", "x"), "--durable"}).exit_code, kExitOk);
}

TEST(CliDisk, ADirectoryOfAnotherVersionOrAnotherNodeIsLeftAlone) {
  const ScratchDir scratch;
  const std::string disk = scratch.Path("disk");
  const std::string other = scratch.Path("other");
  for (const std::string& directory : {disk, other}) {
    RunningStore store(WithDisk(directory));
    ASSERT_EQ(store.Run({"put", "x", scratch.Write("x", "x"), "--durable"}).exit_code, kExitOk);
    store.Stop(SIGTERM);
  }
  const std::string identity = disk + "/IDENTITY";
  const std::string text = ReadWhole(identity);
  const size_t version = text.find('1');
  ASSERT_NE(version, std::string::npos);
  std::string newer = text;
  newer[version] = '9';
  std::ofstream(identity) << newer;
  ExpectRefused(WithDisk(disk), "version");
  std::ofstream(identity) << ReadWhole(other + "/IDENTITY");
  ExpectRefused(WithDisk(disk), disk);
  std::ofstream(identity) << text;
  const RunningStore store(WithDisk(disk));
  EXPECT_EQ(store.Run({"get", "x"}).out, "x");
}

TEST(CliDisk, ALostIndexIsNoEmptyStore) {
  const ScratchDir scratch;
  const std::string disk = scratch.Path("disk");
  {
    RunningStore store(WithDisk(disk));
    ASSERT_EQ(store.Run({"put", "x", scratch.Write("x", "x"), "--durable"}).exit_code, kExitOk);
    store.Stop(SIGTERM);
  }
  std::filesystem::remove_all(disk + "/index");
  ExpectRefused(WithDisk(disk), "fsck");
}

TEST(CliDisk, ADiskNeedsItsSize) {
  const ScratchDir scratch;
  for (const auto& [args, says] : std::vector<std::pair<std::vector<std::string>, std::string>>{
           {{"store", "--disk", "d"}, "--disk without --disk-size"},
           {{"store", "--disk-size", "1GiB"}, "--disk-size without --disk"},
           {{"store", "--disk", "d", "--disk-size", "much"}, "\"much\" is not a size"}}) {
    const Finished finished = RunReprise(args);
    EXPECT_EQ(finished.exit_code, kExitUsage) << finished.err;
    EXPECT_THAT(finished.err, HasSubstr(says));
  }
  ExpectRefused({"--config", scratch.Write("store.yaml", "memory: 400MiB\ndisk: /nowhere\n")},
                "give --disk-size");
}

}  // namespace
}  // namespace reprise::cli
