// What the index in memory costs, counted where memory is taken: everything but the policy's own
// records, for pieces as the progressive codec makes them.

#include <atomic>
#include <cstdio>
#include <memory>
#include <string>

#include <gtest/gtest.h>

#include "common/limits.h"
#include "storage/nvme/resident_pieces.h"
#include "storage/testing/counted_heap.h"
#include "storage/testing/test_piece.h"

namespace reprise::storage {
namespace {

// Remembers nothing, so that it costs nothing.
class NoPolicy final : public EvictionPolicy {
 public:
  TrackedPiece* Insert(const PolicyPiece&) override { return &one_; }
  void Use(TrackedPiece*) override {}
  void Remove(TrackedPiece*) override {}
  void SetHeld(TrackedPiece*, bool) override {}
  void Shed(TrackedPiece*, uint32_t, uint64_t) override {}
  Victim ChooseVictim(bool, absl::FunctionRef<bool(const TrackedPiece&)>) override { return {}; }
  Victim ChooseAmong(bool, std::span<TrackedPiece* const>) override { return {}; }
  bool WorthDemoting(const TrackedPiece&) const override { return true; }
  void SetDemoted(TrackedPiece*) override {}
  size_t fixed_bytes() const override { return 0; }
  size_t bytes_per_piece() const override { return 0; }

 private:
  struct Tracked final : TrackedPiece {
    Tracked() : TrackedPiece(0) {}
  };
  Tracked one_;
};

// A chunk of 256 tokens with a parent, in eight levels.
PieceRecord RecordOf(uint32_t number, const Digest& fingerprint) {
  PieceRecord record;
  PieceSummary& summary = record.summary;
  summary.content_id.digest = TestKey("content " + std::to_string(number)).digest;
  summary.namespace_fingerprint = fingerprint;
  summary.attributes = {.parent = TestKey("parent " + std::to_string(number)),
                        .expires_at_s = 1'800'000'000 + number * 7919 % 100'000,
                        .position = number % 500,
                        .recompute_seconds = 0.125 * (number + 1)};
  summary.token_begin = 256 * (number % 500);
  summary.tier = Tier::kNvme;
  summary.level_count = 8;
  summary.planes_held = 8;
  for (uint32_t level = 0; level < 8; ++level) {
    const float error = level == 7 ? 0.0f : 0.1f / static_cast<float>(level + 1);
    summary.all_levels[level] = {.bytes = 80'000 + 40'000 * level,
                                 .distortion = {.key = error, .value = error}};
  }
  record.base_planes = 3;
  record.base = {.segment = number % 4, .page = 1 + number % 100'000};
  record.refinement = {.segment = 4 + number % 4, .page = 1 + number % 100'000};
  return record;
}

TEST(ResidentPiecesMemoryTest, APieceOfEightLevelsTakesLessThan256BytesOfIndex) {
  // Just what a table of that many takes without growing, and one more, which doubles it.
  for (const uint32_t pieces : {114'688u, 114'689u}) {
    const Digest fingerprint = TestFingerprint("model");
    SegmentSpace space(512 * kMiB, 8);
    ManualClock clock;
    const uint64_t before = counted_heap.live_bytes;
    ResidentPieces resident(
        pieces, [](size_t) { return std::make_unique<NoPolicy>(); }, space, clock);
    for (uint32_t i = 0; i < pieces; ++i) {
      resident.AddFound(1, TestKey(std::to_string(i)), RecordOf(i, fingerprint));
    }
    const double each = static_cast<double>(counted_heap.live_bytes - before) / pieces;
    std::printf("%u pieces of 8 levels: %.1f bytes each\n", pieces, each);
    EXPECT_LT(each, PieceView::kBytesPerPiece);
    // What the tier charges its budget with is what was taken.
    const double charged =
        static_cast<double>(resident.memory_bytes() + space.memory_bytes()) / pieces;
    EXPECT_NEAR(charged, each, 0.05 * each);
  }
}

TEST(ResidentPiecesMemoryTest, MemoryOfPiecesThatGoIsUsedAgain) {
  const Digest fingerprint = TestFingerprint("model");
  SegmentSpace space(512 * kMiB, 8);
  ManualClock clock;
  ResidentPieces resident(
      1000, [](size_t) { return std::make_unique<NoPolicy>(); }, space, clock);
  int64_t after_first = 0;
  for (uint32_t round = 0; round < 20; ++round) {
    for (uint32_t i = 0; i < 1000; ++i) {
      const Key key = TestKey(std::to_string(round * 1000 + i));
      if (const auto old = resident.Find(1, TestKey(std::to_string(round * 1000 + i - 1000)))) {
        resident.Forget(*old);
      }
      resident.AddFound(1, key, RecordOf(i, fingerprint));
    }
    resident.TakeChanges();
    if (round == 1) after_first = static_cast<int64_t>(resident.memory_bytes());
  }
  EXPECT_EQ(resident.view().size(), 1000u);
  EXPECT_EQ(static_cast<int64_t>(resident.memory_bytes()), after_first);
}

}  // namespace
}  // namespace reprise::storage
