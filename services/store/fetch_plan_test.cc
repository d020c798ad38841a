#include "services/store/fetch_plan.h"

#include <gtest/gtest.h>

#include "common/limits.h"

namespace reprise::store {
namespace {

// A piece of `planes` planes, each with one opaque segment of `bytes` for each of `layers` layers.
PieceMeta MakeMeta(uint32_t planes, uint32_t layers, uint32_t bytes) {
  PieceHeader header;
  header.group_kind = GroupKind::kOpaque;
  header.slot = {.group = 0, .layer_begin = 0, .layer_end = layers, .head_begin = 0, .head_end = 1};
  header.levels.resize(planes);
  for (Level& level : header.levels) level.distortions.resize(layers);
  std::vector<Segment> segments;
  for (uint32_t plane = 0; plane < planes; ++plane) {
    for (uint32_t layer = 0; layer < layers; ++layer) {
      segments.push_back({.plane = static_cast<uint16_t>(plane),
                          .part = TensorPart::kOpaque,
                          .layer = layer,
                          .length = bytes});
    }
  }
  absl::StatusOr<PieceLayout> layout = PieceLayout::Create(header, segments);
  EXPECT_TRUE(layout.ok()) << layout.status();
  return layout->meta();
}

// The segments of all parts, in order; checks each part's length on the way.
std::vector<uint32_t> SegmentsOf(const PieceMeta& meta, const std::vector<PlannedPart>& parts) {
  std::vector<uint32_t> segments;
  for (const PlannedPart& part : parts) {
    uint64_t bytes = 0;
    for (const SegmentRun& run : part.runs) {
      bytes += meta.RangeOf(run).length;
      for (uint32_t i = run.first; i < run.first + run.count; ++i) segments.push_back(i);
    }
    EXPECT_EQ(part.bytes, bytes);
    EXPECT_LE(part.bytes, kMaxPartBytes);
  }
  return segments;
}

TEST(FetchPlan, AWholePieceIsCutAtSegmentsIntoFullParts) {
  const PieceMeta meta = MakeMeta(1, 10, 3 * kMiB);
  const auto parts = PlanParts(meta, std::vector<SegmentRun>{{0, 10}});
  // Two segments of 3 MiB fit 8 MiB, three do not.
  ASSERT_EQ(parts.size(), 5u);
  for (const PlannedPart& part : parts) {
    ASSERT_EQ(part.runs.size(), 1u);
    EXPECT_EQ(part.runs[0].count, 2u);
  }
  EXPECT_EQ(SegmentsOf(meta, parts), (std::vector<uint32_t>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}));
}

TEST(FetchPlan, AdjoiningRunsAreSentAsOne) {
  const PieceMeta meta = MakeMeta(2, 3, 5000);
  const auto parts = PlanParts(meta, std::vector<SegmentRun>{{0, 3}, {3, 3}});
  ASSERT_EQ(parts.size(), 1u);
  ASSERT_EQ(parts[0].runs.size(), 1u);
  EXPECT_EQ(parts[0].runs[0], (SegmentRun{0, 6}));
  // The second plane starts at the next multiple of 4096; the gap travels too.
  EXPECT_EQ(parts[0].bytes, 16384u + 15000u);
}

TEST(FetchPlan, ScatteredShortRunsAreGathered) {
  const PieceMeta meta = MakeMeta(4, 8, 100'000);
  const std::vector<SegmentRun> runs{{0, 2}, {8, 2}, {16, 2}, {24, 2}};
  const auto parts = PlanParts(meta, runs);
  ASSERT_EQ(parts.size(), 1u);
  EXPECT_EQ(parts[0].runs, runs);
  EXPECT_EQ(parts[0].bytes, 800'000u);
}

TEST(FetchPlan, LongRunsStayWhereTheyLie) {
  const PieceMeta meta = MakeMeta(3, 8, 1 * kMiB);
  const auto parts = PlanParts(meta, std::vector<SegmentRun>{{0, 2}, {8, 2}, {16, 2}});
  ASSERT_EQ(parts.size(), 3u);
  for (const PlannedPart& part : parts) EXPECT_EQ(part.runs.size(), 1u);
}

TEST(FetchPlan, GatheringStopsAtAFullPart) {
  // 16 runs of just under 1 MiB: eight to a part.
  const PieceMeta meta = MakeMeta(16, 2, kMiB - 4096);
  std::vector<SegmentRun> runs;
  for (uint32_t plane = 0; plane < 16; ++plane) runs.push_back({plane * 2, 1});
  const auto parts = PlanParts(meta, runs);
  ASSERT_EQ(parts.size(), 2u);
  EXPECT_EQ(parts[0].runs.size(), 8u);
  EXPECT_EQ(parts[1].runs.size(), 8u);
  EXPECT_EQ(SegmentsOf(meta, parts).size(), 16u);
}

}  // namespace
}  // namespace reprise::store
