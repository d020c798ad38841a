// pin, unpin, warm, times to live and quotas, with real stores.

#include <signal.h>

#include <chrono>
#include <fstream>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "services/cli/commands.h"
#include "services/cli/reprise_process.h"

namespace reprise::cli {
namespace {

using ::testing::HasSubstr;

// Files of 4 MiB called `prefix`0, `prefix`1, ...
void PutMany(const RunningStore& store, const ScratchDir& scratch, const std::string& prefix,
             int count, const std::vector<std::string>& more = {}) {
  for (int i = 0; i < count; ++i) {
    const std::string name = prefix + std::to_string(i);
    std::vector<std::string> args = {
        "put", name, scratch.Write(name, Pattern(4 << 20, static_cast<uint32_t>(i)))};
    args.insert(args.end(), more.begin(), more.end());
    const Finished put = store.Run(args);
    ASSERT_EQ(put.exit_code, kExitOk) << put.err;
  }
}

TEST(CliKeep, WhatIsPinnedOutlastsAFlood) {
  const ScratchDir scratch;
  const RunningStore store({"--memory", "400MiB"});
  const std::string small = scratch.Write("small", "keep me");
  for (const char* name : {"pinned", "loose"}) {
    ASSERT_EQ(store.Run({"put", name, small}).exit_code, kExitOk);
  }
  const Finished pinned = store.Run({"pin", "pinned", "--for", "600"});
  EXPECT_EQ(pinned.exit_code, kExitOk) << pinned.err;
  EXPECT_EQ(pinned.out, "pinned: 1 of 1 pinned\n");
  EXPECT_EQ(store.Run({"pin", "absent"}).exit_code, kExitMiss);
  PutMany(store, scratch, "flood", 60);
  EXPECT_EQ(store.Run({"get", "pinned"}).out, "keep me");
  EXPECT_EQ(store.Run({"get", "loose"}).exit_code, kExitMiss);
  EXPECT_EQ(store.Run({"unpin", "pinned", "--json"}).out,
            "{\"name\": \"pinned\", \"unpinned\": 1, \"of\": 1}\n");
  EXPECT_EQ(store.Run({"unpin", "pinned"}).exit_code, kExitMiss);
}

TEST(CliKeep, WarmingBringsPiecesFromTheDiskAfterARestart) {
  const ScratchDir scratch;
  const std::vector<std::string> with_disk = {"--memory",           "400MiB",      "--disk",
                                              scratch.Path("disk"), "--disk-size", "1GiB"};
  {
    RunningStore store(with_disk);
    PutMany(store, scratch, "x", 3, {"--durable"});
    store.Stop(SIGTERM);
  }
  const RunningStore store(with_disk);
  EXPECT_THAT(store.Run({"stat", "x0"}).out, HasSubstr("nvme"));
  const Finished warm = store.Run({"warm", "x0", "x1", "absent"});
  EXPECT_EQ(warm.exit_code, kExitMiss);
  EXPECT_EQ(warm.out, "x0: 1 of 1 in memory\nx1: 1 of 1 in memory\nabsent: 0 of 1 in memory\n");
  EXPECT_THAT(store.Run({"stat", "x1"}).out, HasSubstr("host"));
  EXPECT_THAT(store.Run({"stat", "x2"}).out, HasSubstr("nvme"));
  EXPECT_EQ(store.Run({"get", "x1"}).out, ReadWhole(scratch.Path("x1")));
}

TEST(CliKeep, ATimeToLiveEndsByItself) {
  const ScratchDir scratch;
  const RunningStore store({"--memory", "400MiB"});
  const std::string file = scratch.Write("brief", "brief");
  const auto begun = std::chrono::steady_clock::now();
  ASSERT_EQ(store.Run({"put", "brief", file, "--ttl", "3"}).exit_code, kExitOk);
  int exit_code = kExitOk;
  while (exit_code == kExitOk) {
    ASSERT_LT(std::chrono::steady_clock::now() - begun, std::chrono::seconds(60));
    exit_code = store.Run({"get", "brief"}).exit_code;
  }
  EXPECT_EQ(exit_code, kExitMiss);
  // Whole seconds of the wall clock: a part of the first may have passed before.
  EXPECT_GE(std::chrono::steady_clock::now() - begun, std::chrono::seconds(2));
}

TEST(CliKeep, ATenantsQuotaCostsItsOwnObjectsOnly) {
  const ScratchDir scratch;
  const std::string config = scratch.Write("store.yaml",
                                           "memory: 400MiB\n"
                                           "tenants:\n"
                                           "  - name: small\n"
                                           "    credential: a\n"
                                           "    memory_quota: 17MiB\n"
                                           "  - name: free\n"
                                           "    credential: b\n");
  const RunningStore store({"--config", config});
  const std::vector<std::string> small = {"--tenant", "small", "--credential-file",
                                          scratch.Write("a", "a")};
  const std::vector<std::string> free = {"--tenant", "free", "--credential-file",
                                         scratch.Write("b", "b")};
  PutMany(store, scratch, "free", 4, free);
  PutMany(store, scratch, "small", 12, small);
  const auto has = [&](const std::string& name, std::vector<std::string> as) {
    as.insert(as.begin(), {"stat", name});
    return store.Run(as).exit_code == kExitOk;
  };
  // Four of 4 MiB and their headers fit into 17 MiB.
  for (int i = 0; i < 12; ++i) EXPECT_EQ(has("small" + std::to_string(i), small), i >= 8) << i;
  for (int i = 0; i < 4; ++i) EXPECT_TRUE(has("free" + std::to_string(i), free)) << i;
}

TEST(CliKeep, WrongUsageIsSaid) {
  EXPECT_EQ(RunReprise({"pin"}).exit_code, kExitUsage);
  const Finished too_long = RunReprise({"pin", "x", "--for", "90000"});
  EXPECT_EQ(too_long.exit_code, kExitUsage);
  EXPECT_THAT(too_long.err, HasSubstr("86400"));
  EXPECT_THAT(RunReprise({"pin", "--help"}).out, HasSubstr("A restart of the store forgets pins"));
}

}  // namespace
}  // namespace reprise::cli
