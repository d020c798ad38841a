// Power lost before every disk call of a run of writes, replacements, removals, reclaim and a
// restart: whatever was left of the disk, the tier opens, every piece that was acknowledged as
// durable is there, and nothing that verifies is what was not published.

#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/limits.h"
#include "common/log.h"
#include "common/mutex.h"
#include "storage/env/testing/simulated_env.h"
#include "storage/lru.h"
#include "storage/nvme/testing/tier_calls.h"

namespace reprise::storage {
namespace {

constexpr int kNames = 24;
constexpr uint32_t kContents = 3;

// What may be found under one name.
struct Expected {
  std::set<uint32_t> contents;  // by seed
  bool may_be_absent = true;
};
using Expectation = std::map<int, Expected>;

class PowerLossTest : public ::testing::TestWithParam<PowerLossMode> {
 protected:
  struct Moment {
    DiskImage image;
    Expectation expected;
  };

  PowerLossTest() {
    SetLogLevel(LogLevel::kOff);
    for (int name = 0; name < kNames; ++name) {
      for (uint32_t seed = 0; seed < kContents; ++seed) {
        // Each content errs less than the one before, so that it may replace it.
        containers_[{name, seed}] =
            Build({.key = TestKey(std::to_string(name)),
                   .plane_bytes = 3000u + 977u * static_cast<uint32_t>(name),
                   .planes = 2,
                   .segment_bytes = 2500,
                   .seed = seed + 1,
                   .distortion = 0.1f * static_cast<float>(3 - seed)});
      }
    }
  }
  ~PowerLossTest() override { SetLogLevel(LogLevel::kInfo); }

  static NvmeOptions OptionsOn(Env& env) {
    NvmeOptions options;
    options.directory = "/tier";
    options.segment_bytes = 128 * kKiB;
    options.budget_bytes = 2 * kMiB + 64 * kKiB + 24 * options.segment_bytes;
    options.memory_bytes = 4 * kMiB;
    options.floor = {.key = 0.5};
    options.make_policy = [](size_t max_pieces) { return std::make_unique<LruPolicy>(max_pieces); };
    options.env = &env;
    return options;
  }

  ByteSpan Container(int name, uint32_t seed) { return containers_.at({name, seed}); }

  Expectation Now() {
    MutexLock lock(mutex_);
    return expected_;
  }

  // What is true of an image that was taken between the two.
  static Expectation Between(Expectation before, const Expectation& after) {
    for (const auto& [name, expected] : after) {
      before[name].contents.insert(expected.contents.begin(), expected.contents.end());
      before[name].may_be_absent |= expected.may_be_absent;
    }
    return before;
  }

  void Write(NvmeTier& tier, int name, uint32_t seed, bool durable) {
    bool stays_durable = durable;
    {
      MutexLock lock(mutex_);
      stays_durable |= !expected_[name].may_be_absent;
      expected_[name].contents.insert(seed);
    }
    ASSERT_EQ(WriteTo(tier, Container(name, seed), {.durable = durable}), absl::OkStatus());
    MutexLock lock(mutex_);
    if (!stays_durable) return;
    expected_[name] = {.contents = {seed}, .may_be_absent = false};
  }

  void Remove(NvmeTier& tier, int name) {
    {
      MutexLock lock(mutex_);
      expected_[name].may_be_absent = true;
    }
    tier.Remove(1, TestKey(std::to_string(name)), nullptr);
  }

  // Each name goes through its contents again and again, which leaves most of every segment dead.
  void Run(NvmeTier& tier, std::mt19937& random, int steps) {
    for (int step = 0; step < steps; ++step) {
      const int name = static_cast<int>(random() % kNames);
      const uint32_t next = next_seed_[name]++ % kContents;
      if (next == 0) Remove(tier, name);
      Write(tier, name, next, random() % 2 == 0);
    }
  }

  void Record(size_t calls) {
    SimulatedEnv env({.seed = 1});
    env.BeforeEachCall([&](DiskCall) {
      const Expectation before = Now();
      DiskImage image = env.image();
      Expectation after = Now();
      MutexLock lock(mutex_);
      moments_.push_back({std::move(image), Between(before, after)});
    });
    std::mt19937 random(5);
    while (env.faults().calls() < calls) {
      absl::StatusOr<std::unique_ptr<NvmeTier>> tier = NvmeTier::Open(OptionsOn(env));
      ASSERT_TRUE(tier.ok()) << tier.status();
      Run(**tier, random, 100);
      moved_bytes_ += (*tier)->usage().bytes_moved;
    }
  }

  void Check(const Moment& moment, uint64_t seed) {
    SimulatedEnv env({.seed = seed}, moment.image.AfterPowerLoss(GetParam(), seed));
    const absl::StatusOr<std::unique_ptr<NvmeTier>> tier = NvmeTier::Open(OptionsOn(env));
    ASSERT_TRUE(tier.ok()) << tier.status();
    for (const auto& [name, expected] : moment.expected) {
      const std::optional<PieceSummary> summary =
          (*tier)->Describe(1, TestKey(std::to_string(name)));
      bool intact = false;
      for (const uint32_t content : expected.contents) {
        const PieceMeta meta = PieceMeta::Parse(Container(name, content)).value();
        if (!summary.has_value() || summary->content_id != meta.header().content_id) continue;
        const Found found = Look(**tier, 1, Container(name, content));
        EXPECT_NE(found, Found::kImpostor) << name;
        intact = found == Found::kIntact;
      }
      if (!expected.may_be_absent) {
        EXPECT_TRUE(intact) << "piece " << name << " was durable; found "
                            << (summary.has_value() ? summary->content_id.digest.Hex() : "none");
      }
    }
  }

  std::map<std::pair<int, uint32_t>, std::vector<std::byte>> containers_;
  std::map<int, uint32_t> next_seed_;
  Mutex mutex_;
  Expectation expected_ ABSL_GUARDED_BY(mutex_);
  std::vector<Moment> moments_ ABSL_GUARDED_BY(mutex_);
  uint64_t moved_bytes_ = 0;
};

TEST_P(PowerLossTest, AtEveryDiskCallLosesNothingDurable) {
  constexpr size_t kCalls = 2000;
  Record(kCalls);
  std::vector<Moment> moments;
  {
    MutexLock lock(mutex_);
    moments = std::move(moments_);
  }
  ASSERT_GE(moments.size(), kCalls);
  EXPECT_GT(moved_bytes_, 0u);
  for (size_t i = 0; i < moments.size(); ++i) {
    SCOPED_TRACE(::testing::Message() << "before call " << i);
    Check(moments[i], i + 1);
    if (HasFatalFailure()) return;
  }
  RecordProperty("moments", static_cast<int>(moments.size()));
}

std::string ModeName(const ::testing::TestParamInfo<PowerLossMode>& mode) {
  constexpr const char* kModes[] = {"Drop", "Subset", "Torn"};
  return kModes[static_cast<size_t>(mode.param)];
}

INSTANTIATE_TEST_SUITE_P(Modes, PowerLossTest,
                         ::testing::Values(PowerLossMode::kDrop, PowerLossMode::kSubset,
                                           PowerLossMode::kTorn),
                         ModeName);

}  // namespace
}  // namespace reprise::storage
