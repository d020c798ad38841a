// Replays a trace through the store's eviction policies and their rivals, and prints a JSON line
// for each replay: what was asked, then what came out. bench/trace/run.py draws the conclusions.
#include <cstdio>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include <CLI/CLI.hpp>

#include "bench/trace/replay.h"
#include "bench/trace/rivals.h"
#include "bench/trace/trace.h"
#include "storage/lru.h"
#include "storage/tiering/tiering_policy.h"

namespace reprise::bench {
namespace {

using storage::EvictionPolicy;
using storage::LruPolicy;
using storage::TieringOptions;
using storage::TieringPolicy;

// Of 512 tokens of KV of an 8-billion-parameter model with 8 KV heads of 128 in 32 layers: 128 KiB
// per token at 16 bits per value.
constexpr double kBytesPerBit = 512.0 * 128 * 1024 / 16;

struct Level {
  double bits = 0;
  float key_error = 0;
  float value_error = 0;
};
// What the progressive codec stores of SmolLM2's KV: `reprise put --kv` prints it (docs/codec.md).
constexpr Level kCodecLevels[] = {
    {2.26, 0.2388F, 0.2586F}, {2.89, 0.0973F, 0.2586F}, {3.40, 0.0973F, 0.1336F},
    {3.92, 0.0485F, 0.1336F}, {4.43, 0.0485F, 0.0668F}, {5.44, 0.0230F, 0.0338F},
    {6.45, 0.0115F, 0.0170F}, {10.74, 0.0F, 0.0F},
};

BlockLevels LevelsOf(size_t first, size_t last) {
  BlockLevels levels;
  for (size_t at = first; at <= last; ++at) {
    const Level& level = kCodecLevels[at];
    levels.levels.push_back({.bytes = static_cast<uint64_t>(level.bits * kBytesPerBit),
                             .distortion = {level.key_error, level.value_error}});
  }
  return levels;
}

constexpr size_t kExact = std::size(kCodecLevels) - 1;

const std::vector<std::string> kPolicies = {"tiering", "prefix-lru", "lfu",
                                            "s3-fifo", "arc",        "optimum"};

struct Study {
  Trace trace;
  CostModel cost = CostModel::EightBillion();
  std::vector<uint64_t> capacities{1000, 3000, 10000, 30000};  // blocks at their exact level
  uint64_t disk_blocks = 10000;
  size_t floor = 3;  // near-lossless (docs/codec.md)
  double refinement_worth = TieringOptions{}.refinement_worth;
  std::vector<std::string> policies = kPolicies;
};

std::unique_ptr<EvictionPolicy> Make(const std::string& name, const Trace& trace, size_t capacity,
                                     const TieringOptions& options) {
  const size_t blocks = trace.blocks.size();
  if (name == "tiering") return std::make_unique<TieringPolicy>(capacity, options);
  if (name == "prefix-lru") return std::make_unique<LruPolicy>(capacity);
  if (name == "lfu") return std::make_unique<LfuPolicy>(blocks);
  if (name == "s3-fifo") return std::make_unique<S3FifoPolicy>(blocks, capacity);
  if (name == "arc") return std::make_unique<ArcPolicy>(blocks, capacity);
  return std::make_unique<OptimalPolicy>(trace);
}

bool KnowsNoPrefixes(const std::string& name) {
  return name == "lfu" || name == "s3-fifo" || name == "arc";
}

void Print(const std::string& study, const std::string& policy, uint64_t capacity,
           const std::string& variant, const Replayed& result) {
  const auto hits = static_cast<double>(result.hits);
  absl::PrintF(
      "{\"study\": \"%s\", \"policy\": \"%s\", \"capacity\": %d, \"variant\": \"%s\", "
      "\"references\": %d, \"hits\": %d, \"hit_tokens\": %d, \"disk_hits\": %d, "
      "\"total_seconds\": %.6f, \"saved_seconds\": %.6f, \"disk_writes\": %d, "
      "\"disk_bytes_written\": %d, \"mean_error\": %.6f}\n",
      study, policy, capacity, variant, result.references, result.hits, result.hits * kBlockTokens,
      result.disk_hits, result.total_seconds, result.saved_seconds, result.disk_writes,
      result.disk_bytes_written, result.hits == 0 ? 0 : result.served_error / hits);
  std::fflush(stdout);
}

// Whole pieces in host memory alone.
void HostStudy(const Study& study) {
  const BlockLevels exact = LevelsOf(kExact, kExact);
  for (const uint64_t capacity : study.capacities) {
    for (const std::string& name : study.policies) {
      for (const bool leaves_only : {false, true}) {
        if (leaves_only && !KnowsNoPrefixes(name)) continue;
        Replay replay(study.trace, {.cost = study.cost, .levels = exact},
                      {.policy = Make(name, study.trace, capacity, {}),
                       .capacity_bytes = capacity * exact.bytes(1),
                       .leaves_only = leaves_only});
        const std::string variant = KnowsNoPrefixes(name) ? leaves_only ? "leaves" : "any" : "";
        Print("host", name, capacity, variant, replay.Run());
      }
    }
  }
}

// Host memory and a disk: writing through with prefix-LRU in both, against ours.
void TiersStudy(const Study& study) {
  const BlockLevels exact = LevelsOf(kExact, kExact);
  for (const uint64_t capacity : study.capacities) {
    for (const bool ours : {false, true}) {
      const std::string name = ours ? "tiering" : "prefix-lru";
      const auto tier = [&](uint64_t blocks, const TieringOptions& options) {
        return TierPolicy{.policy = Make(name, study.trace, blocks, options),
                          .capacity_bytes = blocks * exact.bytes(1)};
      };
      Replay replay(study.trace, {.cost = study.cost, .levels = exact, .write_through = !ours},
                    tier(capacity, {.next_tier_bytes = study.disk_blocks * exact.bytes(1)}),
                    tier(study.disk_blocks, {.below_another_tier = true}));
      Print("tiers", name, capacity,
            absl::StrFormat("%s to %d", ours ? "demotes" : "writes through", study.disk_blocks),
            replay.Run());
    }
  }
}

// Pieces that shed down to the floor, against every policy with whole pieces at a fixed level from
// the floor on.
void ShedStudy(const Study& study) {
  const BlockLevels exact = LevelsOf(kExact, kExact);
  for (const uint64_t capacity : study.capacities) {
    const uint64_t bytes = capacity * exact.bytes(1);
    const auto pieces = [bytes](const BlockLevels& levels) { return bytes / levels.bytes(1); };
    for (size_t level = study.floor; level <= kExact; ++level) {
      const BlockLevels fixed = LevelsOf(level, level);
      for (const std::string& name : study.policies) {
        if (name == "optimum") continue;
        for (const bool leaves_only : {false, true}) {
          if (leaves_only && !KnowsNoPrefixes(name)) continue;
          Replay replay(study.trace, {.cost = study.cost, .levels = fixed},
                        {.policy = Make(name, study.trace, pieces(fixed), {}),
                         .capacity_bytes = bytes,
                         .leaves_only = leaves_only});
          Print("shed", name, capacity, absl::StrFormat("level %d", level), replay.Run());
        }
      }
    }
    const BlockLevels all = LevelsOf(study.floor, kExact);
    const TieringOptions options{.floor = all.levels.front().distortion,
                                 .refinement_worth = study.refinement_worth};
    Replay replay(
        study.trace, {.cost = study.cost, .levels = all},
        {.policy = Make("tiering", study.trace, pieces(all), options), .capacity_bytes = bytes});
    Print("shed", "tiering", capacity, "sheds", replay.Run());
  }
}

int Main(int argc, char** argv) {
  CLI::App app("Replays a trace of requests through eviction policies, in virtual time.");
  std::string path;
  std::string kind = "host";
  uint64_t first = 0;
  uint64_t count = std::numeric_limits<uint64_t>::max();
  Study study;
  app.add_option("trace", path, "the trace, one JSON object a line")->required();
  app.add_option("--study", kind, "host, tiers or shed")
      ->check(CLI::IsMember({"host", "tiers", "shed"}));
  app.add_option("--capacities", study.capacities, "blocks in host memory")->delimiter(',');
  app.add_option("--policies", study.policies, "of host and shed")
      ->delimiter(',')
      ->check(CLI::IsMember(kPolicies));
  app.add_option("--disk", study.disk_blocks, "blocks on the disk (tiers)");
  app.add_option("--floor", study.floor, "lowest level that may be served (shed)")
      ->check(CLI::Range(size_t{0}, kExact));
  app.add_option("--refinement-worth", study.refinement_worth, "of TieringOptions (shed)");
  app.add_option("--quadratic", study.cost.per_token_pair, "seconds per pair of tokens");
  app.add_option("--first", first, "requests to leave out");
  app.add_option("--count", count, "requests to replay");
  CLI11_PARSE(app, argc, argv);
  auto trace = ReadTrace(path, first, count);
  if (!trace.ok()) {
    std::fprintf(stderr, "%s\n", std::string(trace.status().message()).c_str());
    return 1;
  }
  study.trace = *std::move(trace);
  if (kind == "host") HostStudy(study);
  if (kind == "tiers") TiersStudy(study);
  if (kind == "shed") ShedStudy(study);
  return 0;
}

}  // namespace
}  // namespace reprise::bench

int main(int argc, char** argv) { return reprise::bench::Main(argc, argv); }
