// Profiles through the real executable: learnt from a dump's Q.

#include <algorithm>
#include <filesystem>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "services/cli/commands.h"
#include "services/cli/kv_dump_fixture.h"

namespace reprise::cli {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

// bf16, as the file has it, of 2^power.
std::string PowerOfTwo(int power) {
  const auto bits = static_cast<uint16_t>((127 + power) << 7);
  return {static_cast<char>(bits & 0xFF), static_cast<char>(bits >> 8)};
}

class CliCalibrateTest : public KvDumpTest {
 protected:
  // Queries of one magnitude throughout, but for the first 4 tokens, which do not count.
  void WriteQueries(const std::string& folder, uint32_t layer, int power) const {
    std::string values;
    for (size_t i = 0; i < kTokens * kQRow / 2; ++i) {
      values += PowerOfTwo(i < 4 * kQRow / 2 ? 60 : power);
    }
    scratch_.Write("dump/" + folder + "/L00" + std::to_string(layer) + ".q.bf16", values);
  }
  Finished Calibrate(std::vector<std::string> more = {}) const {
    more.insert(more.begin(), {"calibrate", dump(), "--output", profile()});
    return RunReprise(more);
  }
  std::string profile() const { return scratch_.Path("tiny.profile"); }
};

// log2 of the energies is 8, 0 and 4; the reference is 4, and octaves are half of what is above it.
TEST_F(CliCalibrateTest, WritesTheOctavesOfEveryLayer) {
  WriteQueries("one", 0, 4);
  WriteQueries("one", 1, 0);
  WriteQueries("one", 2, 2);
  const Finished made = Calibrate();
  ASSERT_EQ(made.exit_code, kExitOk) << made.err;
  EXPECT_EQ(made.err, "");
  EXPECT_EQ(ReadWhole(profile()), "reprise profile 1\nmodel tiny\nlayer 0 key 0 value 0 channels " +
                                      std::string(64, 'a') + "\nlayer 1 key 0 value 0 channels " +
                                      std::string(64, '6') + "\nlayer 2 key 0 value 0 channels " +
                                      std::string(64, '8') + "\n");
  EXPECT_THAT(made.out, HasSubstr("tiny: 3 layers, from the queries of 600 tokens in 1 texts\n"));
  EXPECT_THAT(made.out, HasSubstr("\n      1         -2         -2      -2.00\n"));
  const std::string last = "wrote " + profile() + ", profile ";
  ASSERT_THAT(made.out, HasSubstr(last));
  EXPECT_EQ(made.out.size() - made.out.find(last), last.size() + 64 + 1);
}

std::string With(std::string text, const std::string& part, const std::string& with) {
  text.replace(text.find(part), part.size(), with);
  return text;
}

TEST_F(CliCalibrateTest, LearnsFromTheTextsThatAreNamed) {
  Manifest(With(kManifest, "\"dir\": \"one\"}]",
                "\"dir\": \"one\"}, {\"name\": \"two\", \"sha256\": \"" + std::string(64, 'e') +
                    "\", \"tokens\": 600, \"first_position\": 0, \"dir\": \"two\"}]"));
  fs::create_directories(scratch_.Path("dump/two"));
  for (uint32_t layer = 0; layer < 3; ++layer) {
    WriteQueries("one", layer, 0);
    WriteQueries("two", layer, layer == 0 ? 6 : 0);
  }
  ASSERT_EQ(Calibrate({"--text", "one"}).exit_code, kExitOk);
  EXPECT_THAT(ReadWhole(profile()), HasSubstr("layer 0 key 0 value 0 channels 8888"));
  // 12, 0 and 0: the reference is 4.
  ASSERT_EQ(Calibrate({"--text", "two"}).exit_code, kExitOk);
  EXPECT_THAT(ReadWhole(profile()), HasSubstr("layer 0 key 0 value 0 channels cccc"));
  const Finished both = Calibrate({"--text", "two", "--text", "one"});
  EXPECT_THAT(both.out, HasSubstr("1200 tokens in 2 texts"));
  const Finished unknown = Calibrate({"--text", "one", "--text", "three"});
  EXPECT_EQ(unknown.exit_code, kExitError);
  EXPECT_THAT(unknown.err, HasSubstr("has no text \"three\", but one, two\n"));
}

TEST_F(CliCalibrateTest, ALatentLayerMayLackQ) {
  Manifest(With(With(kManifest, "\"full\", \"window\": null", "\"latent\", \"window\": null"),
                "\"kv_heads\": 2", "\"kv_heads\": 1"));
  WriteQueries("one", 1, 1);
  WriteQueries("one", 2, 1);
  fs::remove(scratch_.Path("dump/one/L000.q.bf16"));
  const Finished made = Calibrate();
  ASSERT_EQ(made.exit_code, kExitOk) << made.err;
  EXPECT_THAT(made.out, HasSubstr("\n      0       no Q\n"));
  EXPECT_THAT(ReadWhole(profile()), HasSubstr("\nlayer 0 key 0 value 0\nlayer 1 "));
}

TEST_F(CliCalibrateTest, SaysWhatIsMissingAndWritesNothing) {
  const auto expect = [&](const std::string& says, std::vector<std::string> more = {}) {
    const Finished made = Calibrate(std::move(more));
    EXPECT_EQ(made.exit_code, kExitError) << made.out;
    EXPECT_THAT(made.err, HasSubstr(says));
    EXPECT_EQ(std::count(made.err.begin(), made.err.end(), '\n'), 1) << made.err;
    EXPECT_FALSE(fs::exists(profile()));
  };
  expect("a profile is learnt from Q: cannot read " + dump() +
             "/one/L000.q.fp16: No such file or directory; the dump has bf16: add --dtype bf16",
         {"--dtype", "fp16"});
  Write("L001.q.bf16", "short");
  expect("L001.q.bf16 has 5 bytes; 600 tokens take 153600");
  fs::remove(scratch_.Path("dump/one/L001.q.bf16"));
  expect("L001.q.bf16: No such file or directory");
  Manifest(With(kManifest, "\"q_heads\": 4", "\"q_heads\": 3"));
  for (const char* layer : {"L000", "L001", "L002"}) {
    Write(layer + std::string(".q.bf16"), std::string(size_t{kTokens} * 3 * 64, '\0'));
  }
  expect("layer 0: queries are [1, 600, 3, 32]; they must be [1, tokens, a multiple of 2, 32]");
  Manifest(kManifest);
  for (uint32_t layer = 0; layer < 3; ++layer) {
    Write("L00" + std::to_string(layer) + ".q.bf16", std::string(kTokens * kQRow, '\0'));
  }
  expect("say nothing");
  fs::remove(scratch_.Path("dump/dump.json"));
  expect("dump.json: No such file or directory");
}

TEST_F(CliCalibrateTest, TheOutputIsNeverHalfWritten) {
  const std::string elsewhere = scratch_.Path("nowhere/tiny.profile");
  const Finished made = RunReprise({"calibrate", dump(), "-o", elsewhere});
  EXPECT_EQ(made.exit_code, kExitError);
  EXPECT_EQ(made.err, "reprise: cannot write " + elsewhere + ": No such file or directory\n");
  EXPECT_EQ(RunReprise({"calibrate", dump()}).exit_code, kExitUsage);
  EXPECT_EQ(RunReprise({"calibrate", "-o", elsewhere}).exit_code, kExitUsage);
  EXPECT_EQ(RunReprise({"calibrate", dump(), "-o", "-"}).exit_code, kExitUsage);
}

}  // namespace
}  // namespace reprise::cli
