// Random writes, reads, holds, removals, clean restarts, kills and power losses against a map kept
// outside: what is found is what was written last, disk and memory stay within their budgets, and
// nothing goes but by eviction.

#include <atomic>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "common/limits.h"
#include "common/log.h"
#include "storage/env/testing/simulated_env.h"
#include "storage/lru.h"
#include "storage/nvme/testing/tier_calls.h"
#include "storage/testing/planes_first.h"

namespace reprise::storage {
namespace {

constexpr int kNames = 300;

class ModelTest : public ::testing::TestWithParam<bool> {
 protected:
  ModelTest() : env_(std::make_unique<SimulatedEnv>(SimulatedDiskOptions{.seed = 1})) {
    SetLogLevel(LogLevel::kOff);
    options_.directory = "/tier";
    options_.segment_bytes = 256 * kKiB;
    options_.budget_bytes = 8 * kMiB;
    options_.memory_bytes = 8 * kMiB;
    options_.floor = {.key = 0.5};
    const bool sheds = GetParam();
    options_.make_policy = [sheds](size_t max_pieces) -> std::unique_ptr<EvictionPolicy> {
      if (sheds) return std::make_unique<PlanesFirst>();
      return std::make_unique<LruPolicy>(max_pieces);
    };
    Open();
  }
  ~ModelTest() override { SetLogLevel(LogLevel::kInfo); }

  struct Known {
    std::vector<std::byte> last;              // acknowledged last; empty when removed since
    std::vector<std::vector<std::byte>> old;  // that a power loss may bring back
    bool durable = false;
  };

  void Open() {
    tier_.reset();
    options_.env = env_.get();
    absl::StatusOr<std::unique_ptr<NvmeTier>> tier = NvmeTier::Open(options_);
    ASSERT_TRUE(tier.ok()) << tier.status();
    tier_ = *std::move(tier);
  }

  // The process is killed, or power is lost: the tier goes on on a disk that nobody sees, a new one
  // starts on what was there.
  void Crash(bool power_loss) {
    DiskImage image = env_->image();
    const uint64_t seed = random_();
    tier_.reset();
    if (power_loss) {
      image = image.AfterPowerLoss(static_cast<PowerLossMode>(seed % 3), seed);
    }
    env_ = std::make_unique<SimulatedEnv>(SimulatedDiskOptions{.seed = seed}, std::move(image));
    Open();
    lost_power_ |= power_loss;
  }

  std::string NameOf(int name) const { return "name " + std::to_string(name); }

  void Write(int name) {
    Known& known = known_[name];
    std::vector<std::byte> piece = Build({.key = TestKey(NameOf(name)),
                                          .fingerprint = TestFingerprint(name % 2 ? "odd" : "even"),
                                          .plane_bytes = 500 + random_() % 30'000,
                                          .planes = 1 + static_cast<uint32_t>(random_() % 4),
                                          .segment_bytes = 9000,
                                          .seed = static_cast<uint32_t>(random_())});
    const bool durable = random_() % 4 == 0;
    const bool was_there = tier_->Describe(7, TestKey(NameOf(name))).has_value();
    const absl::Status status = WriteTo(*tier_, piece, {.tenant = 7, .durable = durable});
    if (!status.ok()) {
      // Only a hold on what is there is a reason.
      EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
      return;
    }
    if (!known.last.empty()) known.old.push_back(known.last);
    // What replaces a durable piece is durable, too.
    known.durable = durable || (known.durable && was_there);
    if (known.durable) known.old.clear();
    known.last = std::move(piece);
  }

  void Check(int name) {
    const Known& known = known_[name];
    const std::optional<PieceSummary> summary = tier_->Describe(7, TestKey(NameOf(name)));
    if (!summary.has_value()) return;
    std::vector<ByteSpan> allowed = {known.last};
    if (lost_power_) allowed.insert(allowed.end(), known.old.begin(), known.old.end());
    bool known_content = false;
    for (const ByteSpan& container : allowed) {
      if (container.empty()) continue;
      if (PieceMeta::Parse(container).value().header().content_id != summary->content_id) continue;
      known_content = true;
      const Found found = Look(*tier_, 7, container);
      if (lost_power_ && !known.durable) {
        EXPECT_NE(found, Found::kImpostor) << name;
      } else {
        EXPECT_EQ(found, Found::kIntact) << name;
      }
    }
    EXPECT_TRUE(known_content) << name;
  }

  uint64_t DiskBytes() {
    uint64_t bytes = 0;
    for (const char* folder : {"/tier", "/tier/index", "/tier/segments"}) {
      const std::string directory = folder;
      const std::vector<std::string> names = env_->List(directory).value();
      for (const std::string& name : names) {
        const auto file = env_->Open(directory + "/" + name, OpenMode::kRead, false);
        if (file.ok()) bytes += (*file)->SizeBytes().value();
      }
    }
    return bytes;
  }

  void Step() {
    const int name = static_cast<int>(random_() % kNames);
    const uint64_t dice = random_() % 1000;
    if (dice < 500) {
      Write(name);
    } else if (dice < 900) {
      Check(name);
    } else if (dice < 940) {
      tier_->Remove(7, TestKey(NameOf(name)), nullptr);
      EXPECT_FALSE(tier_->Describe(7, TestKey(NameOf(name))).has_value());
      Known& known = known_[name];
      if (!known.last.empty()) known.old.push_back(std::exchange(known.last, {}));
      known.durable = false;
    } else if (dice < 980) {
      tier_->Hold(7, TestKey(NameOf(name)), 0,
                  Deadline::After(std::chrono::seconds(1), env_->clock()));
    } else if (dice < 988) {
      env_->manual_clock().Advance(std::chrono::seconds(1));
    } else if (dice < 992) {
      Open();
    } else if (dice < 996) {
      Crash(/*power_loss=*/false);
    } else if (dice < 999) {
      Crash(/*power_loss=*/true);
    } else {
      const uint64_t damaged = ScrubAll(*tier_);
      if (!lost_power_) {
        EXPECT_EQ(damaged, 0u);
      }
    }
  }

  std::unique_ptr<SimulatedEnv> env_;
  NvmeOptions options_;
  std::unique_ptr<NvmeTier> tier_;
  std::map<int, Known> known_;
  std::mt19937_64 random_{11};
  bool lost_power_ = false;
};

TEST_P(ModelTest, FindsWhatWasWrittenLastWithinItsBudgets) {
  uint64_t evicted = 0;
  uint64_t shed = 0;
  uint64_t moved = 0;
  for (int step = 0; step < 6000; ++step) {
    SCOPED_TRACE(step);
    const NvmeUsage usage = tier_->usage();
    Step();
    if (HasFailure()) return;
    if (step % 20 != 0) continue;
    evicted += usage.evicted_pieces;
    shed += usage.shed_pieces;
    moved += usage.bytes_moved;
    EXPECT_LE(DiskBytes(), options_.budget_bytes);
    EXPECT_LE(usage.bytes_memory, options_.memory_bytes);
  }
  EXPECT_GT(moved, 0u);
  EXPECT_GT(GetParam() ? shed : evicted, 0u);
}

INSTANTIATE_TEST_SUITE_P(Policies, ModelTest, ::testing::Bool());

// With one thread for each kind of call; for ThreadSanitizer above all.
TEST_P(ModelTest, ManyThreadsAtOnceFindNothingWrong) {
  std::vector<std::vector<std::byte>> pieces;
  for (int i = 0; i < 400; ++i) {
    pieces.push_back(Build({.key = TestKey(NameOf(i % 200)),
                            .plane_bytes = 500u + 61u * static_cast<uint32_t>(i),
                            .planes = 3,
                            .seed = static_cast<uint32_t>(i)}));
  }
  std::vector<std::thread> threads;
  std::atomic<int> impostors{0};
  for (int thread = 0; thread < 4; ++thread) {
    threads.emplace_back([&, thread] {
      std::mt19937 random(static_cast<uint32_t>(thread));
      for (int step = 0; step < 400; ++step) {
        const std::vector<std::byte>& piece = pieces[random() % pieces.size()];
        const Key key = PieceMeta::Parse(piece).value().header().key;
        switch (random() % 8) {
          case 0:
            tier_->Remove(1, key, nullptr);
            break;
          case 1:
            tier_->Hold(1, key, 0, Deadline::After(std::chrono::seconds(1), env_->clock()));
            break;
          case 2:
            tier_->List(1, &key, 20, nullptr);
            tier_->usage();
            break;
          case 3:
          case 4:
          case 5:
            static_cast<void>(WriteTo(*tier_, piece, {.durable = random() % 4 == 0}));
            break;
          default: {
            const std::optional<PieceSummary> summary = tier_->Describe(1, key);
            if (!summary.has_value()) break;
            const absl::StatusOr<std::vector<std::byte>> bytes =
                ReadFrom(*tier_, 1, key, summary->planes_held);
            if (!bytes.ok()) break;
            const absl::StatusOr<PieceMeta> meta = PieceMeta::Parse(*bytes);
            if (!meta.ok() || meta->header().key != key) ++impostors;
          }
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(impostors, 0);
  EXPECT_EQ(tier_->usage().damaged_pieces, 0u);
  EXPECT_EQ(ScrubAll(*tier_), 0u);
}

}  // namespace
}  // namespace reprise::storage
