// KV of a dump through the real executable and a real store.

#include <filesystem>
#include <regex>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "services/cli/commands.h"
#include "services/cli/kv_dump_fixture.h"

namespace reprise::cli {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::StartsWith;

using CliKvTest = KvDumpTest;

TEST_F(CliKvTest, TheLosslessLevelGivesTheSameBytesInADumpOfTheSameFormat) {
  const Finished put = Put();
  ASSERT_EQ(put.exit_code, kExitOk) << put.err;
  EXPECT_THAT(put.out, HasSubstr("one: 512 tokens in 2 chunks, 4 pieces stored, 0 already held"));
  EXPECT_THAT(put.out, HasSubstr("its last 88 tokens fill no chunk and were left out"));
  EXPECT_TRUE(std::regex_search(put.out, std::regex("\n +7 +[0-9]+ .* 0\\.0000 +0\\.0000\n")))
      << put.out;

  const Finished get = Get("out");
  ASSERT_EQ(get.exit_code, kExitOk) << get.err;
  EXPECT_THAT(get.out, HasSubstr("one: 512 tokens at level 7"));
  EXPECT_THAT(get.out, HasSubstr("exact\nwrote " + scratch_.Path("out")));
  EXPECT_EQ(ReadWhole(scratch_.Path("out/one/tokens.u32")), Stored("tokens.u32", 4));
  for (const char* layer : {"L000", "L001", "L002"}) {
    for (const char* tensor : {".k.bf16", ".v.bf16", ".q.bf16"}) {
      const std::string name = layer + std::string(tensor);
      EXPECT_EQ(ReadWhole(scratch_.Path("out/one/" + name)),
                Stored(name, tensor[1] == 'q' ? kQRow : kKvRow))
          << name;
    }
  }
  const Finished again = store_->Run({"put", "--kv", scratch_.Path("out")});
  EXPECT_EQ(again.exit_code, kExitOk) << again.err;
  EXPECT_THAT(again.out, HasSubstr("0 pieces stored, 4 already held"));
}

double Field(const std::string& json, const std::string& name) {
  std::smatch match;
  const std::regex field("\"" + name + "\": ([0-9.e+-]+)");
  return std::regex_search(json, match, field) ? std::stod(match[1]) : -1;
}

TEST_F(CliKvTest, ALowerLevelMovesFewerBytesAndLosesMore) {
  ASSERT_EQ(Put({"--json"}).exit_code, kExitOk);
  double bytes = 0;
  double lost = 1;
  for (const char* level : {"0", "1", "2", "3", "4", "5", "6"}) {
    const std::string out = std::string("level") + level;
    const Finished get = Get(out, {"--level", level, "--json"});
    ASSERT_EQ(get.exit_code, kExitOk) << get.err;
    EXPECT_EQ(Field(get.out, "level"), std::stod(level));
    EXPECT_GT(Field(get.out, "bytes_received"), bytes);
    const double both = Field(get.out, "key_distortion") * Field(get.out, "value_distortion");
    EXPECT_LT(both, lost);
    EXPECT_GT(both, 0);
    EXPECT_THAT(get.out, HasSubstr("\"lossless\": false"));
    bytes = Field(get.out, "bytes_received");
    lost = both;
    const std::string loaded = ReadWhole(scratch_.Path(out + "/one/L001.k.bf16"));
    EXPECT_EQ(loaded.size(), kStored * kKvRow);
    EXPECT_NE(loaded, Stored("L001.k.bf16", kKvRow));
  }
}

TEST_F(CliKvTest, LevelsThatDoNotExistAreRefused) {
  ASSERT_EQ(Put().exit_code, kExitOk);
  const Finished eight = Get("out", {"--level", "8"});
  EXPECT_EQ(eight.exit_code, kExitError);
  EXPECT_EQ(eight.err, "reprise: level 8 does not exist: the pieces of one have levels 0 to 7\n");
  EXPECT_EQ(Get("out", {"--level", "16"}).exit_code, kExitUsage);
  EXPECT_EQ(Get("out", {"--level", "-1"}).exit_code, kExitUsage);
  EXPECT_FALSE(fs::exists(scratch_.Path("out")));
}

TEST_F(CliKvTest, RawHasOneLevel) {
  const Finished put = Put({"--codec", "raw"});
  ASSERT_EQ(put.exit_code, kExitOk) << put.err;
  EXPECT_FALSE(std::regex_search(put.out, std::regex("\n +1 "))) << put.out;
  EXPECT_THAT(Get("out", {"--level", "1"}).err,
              HasSubstr("level 1 does not exist: the pieces of one have level 0 alone"));
  const Finished get = Get("out", {"--level", "0"});
  EXPECT_EQ(get.exit_code, kExitOk) << get.err;
  EXPECT_THAT(get.out, HasSubstr("exact"));
  EXPECT_EQ(ReadWhole(scratch_.Path("out/one/L002.v.bf16")), Stored("L002.v.bf16", kKvRow));
}

TEST_F(CliKvTest, AMissWritesNothing) {
  const Finished get = Get("out");
  EXPECT_EQ(get.exit_code, kExitMiss);
  EXPECT_THAT(get.err, StartsWith("reprise: one, chunk 0: not held"));
  ASSERT_EQ(Put().exit_code, kExitOk);
  fs::create_directories(scratch_.Path("there"));
  EXPECT_THAT(Get("there").err, HasSubstr("is there already"));
  // Of the directory only the dump, and what the test made, are left.
  size_t entries = 0;
  for ([[maybe_unused]] const auto& entry : fs::directory_iterator(scratch_.Path(""))) ++entries;
  EXPECT_EQ(entries, 2u);
}

std::string Without(std::string text, const std::string& part, const std::string& with = "") {
  text.replace(text.find(part), part.size(), with);
  return text;
}

TEST_F(CliKvTest, WhatADumpLacksIsNamed) {
  const auto expect = [&](const std::string& says, std::vector<std::string> more = {}) {
    const Finished put = Put(std::move(more));
    EXPECT_EQ(put.exit_code, kExitError) << put.out;
    EXPECT_THAT(put.err, HasSubstr(says));
    EXPECT_EQ(std::count(put.err.begin(), put.err.end(), '\n'), 1) << put.err;
  };
  const std::string json = kManifest;
  Manifest(Without(json, "\"kv_heads\": 2, "));
  expect("dump.json: kv_heads is missing");
  Manifest(Without(json, "\"theta\": 500, "));
  expect("dump.json: per_layer[1].rope: theta is missing");
  Manifest(Without(json, "\"window\": 100", "\"window\": null"));
  expect("per_layer[1]: window is not a whole number");
  Manifest(Without(json, "dump/1", "dump/2"));
  expect("format is \"reprise-kv-dump/2\"; this build reads reprise-kv-dump/1");
  Manifest(Without(json, "\"first_position\": 0", "\"first_position\": 7"));
  expect("first_position is 7");
  Manifest(Without(json, "\"dir\": \"one\"", "\"dir\": \"../one\""));
  expect("dir \"../one\" leaves the dump");
  Manifest("[1, 2");
  expect("dump.json: line ");
  Manifest(json);
  expect("has no text \"two\", but one", {"--text", "two"});
  expect("L000.k.fp16: No such file or directory; the dump has bf16: add --dtype bf16",
         {"--dtype", "fp16"});
  Write("L002.v.bf16", "short");
  expect("L002.v.bf16 has 5 bytes; 600 tokens take 76800");
  Write("tokens.u32", "abcd");
  expect("tokens.u32 has 4 bytes; 600 token ids take 2400");
  fs::remove(scratch_.Path("dump/one/tokens.u32"));
  expect("keys are made of token ids, which this dump lacks");
  fs::remove(scratch_.Path("dump/dump.json"));
  expect("dump.json: No such file or directory");
}

}  // namespace
}  // namespace reprise::cli
