#include "services/store/memory_plan.h"

#include <gtest/gtest.h>

#include "common/limits.h"

namespace reprise::store {
namespace {

TEST(MemoryPlan, TheSharesAddUp) {
  for (const uint64_t total : {MinimumMemoryBytes(), uint64_t{512} * kMiB, uint64_t{1} * kGiB,
                               uint64_t{64} * kGiB + 12'345, uint64_t{4096} * kGiB}) {
    const absl::StatusOr<MemoryPlan> plan = PlanMemory(total, UINT64_MAX);
    ASSERT_TRUE(plan.ok()) << plan.status();
    EXPECT_EQ(plan->total_bytes, total);
    EXPECT_EQ(plan->baseline_bytes + plan->ucx_receive_bytes + plan->grpc_receive_bytes +
                  plan->gather_bytes + plan->message_bytes + plan->pieces_bytes,
              total);
    EXPECT_GE(plan->pieces_bytes, 64 * kMiB);
    // What the carriers ask of their receive memory.
    EXPECT_EQ(plan->ucx_receive_bytes % kMaxPartBytes, 0u);
    EXPECT_GE(plan->ucx_receive_bytes, 2 * kMaxPartBytes);
    EXPECT_GE(plan->gather_bytes, 2 * kMaxPartBytes);
  }
}

TEST(MemoryPlan, LargeStoresSpendOnPieces) {
  const MemoryPlan plan = PlanMemory(64 * kGiB, UINT64_MAX).value();
  EXPECT_GE(plan.pieces_bytes, 63 * kGiB);
}

TEST(MemoryPlan, RefusesTooLittleAndTooMuch) {
  const absl::Status little = PlanMemory(MinimumMemoryBytes() - 1, UINT64_MAX).status();
  EXPECT_EQ(little.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(little.message().find("too small"), std::string::npos);
  const absl::Status much = PlanMemory(2 * kGiB, 2 * kGiB - 1).status();
  EXPECT_EQ(much.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(much.message().find("more than"), std::string::npos);
}

TEST(MemoryPlan, TheDefaultIsAQuarterAndAlwaysAccepted) {
  EXPECT_EQ(DefaultMemoryBytes(32 * kGiB), 8 * kGiB);
  EXPECT_EQ(DefaultMemoryBytes(32 * kGiB + 5), 8 * kGiB);
  EXPECT_EQ(DefaultMemoryBytes(512 * kMiB), MinimumMemoryBytes());
}

TEST(MemoryPlan, AsksTheMachine) {
  EXPECT_GT(PhysicalMemoryBytes(), 16 * kMiB);
  EXPECT_LT(PhysicalMemoryBytes(), uint64_t{1} << 50);
}

}  // namespace
}  // namespace reprise::store
