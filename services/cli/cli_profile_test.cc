// KV that is coded with a profile, through the real executable and a real store.

#include <algorithm>
#include <filesystem>
#include <regex>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "services/cli/commands.h"
#include "services/cli/kv_dump_fixture.h"

namespace reprise::cli {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::StartsWith;

class CliProfileTest : public KvDumpTest {
 protected:
  // Of the dump, with one digit for every channel of all its layers.
  std::string Profile(char digit, int layers = 3, int channels = 64) const {
    std::string text = "reprise profile 1\nmodel tiny\n";
    for (int layer = 0; layer < layers; ++layer) {
      text += "layer " + std::to_string(layer) + " key 0 value 0 channels " +
              std::string(static_cast<size_t>(channels), digit) + "\n";
    }
    return scratch_.Write("tiny.profile", text);
  }
};

// Each level's "bytes" and "key_distortion".
std::vector<std::pair<double, double>> Levels(const std::string& json) {
  std::vector<std::pair<double, double>> levels;
  const std::regex level("\"bytes\": ([0-9]+).*?\"key_distortion\": ([0-9.e+-]+)");
  for (std::sregex_iterator at(json.begin(), json.end(), level); at != std::sregex_iterator();
       ++at) {
    levels.emplace_back(std::stod((*at)[1]), std::stod((*at)[2]));
  }
  return levels;
}

TEST_F(CliProfileTest, ALearntProfileStoresAndLoadsEveryLevelUnderKeysOfItsOwn) {
  const std::string profile = scratch_.Path("learnt.profile");
  ASSERT_EQ(RunReprise({"calibrate", dump(), "-o", profile}).exit_code, kExitOk);
  const Finished put = Put({"--profile", profile});
  ASSERT_EQ(put.exit_code, kExitOk) << put.err;
  EXPECT_THAT(put.out, HasSubstr("4 pieces stored, 0 already held"));
  EXPECT_EQ(Get("without").exit_code, kExitMiss);
  for (const char* level : {"0", "1", "2", "3", "4", "5", "6", "7"}) {
    const std::string out = std::string("level") + level;
    const Finished get = Get(out, {"--profile", profile, "--level", level});
    ASSERT_EQ(get.exit_code, kExitOk) << get.err;
    EXPECT_THAT(get.out, HasSubstr(std::string("512 tokens at level ") + level));
    EXPECT_EQ(ReadWhole(scratch_.Path(out + "/one/L001.k.bf16")) == Stored("L001.k.bf16", kKvRow),
              level == std::string("7"));
  }
  for (const char* name : {"L000.k.bf16", "L001.k.bf16", "L002.k.bf16", "L002.v.bf16"}) {
    EXPECT_EQ(ReadWhole(scratch_.Path(std::string("level7/one/") + name)), Stored(name, kKvRow));
  }
  EXPECT_THAT(Put().out, HasSubstr("4 pieces stored, 0 already held"));
  EXPECT_THAT(Put({"--profile", profile}).out, HasSubstr("0 pieces stored, 4 already held"));
}

TEST_F(CliProfileTest, AnOctaveFinerHalvesTheErrorOfK) {
  const Finished coarse = Put({"--json", "--profile", Profile('8')});
  const Finished fine = Put({"--json", "--profile", Profile('9')});
  ASSERT_EQ(Levels(coarse.out).size(), 8u) << coarse.out;
  ASSERT_EQ(Levels(fine.out).size(), 8u) << fine.err;
  for (size_t level = 0; level < 7; ++level) {
    const auto [coarse_bytes, coarse_error] = Levels(coarse.out)[level];
    const auto [fine_bytes, fine_error] = Levels(fine.out)[level];
    EXPECT_GT(fine_bytes, coarse_bytes) << level;
    // Less than half at low levels, where more channels enter.
    EXPECT_LT(fine_error, 1.05 * coarse_error / 2) << level;
  }
}

TEST_F(CliProfileTest, WhatDoesNotFitIsNamed) {
  const auto expect = [&](const std::string& says, const std::string& profile) {
    for (const Finished& run : {Put({"--profile", profile}), Get("out", {"--profile", profile})}) {
      EXPECT_EQ(run.exit_code, kExitError) << run.out;
      EXPECT_THAT(run.err, StartsWith("reprise: "));
      EXPECT_THAT(run.err, HasSubstr(says));
      EXPECT_EQ(std::count(run.err.begin(), run.err.end(), '\n'), 1) << run.err;
    }
  };
  const std::string path = scratch_.Path("tiny.profile");
  expect(path + " and " + dump() + ": the profile of tiny has 2 layers, the namespace layer 2",
         Profile('8', 2));
  expect("layer 0 of the profile of tiny has 32 channels of K, the namespace 2 x 32",
         Profile('8', 3, 32));
  expect(path + ": line 3 of the profile should be \"layer 0 key N value N [channels DIGITS]\"",
         Profile('g'));
  fs::remove(path);
  expect("tiny.profile: No such file or directory", path);
  EXPECT_EQ(RunReprise({"put", "a", dump() + "/dump.json", "--profile", path}).exit_code,
            kExitUsage);
}

}  // namespace
}  // namespace reprise::cli
