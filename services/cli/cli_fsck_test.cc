// What an operator learns of a disk without a store: `reprise fsck` and `reprise du`.

#include <signal.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "services/cli/commands.h"
#include "services/cli/reprise_process.h"

namespace reprise::cli {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

class CliFsck : public ::testing::Test {
 protected:
  static constexpr uint32_t kFiles = 5;

  CliFsck() : disk_(scratch_.Path("disk")) {
    RunningStore store(Args());
    for (uint32_t i = 0; i < kFiles; ++i) {
      EXPECT_EQ(
          store.Run({"put", Name(i), scratch_.Write(Name(i), Contents(i)), "--durable"}).exit_code,
          kExitOk);
    }
    store.Stop(SIGKILL);
  }

  std::vector<std::string> Args() const {
    return {"--memory", "400MiB", "--disk", disk_, "--disk-size", "1GiB"};
  }
  static std::string Name(uint32_t i) { return "file" + std::to_string(i); }
  static std::string Contents(uint32_t i) { return Pattern(100'000, i); }

  // Flips a bit in the middle of that file, wherever it lies on the disk.
  void Damage(uint32_t i) const {
    const std::string middle = Contents(i).substr(50'000, 64);
    for (const auto& entry : std::filesystem::directory_iterator(disk_ + "/segments")) {
      std::string bytes = ReadWhole(entry.path());
      const size_t at = bytes.find(middle);
      if (at == std::string::npos) continue;
      std::fstream file(entry.path(), std::ios::in | std::ios::out | std::ios::binary);
      file.seekp(static_cast<std::streamoff>(at));
      file.put(static_cast<char>(bytes[at] ^ 1));
      return;
    }
    FAIL() << "not found on the disk";
  }

  void ExpectServed(const std::vector<uint32_t>& missing) const {
    const RunningStore store(Args());
    ASSERT_NE(store.grpc(), "");
    for (uint32_t i = 0; i < kFiles; ++i) {
      const Finished get = store.Run({"get", Name(i)});
      if (std::ranges::count(missing, i) > 0) {
        EXPECT_EQ(get.exit_code, kExitMiss) << i;
      } else {
        EXPECT_EQ(get.out, Contents(i)) << i;
      }
    }
  }

  const ScratchDir scratch_;
  const std::string disk_;
};

TEST_F(CliFsck, AnIntactDiskIsSaidToBeIntact) {
  const Finished fsck = RunReprise({"fsck", disk_});
  EXPECT_EQ(fsck.exit_code, kExitOk) << fsck.err;
  EXPECT_THAT(fsck.out, AllOf(StartsWith(disk_ + ": 5 pieces, "), HasSubstr(" 0 damaged\n")));
  EXPECT_EQ(fsck.err, "");
  ExpectServed({});
}

TEST_F(CliFsck, DamageIsFoundAndForgottenOnlyWhenAskedTo) {
  Damage(2);
  for (int round = 0; round < 2; ++round) {
    const Finished fsck = RunReprise({"fsck", disk_});
    EXPECT_EQ(fsck.exit_code, kExitError);
    EXPECT_THAT(fsck.out, HasSubstr(" 1 damaged; --repair forgets them\n"));
    EXPECT_THAT(fsck.err, HasSubstr("CRC-32C"));
  }
  const Finished repair = RunReprise({"fsck", disk_, "--repair"});
  EXPECT_EQ(repair.exit_code, kExitOk) << repair.err;
  EXPECT_THAT(repair.out, HasSubstr(" 1 damaged, 1 forgotten\n"));
  const Finished again = RunReprise({"fsck", disk_, "--json"});
  EXPECT_EQ(again.exit_code, kExitOk);
  EXPECT_THAT(again.out, AllOf(HasSubstr("\"pieces\": 4"), HasSubstr("\"damaged\": 0")));
  ExpectServed({2});
}

TEST_F(CliFsck, AnIndexThatDoesNotOpenIsRebuilt) {
  std::filesystem::remove(disk_ + "/index/CURRENT");
  const Finished fsck = RunReprise({"fsck", disk_});
  EXPECT_EQ(fsck.exit_code, kExitError);
  EXPECT_THAT(fsck.err, HasSubstr("--repair"));
  const Finished repair = RunReprise({"fsck", disk_, "--repair"});
  EXPECT_EQ(repair.exit_code, kExitOk) << repair.err;
  EXPECT_THAT(repair.out, HasSubstr("index rebuilt"));
  ExpectServed({});
}

TEST_F(CliFsck, ARunningStoreIsInTheWayOfFsckButNotOfDu) {
  const RunningStore store(Args());
  ASSERT_NE(store.grpc(), "");
  const Finished fsck = RunReprise({"fsck", disk_});
  EXPECT_EQ(fsck.exit_code, kExitError);
  EXPECT_THAT(fsck.err, HasSubstr(disk_));
  const Finished du = RunReprise({"du", disk_});
  EXPECT_EQ(du.exit_code, kExitOk) << du.err;
  EXPECT_THAT(du.out, AllOf(HasSubstr("tenant default, namespace "), HasSubstr("all pieces")));
  const Finished json = RunReprise({"du", disk_, "--json"});
  EXPECT_THAT(json.out, AllOf(HasSubstr("\"pieces\": 5"), HasSubstr("\"tenant\": \"default\"")));
}

TEST_F(CliFsck, OtherDirectoriesAreNoDisks) {
  for (const char* command : {"fsck", "du"}) {
    for (const std::string& path : {scratch_.Path("absent"), scratch_.Path("")}) {
      const Finished finished = RunReprise({command, path});
      EXPECT_EQ(finished.exit_code, kExitError);
      EXPECT_THAT(finished.err, HasSubstr(path));
      EXPECT_EQ(std::count(finished.err.begin(), finished.err.end(), '\n'), 1) << finished.err;
    }
  }
}

}  // namespace
}  // namespace reprise::cli
