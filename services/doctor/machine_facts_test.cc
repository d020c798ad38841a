#include "services/doctor/machine_facts.h"

#include <sys/mman.h>
#include <unistd.h>

#include <filesystem>

#include <gtest/gtest.h>

namespace reprise::doctor {
namespace {

TEST(MachineFactsTest, SeesThisMachine) {
  const MachineFacts machine = ReadMachine("");
  EXPECT_GT(machine.cores, 0);
  EXPECT_LE(machine.cores, static_cast<uint32_t>(sysconf(_SC_NPROCESSORS_CONF)));
  EXPECT_GT(machine.memory_bytes, 0);
  EXPECT_EQ(machine.avx2, __builtin_cpu_supports("avx2") != 0);
  // What may be locked can be locked.
  void* const page = mmap(nullptr, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(page, MAP_FAILED);
  EXPECT_EQ(mlock(page, 4096) == 0, machine.memlock_bytes >= 4096);
  munmap(page, 4096);
  // Every machine that runs tests has a loopback device, unless /sys is missing.
  if (std::filesystem::exists("/sys/class/net/lo")) {
    ASSERT_TRUE(machine.ucx_devices.ok()) << machine.ucx_devices.status();
    EXPECT_FALSE(machine.ucx_devices->empty());
  }
  EXPECT_FALSE(machine.disk.has_value());
}

TEST(MachineFactsTest, TriesTheDiskAndLeavesNothingThere) {
  const std::filesystem::path directory =
      std::filesystem::path(testing::TempDir()) / ("doctor-" + std::to_string(getpid()));
  std::filesystem::create_directory(directory);
  const MachineFacts machine = ReadMachine(directory.string());
  ASSERT_TRUE(machine.disk.has_value());
  EXPECT_TRUE(machine.disk->usable.ok()) << machine.disk->usable;
  EXPECT_GT(machine.disk->free_bytes, 0);
  EXPECT_TRUE(std::filesystem::is_empty(directory));
  std::filesystem::remove(directory);
  EXPECT_FALSE(ReadMachine(directory.string()).disk->usable.ok());
}

}  // namespace
}  // namespace reprise::doctor
