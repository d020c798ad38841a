// Files and pieces through the real executable and a real store.

#include <signal.h>

#include <filesystem>
#include <regex>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "services/cli/commands.h"
#include "services/cli/reprise_process.h"

namespace reprise::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr size_t kMiB = 1 << 20;
#ifdef REPRISE_SANITIZED
constexpr size_t kLargestBytes = 20 * kMiB;  // the sanitizers' shadow makes 256 MiB too slow
#else
constexpr size_t kLargestBytes = 256 * kMiB;
#endif

std::string KeyIn(const std::string& text) {
  std::smatch match;
  return std::regex_search(text, match, std::regex("[0-9a-f]{64}")) ? match.str() : "";
}

class CliFilesTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { store_ = new RunningStore({"--memory", "1GiB"}); }
  static void TearDownTestSuite() {
    EXPECT_EQ(store_->Stop(SIGTERM).exit_code, 0);
    delete store_;
  }

  static RunningStore* store_;
  ScratchDir scratch_;
};
RunningStore* CliFilesTest::store_ = nullptr;

TEST_F(CliFilesTest, PutAndGetGiveBackTheSameBytes) {
  for (const size_t size : {size_t{1}, size_t{4095}, size_t{4096}, kMiB + 1, kLargestBytes}) {
    const std::string file = scratch_.Write("in", Pattern(size, 1));
    for (const char* carrier : {"ucx", "grpc"}) {
      const std::string name = "round-" + std::to_string(size) + carrier;
      const Finished put = store_->Run({"put", name, file, "--carrier", carrier, "--json"});
      ASSERT_EQ(put.exit_code, kExitOk) << put.err;
      EXPECT_THAT(put.out, HasSubstr("\"outcome\": \"stored\""));
      EXPECT_THAT(put.out, HasSubstr("\"carrier\": \"" + std::string(carrier) + "\""));
      const std::string out = scratch_.Path("out");
      const Finished get = store_->Run({"get", name, "-o", out, "--carrier", carrier});
      ASSERT_EQ(get.exit_code, kExitOk) << get.err;
      EXPECT_EQ(get.err, "");
      EXPECT_TRUE(ReadWhole(file) == ReadWhole(out)) << size << " bytes over " << carrier;
      EXPECT_EQ(store_->Run({"rm", name}).exit_code, kExitOk);
    }
  }
}

TEST_F(CliFilesTest, OneByteOverTheLimitIsRefused) {
  const std::string file = scratch_.Write("big", "");
  std::filesystem::resize_file(file, 256 * kMiB + 1);
  const Finished put = store_->Run({"put", "big", file});
  EXPECT_EQ(put.exit_code, kExitError);
  EXPECT_EQ(put.err, "reprise: " + file +
                         " has 268435457 bytes; at most 268435456 can be stored as one piece\n");
  EXPECT_EQ(store_->Run({"stat", "big"}).exit_code, kExitMiss);
}

TEST_F(CliFilesTest, StandardInputAndOutput) {
  const std::string bytes = Pattern(3 * kMiB, 2);
  ASSERT_EQ(store_->Run({"put", "piped", "-"}, bytes).exit_code, kExitOk);
  const Finished get = store_->Run({"get", "piped"});
  EXPECT_EQ(get.exit_code, kExitOk);
  EXPECT_TRUE(get.out == bytes);
}

TEST_F(CliFilesTest, AMissWritesNothing) {
  const std::string out = scratch_.Write("out", "as it was");
  const Finished get = store_->Run({"get", "nowhere", "-o", out});
  EXPECT_EQ(get.exit_code, kExitMiss);
  EXPECT_THAT(get.err, StartsWith("reprise: nowhere: not held\n"));
  EXPECT_EQ(ReadWhole(out), "as it was");
  EXPECT_FALSE(std::filesystem::exists(scratch_.Path("new")));
  EXPECT_EQ(store_->Run({"get", "nowhere", "-o", scratch_.Path("new")}).exit_code, kExitMiss);
  EXPECT_FALSE(std::filesystem::exists(scratch_.Path("new")));
}

TEST_F(CliFilesTest, AnInterruptedGetLeavesNoPartOfAFile) {
  const std::string file = scratch_.Write("in", Pattern(kLargestBytes, 5));
  ASSERT_EQ(store_->Run({"put", "large", file}).exit_code, kExitOk);
  for (const int signal : {SIGINT, SIGTERM}) {
    const ScratchDir folder;
    const Finished get = InterruptReprise(
        {"get", "large", "-o", folder.Path("out"), "--store", store_->grpc()}, folder, signal);
    // A machine that was busy elsewhere may have let it finish first.
    if (get.exit_code == kExitOk) continue;
    EXPECT_EQ(get.exit_code, 128 + signal);
    EXPECT_TRUE(std::filesystem::is_empty(folder.Path("")));
  }
  EXPECT_EQ(store_->Run({"rm", "large"}).exit_code, kExitOk);
}

TEST_F(CliFilesTest, OtherContentIsReplacedOnlyWhenAsked) {
  const std::string one = scratch_.Write("one", "first");
  const std::string two = scratch_.Write("two", "second");
  ASSERT_EQ(store_->Run({"put", "same", one}).exit_code, kExitOk);
  const Finished again = store_->Run({"put", "same", one});
  EXPECT_EQ(again.exit_code, kExitOk);
  EXPECT_THAT(again.out, StartsWith("already held "));
  const Finished other = store_->Run({"put", "same", two});
  EXPECT_EQ(other.exit_code, kExitError);
  EXPECT_THAT(other.err, HasSubstr("--replace"));
  EXPECT_EQ(store_->Run({"get", "same"}).out, "first");
  EXPECT_EQ(store_->Run({"put", "same", two, "--replace"}).exit_code, kExitOk);
  EXPECT_EQ(store_->Run({"get", "same"}).out, "second");
}

TEST_F(CliFilesTest, PiecesTravelAsTheyAre) {
  const std::string file = scratch_.Write("in", Pattern(100'000, 3));
  const std::string key = KeyIn(store_->Run({"put", "piece", file}).out);
  ASSERT_EQ(key.size(), 64u);
  const std::string piece = scratch_.Path("piece");
  ASSERT_EQ(store_->Run({"get", "--key", key, "--piece", "-o", piece}).exit_code, kExitOk);
  EXPECT_EQ(std::filesystem::file_size(piece), 100'000u + 4096u);
  ASSERT_EQ(store_->Run({"rm", "--key", key}).exit_code, kExitOk);
  EXPECT_EQ(store_->Run({"get", "piece"}).exit_code, kExitMiss);
  ASSERT_EQ(store_->Run({"put", "--piece", piece}).exit_code, kExitOk);
  EXPECT_TRUE(store_->Run({"get", "piece"}).out == ReadWhole(file));
}

TEST_F(CliFilesTest, BadPiecesAreNamedBeforeAnythingIsSent) {
  const std::string file = scratch_.Write("in", Pattern(100'000, 4));
  ASSERT_EQ(store_->Run({"put", "good", file}).exit_code, kExitOk);
  const std::string good = store_->Run({"get", "good", "--piece"}).out;
  struct Bad {
    std::string bytes;
    const char* says;
  };
  std::string version = good;
  version[8] = 9;
  std::string flipped = good;
  flipped[good.size() - 1] ^= 1;
  const Bad pieces[] = {{good.substr(0, 50'000), "50000 bytes, but its header says 104096"},
                        {good.substr(0, 10), "container"},
                        {version, "format version 9; this build reads version 1 only"},
                        {flipped, "is damaged"},
                        {good + "x", "104097 bytes, but its header says 104096"},
                        {"plain text, longer than a container's first bytes", "container"}};
  for (const Bad& bad : pieces) {
    const std::string path = scratch_.Write("bad", bad.bytes);
    const Finished put = store_->Run({"put", "--piece", path});
    EXPECT_EQ(put.exit_code, kExitError);
    EXPECT_THAT(put.err, StartsWith("reprise: " + path));
    EXPECT_THAT(put.err, HasSubstr(bad.says));
    EXPECT_EQ(std::count(put.err.begin(), put.err.end(), '\n'), 1) << put.err;
  }
}

TEST_F(CliFilesTest, StatListAndRemove) {
  const std::string file = scratch_.Write("in", "abc");
  for (const char* name : {"list-a", "list-b"}) {
    ASSERT_EQ(store_->Run({"put", name, file}).exit_code, kExitOk);
  }
  const Finished stat = store_->Run({"stat", "list-a", "--verify", "--json"});
  ASSERT_EQ(stat.exit_code, kExitOk) << stat.err;
  EXPECT_THAT(stat.out, HasSubstr("\"verified\": true"));
  EXPECT_THAT(stat.out, HasSubstr("\"bytes\": 4099"));
  std::smatch match;
  ASSERT_TRUE(std::regex_search(stat.out, match, std::regex("\"namespace\": \"([0-9a-f]{64})\"")));
  const std::string name_space = match[1];

  const Finished list = store_->Run({"ls", "--namespace", name_space});
  EXPECT_THAT(list.out, HasSubstr(KeyIn(stat.out)));
  EXPECT_GE(std::count(list.out.begin(), list.out.end(), '\n'), 2);
  const Finished one = store_->Run({"ls", "--limit", "1"});
  EXPECT_EQ(std::count(one.out.begin(), one.out.end(), '\n'), 1);
  EXPECT_THAT(one.out, HasSubstr(" " + name_space + "\n"));
  EXPECT_THAT(one.err, StartsWith("key "));
  const Finished none = store_->Run({"ls", "--namespace", std::string(64, '0')});
  EXPECT_EQ(none.out, "");
  EXPECT_EQ(none.err, "nothing is held\n");

  const Finished unsure = store_->Run({"rm", "--namespace", name_space});
  EXPECT_EQ(unsure.exit_code, kExitUsage);
  EXPECT_THAT(unsure.err, HasSubstr("--yes"));
  EXPECT_THAT(store_->Run({"stat", "list-a", "--verify"}).out, HasSubstr("\nverified "));
  const Finished some = store_->Run({"rm", "list-a", "list-c", "list-b"});
  EXPECT_EQ(some.exit_code, kExitMiss);
  EXPECT_EQ(some.out, "removed 2\n");
  EXPECT_EQ(some.err, "reprise: list-c: not held\n");
  EXPECT_EQ(store_->Run({"rm", "list-a"}).exit_code, kExitMiss);
  ASSERT_EQ(store_->Run({"put", "list-a", file}).exit_code, kExitOk);
  EXPECT_EQ(store_->Run({"rm", "--namespace", name_space, "--yes"}).exit_code, kExitOk);
  EXPECT_EQ(store_->Run({"ls", "--namespace", name_space}).out, "");
}

}  // namespace
}  // namespace reprise::cli
