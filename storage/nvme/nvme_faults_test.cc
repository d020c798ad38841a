// Every kind of disk call failing in every way, once and for good: nothing aborts or hangs, no
// wrong byte verifies, reads go on while writes cannot, and afterwards all is well again.

#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/limits.h"
#include "common/log.h"
#include "storage/env/testing/simulated_env.h"
#include "storage/lru.h"
#include "storage/nvme/testing/tier_calls.h"

namespace reprise::storage {
namespace {

constexpr int kPieces = 90;

class FaultsTest : public ::testing::Test {
 protected:
  FaultsTest() {
    SetLogLevel(LogLevel::kOff);
    for (int i = 0; i < kPieces; ++i) {
      pieces_.push_back(Build({.key = TestKey(std::to_string(i)),
                               .plane_bytes = 4000u + 401u * static_cast<uint32_t>(i),
                               .planes = 2,
                               .segment_bytes = 3000,
                               .seed = static_cast<uint32_t>(i)}));
    }
  }
  ~FaultsTest() override { SetLogLevel(LogLevel::kInfo); }

  static NvmeOptions OptionsOn(Env& env) {
    NvmeOptions options;
    options.directory = "/tier";
    options.segment_bytes = 256 * kKiB;
    options.budget_bytes = 2 * kMiB + 64 * kKiB + 16 * options.segment_bytes;
    options.memory_bytes = 4 * kMiB;
    options.floor = {.key = 0.5};
    options.make_policy = [](size_t max_pieces) { return std::make_unique<LruPolicy>(max_pieces); };
    options.env = &env;
    return options;
  }

  static bool IsDurable(int piece) { return piece % 3 == 0; }

  // Writes and reads all; which ones were acknowledged.
  std::vector<bool> Use(NvmeTier& tier) {
    std::vector<bool> acknowledged(pieces_.size());
    for (int i = 0; i < kPieces; ++i) {
      acknowledged[static_cast<size_t>(i)] =
          WriteTo(tier, Piece(i), {.durable = IsDurable(i)}).ok();
      // Most are removed again, so that segments are emptied and used anew.
      if (i % 5 != 0) tier.Remove(1, TestKey(std::to_string(i - 1)), nullptr);
      EXPECT_NE(Look(tier, 1, Piece(i / 2)), Found::kImpostor) << i / 2;
    }
    return acknowledged;
  }

  ByteSpan Piece(int i) const { return pieces_[static_cast<size_t>(i)]; }

  // A write that works, at the latest when the tier tries again.
  static absl::Status WriteInTheEnd(SimulatedEnv& env, NvmeTier& tier, ByteSpan piece) {
    absl::Status status;
    for (int attempt = 0; attempt < 10; ++attempt) {
      env.manual_clock().Advance(std::chrono::seconds(2));
      status = WriteTo(tier, piece, {.durable = true});
      if (status.ok()) break;
    }
    return status;
  }

  void FailOnce(DiskCall call, uint64_t number, DiskFault fault) {
    SimulatedEnv env({.seed = number + 1});
    env.faults().At(call, number, fault);
    absl::StatusOr<std::unique_ptr<NvmeTier>> tier = NvmeTier::Open(OptionsOn(env));
    if (!tier.ok()) {
      env.faults().Heal();
      tier = NvmeTier::Open(OptionsOn(env));
      ASSERT_TRUE(tier.ok()) << "a start that failed once must not keep the next from working: "
                             << tier.status();
    }
    const std::vector<bool> acknowledged = Use(**tier);
    env.faults().Heal();
    EXPECT_EQ(WriteInTheEnd(env, **tier, Piece(0)), absl::OkStatus());
    EXPECT_FALSE((*tier)->usage().read_only);
    tier->reset();
    tier = NvmeTier::Open(OptionsOn(env));
    // What was to go elsewhere may have hit the index itself.
    if (fault == DiskFault::kMisdirected && absl::IsDataLoss(tier.status())) return;
    ASSERT_TRUE(tier.ok()) << tier.status();
    for (int i = 0; i < kPieces; ++i) {
      const Found found = Look(**tier, 1, Piece(i));
      EXPECT_NE(found, Found::kImpostor) << i;
      const bool removed = i + 1 < kPieces && (i + 1) % 5 != 0;
      // A misdirected write destroys what it hits, which is only found out.
      if (acknowledged[static_cast<size_t>(i)] && !removed && fault != DiskFault::kMisdirected) {
        EXPECT_EQ(found, Found::kIntact) << i;
      }
    }
  }

  std::vector<std::vector<std::byte>> pieces_;
};

TEST_F(FaultsTest, EachCallFailsOnceInEachWay) {
  std::array<uint64_t, kDiskCalls> counts{};
  {
    SimulatedEnv env({.seed = 1});
    const absl::StatusOr<std::unique_ptr<NvmeTier>> tier = NvmeTier::Open(OptionsOn(env));
    ASSERT_TRUE(tier.ok()) << tier.status();
    Use(**tier);
    for (size_t call = 0; call < kDiskCalls; ++call) {
      counts[call] = env.faults().calls(static_cast<DiskCall>(call));
    }
  }
  for (size_t call = 0; call < kDiskCalls; ++call) {
    // The first calls of a kind are those of a start, the later ones are alike.
    const uint64_t step = std::max<uint64_t>(1, counts[call] / 8);
    for (uint64_t number = 0; number < counts[call]; number += number < 6 ? 1 : step) {
      for (size_t fault = 0; fault < kDiskFaults; ++fault) {
        SCOPED_TRACE(::testing::Message() << Name(static_cast<DiskCall>(call)) << " " << number
                                          << ": " << Name(static_cast<DiskFault>(fault)));
        FailOnce(static_cast<DiskCall>(call), number, static_cast<DiskFault>(fault));
        if (HasFatalFailure()) return;
      }
    }
  }
}

TEST_F(FaultsTest, ReadsGoOnWhileWritesCannot) {
  for (const DiskCall call : {DiskCall::kQueueWrite, DiskCall::kWrite, DiskCall::kSync}) {
    for (const DiskFault fault : {DiskFault::kNoSpace, DiskFault::kIoError}) {
      SCOPED_TRACE(::testing::Message() << Name(call) << " " << Name(fault));
      SimulatedEnv env({.seed = 1});
      const absl::StatusOr<std::unique_ptr<NvmeTier>> tier = NvmeTier::Open(OptionsOn(env));
      ASSERT_TRUE(tier.ok()) << tier.status();
      ASSERT_EQ(WriteTo(**tier, Piece(0), {.durable = true}), absl::OkStatus());

      env.faults().Always(call, fault);
      const absl::Status failed = WriteTo(**tier, Piece(1), {.durable = true});
      EXPECT_FALSE(failed.ok());
      EXPECT_TRUE((*tier)->usage().read_only);
      EXPECT_GT((*tier)->usage().failed_writes, 0u);
      EXPECT_EQ(Look(**tier, 1, Piece(0)), Found::kIntact);
      EXPECT_EQ(Look(**tier, 1, Piece(1)), Found::kAbsent);
      // Removing needs no disk to take effect.
      EXPECT_TRUE((*tier)->Remove(1, TestKey("0"), nullptr));
      EXPECT_EQ(Look(**tier, 1, Piece(0)), Found::kAbsent);

      env.faults().Heal();
      EXPECT_EQ(WriteInTheEnd(env, **tier, Piece(2)), absl::OkStatus());
      EXPECT_FALSE((*tier)->usage().read_only);
      EXPECT_EQ(Look(**tier, 1, Piece(2)), Found::kIntact);
    }
  }
}

TEST_F(FaultsTest, ADiskThatIsFullRefusesAndKeepsWhatItHas) {
  SimulatedEnv env({.seed = 1, .capacity_bytes = 2 * kMiB});
  const absl::StatusOr<std::unique_ptr<NvmeTier>> tier = NvmeTier::Open(OptionsOn(env));
  ASSERT_TRUE(tier.ok()) << tier.status();
  ASSERT_EQ(WriteTo(**tier, Piece(0), {.durable = true}), absl::OkStatus());
  int stored = 1;
  absl::Status status;
  for (; stored < kPieces && status.ok(); ++stored) status = WriteTo(**tier, Piece(stored));
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
  EXPECT_EQ(Look(**tier, 1, Piece(0)), Found::kIntact);
}

}  // namespace
}  // namespace reprise::storage
