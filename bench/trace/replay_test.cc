#include "bench/trace/replay.h"

#include <cstdio>
#include <fstream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "bench/trace/rivals.h"
#include "storage/lru.h"
#include "storage/testing/planes_first.h"

namespace reprise::bench {
namespace {

using storage::LruPolicy;
using ::testing::HasSubstr;

class TraceFile : public ::testing::Test {
 protected:
  // Each request is a line of the file's text, all a second apart.
  absl::StatusOr<Trace> Read(const std::vector<std::string>& hash_ids, uint64_t first = 0,
                             uint64_t count = 1000) {
    std::ofstream file(path_);
    int seconds = 0;
    for (const std::string& ids : hash_ids) {
      file << R"({"timestamp": )" << 1000 * seconds++
           << R"(, "input_length": 512, "output_length": 1, "hash_ids": [)" << ids << "]}\n";
    }
    file.close();
    return ReadTrace(path_, first, count);
  }
  absl::StatusOr<Trace> ReadText(const std::string& text) {
    std::ofstream(path_) << text;
    return ReadTrace(path_, 0, 1000);
  }

  std::string path_ = ::testing::TempDir() + "trace.jsonl";
};

const BlockLevels kOneByte{.levels = {{.bytes = 1, .distortion = {}}}};

Replayed ReplayWith(const Trace& trace, std::unique_ptr<storage::EvictionPolicy> policy,
                    uint64_t capacity, bool leaves_only = false) {
  Replay replay(
      trace, {.levels = kOneByte},
      {.policy = std::move(policy), .capacity_bytes = capacity, .leaves_only = leaves_only});
  return replay.Run();
}

TEST_F(TraceFile, HoldsRequestsBlocksAndWhatTheyBuildOn) {
  const auto trace = Read({"7, 9", "7, 9, 12", "3"});
  ASSERT_TRUE(trace.ok()) << trace.status();
  ASSERT_EQ(trace->requests.size(), 3);
  EXPECT_EQ(trace->requests[1].seconds, 1);
  EXPECT_EQ(trace->requests[1].blocks, (std::vector<BlockId>{0, 1, 2}));
  EXPECT_EQ(trace->requests[2].blocks, (std::vector<BlockId>{3}));
  EXPECT_EQ(trace->references, 6);
  EXPECT_EQ(trace->blocks[2].parent, 1);
  EXPECT_EQ(trace->blocks[2].position, 2);
  EXPECT_EQ(trace->blocks[3].parent, Trace::kNone);
}

TEST_F(TraceFile, CanBeReadInPart) {
  const auto trace = Read({"1", "2", "3", "4"}, 1, 2);
  ASSERT_TRUE(trace.ok());
  EXPECT_EQ(trace->requests.size(), 2);
  EXPECT_EQ(trace->requests[0].seconds, 1);
}

TEST_F(TraceFile, NamesTheLineThatIsWrong) {
  EXPECT_THAT(std::string(Read({"1, 2", "2"}).status().message()), HasSubstr("line 2: block 2"));
  EXPECT_THAT(std::string(Read({"1", "-4"}).status().message()), HasSubstr("line 2"));
  EXPECT_THAT(std::string(ReadText("{\n").status().message()), HasSubstr("line 1"));
  EXPECT_THAT(std::string(ReadText("{\"timestamp\": 1}\n").status().message()),
              HasSubstr("hash_ids"));
  EXPECT_THAT(std::string(ReadText("").status().message()), HasSubstr("no request"));
  EXPECT_EQ(ReadTrace(path_ + ".not", 0, 1).status().code(), absl::StatusCode::kNotFound);
}

TEST_F(TraceFile, AHitIsTheLongestPrefixThatIsResident) {
  const auto trace = Read({"1, 2, 3", "1, 2, 3, 4", "9", "1, 2, 8, 5"});
  ASSERT_TRUE(trace.ok());
  const Replayed result = ReplayWith(*trace, std::make_unique<LruPolicy>(100), 100);
  EXPECT_EQ(result.hits, 3 + 2);
  const CostModel cost = CostModel::EightBillion();
  EXPECT_DOUBLE_EQ(result.saved_seconds,
                   2 * cost.BlockSeconds(0) + 2 * cost.BlockSeconds(1) + cost.BlockSeconds(2));
}

TEST_F(TraceFile, ACapacityIsKept) {
  // Two prompts of two blocks take turns, and there is room for three.
  const auto trace = Read({"1, 2", "3, 4", "1, 2", "3, 4"});
  ASSERT_TRUE(trace.ok());
  EXPECT_EQ(ReplayWith(*trace, std::make_unique<LruPolicy>(4), 4).hits, 4);
  EXPECT_EQ(ReplayWith(*trace, std::make_unique<LruPolicy>(3), 3).hits, 2);
}

TEST_F(TraceFile, TheOptimumKeepsWhatComesNext) {
  const auto trace = Read({"1", "2", "3", "1", "2", "4", "1", "2"});
  ASSERT_TRUE(trace.ok());
  EXPECT_EQ(ReplayWith(*trace, std::make_unique<LruPolicy>(3), 2).hits, 0);
  // With room for two, of 1 and 2 one at least stays whenever 3 or 4 passes through.
  EXPECT_EQ(ReplayWith(*trace, std::make_unique<OptimalPolicy>(*trace), 2).hits, 2);
  EXPECT_EQ(ReplayWith(*trace, std::make_unique<OptimalPolicy>(*trace), 3).hits, 4);
}

TEST_F(TraceFile, RivalsKeepWhatIsUsedOftenThroughAScan) {
  std::vector<std::string> requests;
  for (int round = 0; round < 40; ++round) {
    for (int often = 0; often < 5; ++often) {
      requests.push_back(std::to_string(often));
      requests.push_back(std::to_string(often));
    }
    for (int once = 0; once < 12; ++once)
      requests.push_back(std::to_string(100 + 12 * round + once));
  }
  const auto trace = Read(requests);
  ASSERT_TRUE(trace.ok());
  const size_t blocks = trace->blocks.size();
  const uint64_t lru = ReplayWith(*trace, std::make_unique<LruPolicy>(10), 10).hits;
  EXPECT_EQ(lru, 40 * 5);
  EXPECT_GT(ReplayWith(*trace, std::make_unique<LfuPolicy>(blocks), 10).hits, 40 * 9);
  EXPECT_GT(ReplayWith(*trace, std::make_unique<S3FifoPolicy>(blocks, 10), 10).hits, 40 * 9);
  EXPECT_GT(ReplayWith(*trace, std::make_unique<ArcPolicy>(blocks, 10), 10).hits, 40 * 9);
}

TEST_F(TraceFile, PoliciesWithoutPrefixesCanBeKeptToLeaves) {
  // Block 1 is used longest ago when room is needed, but 2 builds on it.
  const auto trace = Read({"1, 2", "5", "1, 2"});
  ASSERT_TRUE(trace.ok());
  const auto hits = [&](bool leaves_only) {
    return ReplayWith(*trace, std::make_unique<ArcPolicy>(trace->blocks.size(), 2), 2, leaves_only)
        .hits;
  };
  EXPECT_EQ(hits(false), 0);
  EXPECT_EQ(hits(true), 1);
}

TEST_F(TraceFile, WritingThroughAndDemotingFillTheDisk) {
  const auto trace = Read({"1, 2", "3, 4", "1, 2"});
  ASSERT_TRUE(trace.ok());
  for (const bool write_through : {true, false}) {
    Replay replay(*trace, {.levels = kOneByte, .write_through = write_through},
                  {.policy = std::make_unique<LruPolicy>(2), .capacity_bytes = 2},
                  {.policy = std::make_unique<LruPolicy>(9), .capacity_bytes = 9});
    const Replayed result = replay.Run();
    EXPECT_EQ(result.hits, 2);
    EXPECT_EQ(result.disk_hits, 2);
    // What was not pushed out of host memory at the end is not demoted; nothing is written twice.
    EXPECT_EQ(result.disk_writes, 4) << write_through;
    EXPECT_EQ(result.disk_bytes_written, 4);
  }
}

TEST_F(TraceFile, ShedPiecesServeTheErrorOfWhatIsLeft) {
  const auto trace = Read({"1", "2", "1", "2"});
  ASSERT_TRUE(trace.ok());
  const BlockLevels levels{
      .levels = {{.bytes = 1, .distortion = {0.25F, 0.125F}}, {.bytes = 4, .distortion = {}}}};
  Replay replay(*trace, {.levels = levels},
                {.policy = std::make_unique<storage::PlanesFirst>(), .capacity_bytes = 5});
  const Replayed result = replay.Run();
  EXPECT_EQ(result.hits, 2);
  EXPECT_DOUBLE_EQ(result.served_error, 0.25);  // of one; the other is whole
}

}  // namespace
}  // namespace reprise::bench
