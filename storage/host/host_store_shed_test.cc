// Shedding: a policy that names planes to give up before it gives up pieces, and what a store makes
// of it.

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "common/limits.h"
#include "storage/host/host_store.h"
#include "storage/testing/planes_first.h"
#include "storage/testing/test_piece.h"

namespace reprise::storage {
namespace {

constexpr TenantId kTenant = 1;
constexpr uint32_t kPlanes = 4;
// Four planes and a page of header and directory: 7.75 MiB of arena hold seven of them.
constexpr uint64_t kPlaneBytes = 256 * kKiB;
constexpr uint32_t kThatFit = 7;
// The pieces that come after them; one fits where a plane was shed, since extents are not moved.
constexpr uint64_t kSmallPlaneBytes = 60 * kKiB;
constexpr uint32_t kSmall = 10;

// Checks what it is told.
class CheckedPlanesFirst final : public PlanesFirst {
 public:
  TrackedPiece* Insert(const PolicyPiece& piece) override {
    EXPECT_EQ(piece.levels.size(), kPlanes);
    for (size_t level = 0; level < piece.levels.size(); ++level) {
      const uint64_t plane_bytes = (piece.levels[level].bytes - 4096) / (level + 1);
      EXPECT_TRUE(plane_bytes == kPlaneBytes || plane_bytes == kSmallPlaneBytes) << plane_bytes;
      EXPECT_EQ(piece.levels[level].distortion.key, 0.25f * static_cast<float>(3 - level));
    }
    return PlanesFirst::Insert(piece);
  }
  void Shed(TrackedPiece* piece, uint32_t planes_held, uint64_t size_bytes) override {
    EXPECT_EQ(planes_held, static_cast<Tracked*>(piece)->planes - 1);
    EXPECT_LT(size_bytes, static_cast<Tracked*>(piece)->size_bytes);
    PlanesFirst::Shed(piece, planes_held, size_bytes);
  }
};

class HostStoreShedTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto store = HostStore::Create({.budget_bytes = 8 * kMiB, .make_policy = [](size_t) {
                                      return std::make_unique<CheckedPlanesFirst>();
                                    }});
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = *std::move(store);
  }

  const std::vector<std::byte>& ContainerOf(uint32_t number) {
    while (containers_.size() <= number) {
      const auto next = static_cast<uint32_t>(containers_.size());
      containers_.push_back(Build({.key = KeyOf(next),
                                   .plane_bytes = next < kThatFit ? kPlaneBytes : kSmallPlaneBytes,
                                   .planes = kPlanes,
                                   .seed = next + 1}));
    }
    return containers_[number];
  }
  static Key KeyOf(uint32_t number) { return TestKey(std::to_string(number)); }
  absl::StatusOr<CommitOutcome> Publish(uint32_t number) {
    return Put(*store_, kTenant, KeyOf(number), ContainerOf(number));
  }
  void Fill(uint32_t count = kThatFit) {
    for (uint32_t i = 0; i < count; ++i) ASSERT_EQ(Publish(i).value(), CommitOutcome::kStored);
  }
  uint32_t PlanesOf(uint32_t number) {
    const auto summary = store_->Describe(kTenant, KeyOf(number));
    return summary.has_value() ? summary->planes_held : 0;
  }

  std::unique_ptr<HostStore> store_;
  std::vector<std::vector<std::byte>> containers_;
};

TEST_F(HostStoreShedTest, PrecisionGoesBeforePieces) {
  Fill(kThatFit + kSmall);
  uint64_t bytes = 0;
  for (uint32_t i = 0; i < kThatFit + kSmall; ++i) {
    const PieceRef piece = store_->Peek(kTenant, KeyOf(i));
    ASSERT_NE(piece, nullptr) << i;
    const uint32_t planes = piece->level() + 1;
    EXPECT_TRUE(Matches(*piece, CutTo(ContainerOf(i), planes)))
        << "content id and directory are what they were";
    EXPECT_TRUE(piece->meta().VerifyBody(piece->body(), piece->level()).ok());
    const PieceSummary summary = piece->Summarize();
    EXPECT_EQ(summary.planes_held, planes);
    EXPECT_EQ(summary.level_count, kPlanes);
    EXPECT_EQ(summary.quality(), QualityOf(piece->meta(), planes));
    bytes += ExtentAllocator::OccupiedBytes(summary.held_bytes());
  }
  const StoreUsage usage = store_->usage();
  EXPECT_EQ(usage.evicted_pieces, 0u);
  EXPECT_EQ(usage.bytes_used - usage.bytes_metadata, bytes);
  EXPECT_LT(PlanesOf(0), kPlanes);
  // With nothing left to shed, pieces go.
  Fill(20 * kSmall);
  EXPECT_GT(store_->usage().evicted_pieces, 0u);
}

TEST_F(HostStoreShedTest, AShedPieceIsCompletedByWhatItLacks) {
  Fill(kThatFit + kSmall);
  const uint32_t planes = PlanesOf(0);
  ASSERT_LT(planes, kPlanes);
  const ByteSpan held = CutTo(ContainerOf(0), planes);
  const auto upload = store_->BeginUpload(kTenant, OfferOf(KeyOf(0), ContainerOf(0)));
  ASSERT_TRUE(upload.ok()) << upload.status();
  ASSERT_EQ((*upload)->from_offset(), held.size());
  const ByteSpan missing = ByteSpan(ContainerOf(0)).subspan(held.size());
  EXPECT_TRUE((*upload)->Write(held.size(), missing).value());
  EXPECT_EQ((*upload)->Commit().value(), CommitOutcome::kStored);
  EXPECT_TRUE(Matches(*store_->Peek(kTenant, KeyOf(0)), ContainerOf(0)));
}

TEST_F(HostStoreShedTest, APieceShedBetweenBeginAndCommitIsCompletedAllTheSame) {
  Fill(1);
  ASSERT_TRUE(store_->Remove(kTenant, KeyOf(0), nullptr));
  ASSERT_TRUE(Put(*store_, kTenant, KeyOf(0), CutTo(ContainerOf(0), 3)).ok());
  const auto upload = store_->BeginUpload(kTenant, OfferOf(KeyOf(0), ContainerOf(0)));
  ASSERT_TRUE(upload.ok());
  const uint64_t from = (*upload)->from_offset();
  for (uint32_t i = 1; i < kThatFit + 2 * kSmall; ++i) ASSERT_TRUE(Publish(i).ok());
  ASSERT_LT(PlanesOf(0), 3u);
  ASSERT_TRUE((*upload)->Write(from, ByteSpan(ContainerOf(0)).subspan(from)).value());
  EXPECT_EQ((*upload)->Commit().value(), CommitOutcome::kStored);
  EXPECT_TRUE(Matches(*store_->Peek(kTenant, KeyOf(0)), ContainerOf(0)));
}

TEST_F(HostStoreShedTest, WhatIsReadOrHeldIsNotShed) {
  Fill();
  const PieceRef reader = store_->Find(kTenant, KeyOf(0));
  ASSERT_TRUE(store_->Hold(kTenant, KeyOf(1), 0, Deadline::After(std::chrono::seconds(50))));
  for (uint32_t i = kThatFit; i < kThatFit + kSmall; ++i) ASSERT_TRUE(Publish(i).ok());
  EXPECT_TRUE(Matches(*reader, ContainerOf(0)));
  EXPECT_EQ(PlanesOf(0), kPlanes);
  EXPECT_EQ(PlanesOf(1), kPlanes);
  EXPECT_LT(PlanesOf(2), kPlanes);
  EXPECT_FALSE(
      store_->Hold(kTenant, KeyOf(2), kPlanes - 1, Deadline::After(std::chrono::seconds(50))))
      << "a level that is not held any more";
  EXPECT_TRUE(
      store_->Hold(kTenant, KeyOf(2), PlanesOf(2) - 1, Deadline::After(std::chrono::seconds(50))));
}

}  // namespace
}  // namespace reprise::storage
