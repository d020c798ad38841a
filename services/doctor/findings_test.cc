#include "services/doctor/findings.h"

#include <algorithm>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/limits.h"

namespace reprise::doctor {
namespace {

using ::testing::HasSubstr;

// Everything as it should be, with every device.
MachineFacts GoodMachine() {
  MachineFacts machine;
  machine.cores = 8;
  machine.avx2 = true;
  machine.avx512 = true;
  machine.memory_bytes = 64 * kGiB;
  machine.huge_pages_reserved = 100;
  machine.huge_pages_free = 40;
  machine.transparent_huge_pages = "madvise";
  machine.memlock_bytes = kUnlimited;
  machine.open_files = 1 << 20;
  machine.ucx_devices = std::vector<transport::UcxDevice>{
      {.transport = "rc_mlx5", .device = "mlx5_0:1", .rdma = true},
      {.transport = "tcp", .device = "eth0"}};
  machine.rdma_devices = {"mlx5_0"};
  machine.verbs_accessible = true;
  machine.gpus = {"0000:01:00.0"};
  machine.cuda_library = true;
  machine.disk = DiskFacts{.directory = "/data", .direct = true, .free_bytes = 100 * kGiB};
  return machine;
}

Finding Of(const MachineFacts& machine, std::string_view subject) {
  for (Finding& finding : Examine(machine)) {
    if (finding.subject == subject) return finding;
  }
  ADD_FAILURE() << "nothing about " << subject;
  return {};
}

TEST(FindingsTest, AGoodMachineNeedsNothing) {
  for (const Finding& finding : Examine(GoodMachine())) {
    EXPECT_EQ(finding.verdict, Verdict::kGood) << finding.subject;
    EXPECT_EQ(finding.remedy, "") << finding.subject;
    EXPECT_NE(finding.says, "") << finding.subject;
  }
}

TEST(FindingsTest, WhatIsNotGoodHasARemedyUnlessNothingNeedsIt) {
  MachineFacts machine;  // next to nothing of anything
  machine.memory_bytes = 16 * kMiB;
  machine.memlock_bytes = 8 * kMiB;
  machine.io_uring = absl::PermissionDeniedError("io_uring_setup: Operation not permitted");
  machine.rdma_devices = {"rxe0"};
  machine.numa_nodes = 2;
  machine.disk = DiskFacts{.directory = "/data",
                           .usable = absl::PermissionDeniedError("open /data/x: denied"),
                           .free_bytes = 0};
  for (const Finding& finding : Examine(machine)) {
    EXPECT_NE(finding.verdict, Verdict::kGood) << finding.subject;
    EXPECT_EQ(finding.remedy.empty(), finding.verdict == Verdict::kAbsent) << finding.subject;
  }
}

TEST(FindingsTest, WhatAContainerProfileDeniesIsToldFromWhatTheHostForbids) {
  MachineFacts machine = GoodMachine();
  machine.io_uring = absl::PermissionDeniedError("io_uring_setup: Operation not permitted");
  EXPECT_THAT(Of(machine, "io_uring").remedy, HasSubstr("seccomp"));
  EXPECT_THAT(Of(machine, "io_uring").says, HasSubstr("Operation not permitted"));
  machine.io_uring_disabled = 2;
  EXPECT_THAT(Of(machine, "io_uring").remedy, HasSubstr("kernel.io_uring_disabled=0"));
  EXPECT_EQ(Of(machine, "io_uring").verdict, Verdict::kSlower);
}

TEST(FindingsTest, LockedMemoryMattersMostToRdma) {
  MachineFacts machine = GoodMachine();
  machine.memlock_bytes = 8 * kMiB;
  EXPECT_EQ(Of(machine, "memlock").verdict, Verdict::kBroken);
  machine.rdma_devices.clear();
  EXPECT_EQ(Of(machine, "memlock").verdict, Verdict::kSlower);
  EXPECT_THAT(Of(machine, "memlock").says, HasSubstr("8 MiB"));
}

TEST(FindingsTest, TheDataPathSaysWhatCarriesIt) {
  MachineFacts machine = GoodMachine();
  EXPECT_EQ(Of(machine, "data path").says, "UCX over RDMA: rc_mlx5/mlx5_0:1, tcp/eth0");
  machine.ucx_devices = std::vector<transport::UcxDevice>{{.transport = "tcp", .device = "eth0"}};
  EXPECT_EQ(Of(machine, "data path").says, "UCX over TCP: tcp/eth0");
  machine.ucx_devices = std::vector<transport::UcxDevice>{};
  EXPECT_EQ(Of(machine, "data path").verdict, Verdict::kSlower);
  EXPECT_THAT(Of(machine, "data path").says, HasSubstr("gRPC"));
}

TEST(FindingsTest, ADiskIsUsableDirectAndLargeOrSaysWhatItLacks) {
  MachineFacts machine = GoodMachine();
  machine.disk->free_bytes = kGiB;
  EXPECT_EQ(Of(machine, "disk").verdict, Verdict::kSlower);
  EXPECT_THAT(Of(machine, "disk").says, HasSubstr("1 GiB free"));
  machine.disk->direct = false;
  EXPECT_THAT(Of(machine, "disk").says, HasSubstr("page cache"));
  machine.disk->usable = absl::NotFoundError("open /data/x: No such file or directory");
  EXPECT_EQ(Of(machine, "disk").verdict, Verdict::kBroken);
  machine.disk.reset();
  const std::vector<Finding> findings = Examine(machine);
  EXPECT_TRUE(std::none_of(findings.begin(), findings.end(),
                           [](const Finding& finding) { return finding.subject == "disk"; }));
}

TEST(FindingsTest, TooLittleMemoryForAStoreIsAFailure) {
  MachineFacts machine = GoodMachine();
  machine.memory_bytes = 64 * kMiB;
  EXPECT_EQ(Of(machine, "memory").verdict, Verdict::kBroken);
  EXPECT_THAT(Of(machine, "memory").says, HasSubstr("64 MiB"));
}

}  // namespace
}  // namespace reprise::doctor
