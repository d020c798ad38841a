#include "storage/nvme/segment_space.h"

#include <cstdio>
#include <deque>
#include <map>
#include <random>
#include <vector>

#include <gtest/gtest.h>

namespace reprise::storage {
namespace {

constexpr uint64_t kPages = 9;  // of which one is the header
constexpr uint64_t kSegment = kPages * kPageBytes;

SegmentSpace WithFiles(uint32_t segments) {
  SegmentSpace space(kSegment, segments);
  for (uint32_t i = 0; i < segments; ++i) space.AddEmpty(i);
  return space;
}

// Fills segments with one run each until no more is to be had.
std::vector<RunPlace> FillUp(SegmentSpace& space) {
  std::vector<RunPlace> runs;
  while (const auto run = space.Allocate(RunKind::kBase, false, space.usable_bytes())) {
    space.Publish(*run, static_cast<uint32_t>(runs.size()));
    runs.push_back(*run);
  }
  return runs;
}

TEST(SegmentSpaceTest, RunsFollowEachOtherBehindTheHeader) {
  SegmentSpace space = WithFiles(4);
  const RunPlace first = *space.Allocate(RunKind::kBase, false, 3 * kPageBytes);
  const RunPlace second = *space.Allocate(RunKind::kBase, false, 5 * kPageBytes);
  EXPECT_EQ(first.page, 1u);
  EXPECT_EQ(second.segment, first.segment);
  EXPECT_EQ(second.page, 4u);
  // Full to the last page; the next run begins another segment.
  const RunPlace third = *space.Allocate(RunKind::kBase, false, kPageBytes);
  EXPECT_NE(third.segment, first.segment);
  EXPECT_EQ(third.page, 1u);
  EXPECT_EQ(space.live_bytes(), 9 * kPageBytes);
  EXPECT_FALSE(space.Allocate(RunKind::kBase, false, kSegment).has_value());
}

TEST(SegmentSpaceTest, RefinementLiesApartWhereThereAreSegmentsEnough) {
  SegmentSpace few = WithFiles(SegmentSpace::kSegmentsForStreams - 1);
  EXPECT_EQ(few.Allocate(RunKind::kBase, false, kPageBytes)->segment,
            few.Allocate(RunKind::kRefinement, false, kPageBytes)->segment);
  SegmentSpace many = WithFiles(SegmentSpace::kSegmentsForStreams);
  const uint32_t base = many.Allocate(RunKind::kBase, false, kPageBytes)->segment;
  const uint32_t refinement = many.Allocate(RunKind::kRefinement, false, kPageBytes)->segment;
  const uint32_t moved = many.Allocate(RunKind::kBase, true, kPageBytes)->segment;
  EXPECT_NE(base, refinement);
  EXPECT_NE(base, moved);
  EXPECT_NE(refinement, moved);
}

TEST(SegmentSpaceTest, TheLastEmptySegmentIsForMovesAlone) {
  SegmentSpace space = WithFiles(5);
  EXPECT_EQ(FillUp(space).size(), 4u);
  EXPECT_TRUE(space.Starved());
  EXPECT_TRUE(space.Allocate(RunKind::kBase, true, kPageBytes).has_value());
}

TEST(SegmentSpaceTest, ASegmentDrainsWhenNothingLivesAndNobodyLooks) {
  SegmentSpace space = WithFiles(5);
  const std::vector<RunPlace> runs = FillUp(space);
  const uint32_t segment = runs[0].segment;
  space.Pin(segment);
  space.Release(segment, space.usable_bytes());
  EXPECT_FALSE(space.has_drained());
  space.Unpin(segment);
  EXPECT_EQ(space.TakeDrained(), std::vector<uint32_t>{segment});
  EXPECT_FALSE(space.has_drained());
  // It is not empty before its owner says so.
  EXPECT_FALSE(space.Allocate(RunKind::kBase, false, kPageBytes).has_value());
  space.AddEmpty(segment);
  EXPECT_EQ(space.Allocate(RunKind::kBase, false, kPageBytes)->segment, segment);
}

TEST(SegmentSpaceTest, WhatWasGivenUpMakesAVictimAndAShortEndDoesNot) {
  SegmentSpace space = WithFiles(5);
  // Runs of 5 of 8 pages: the end of each segment is too short for another.
  std::vector<RunPlace> runs;
  while (const auto run = space.Allocate(RunKind::kBase, false, 5 * kPageBytes)) {
    space.Publish(*run, 0);
    runs.push_back(*run);
  }
  ASSERT_EQ(runs.size(), 4u);
  EXPECT_EQ(space.ChooseVictim(), std::nullopt);
  // Of the second segment two planes go.
  space.Release(runs[1].segment, 2 * kPageBytes);
  EXPECT_EQ(space.ChooseVictim(), runs[1].segment);
  space.SetUnreadable(runs[1].segment);
  EXPECT_EQ(space.ChooseVictim(), std::nullopt);
}

TEST(SegmentSpaceTest, ASegmentWithARunThatCannotBeFoundYetIsNoVictim) {
  SegmentSpace space = WithFiles(5);
  const RunPlace dead = *space.Allocate(RunKind::kBase, false, 7 * kPageBytes);
  const RunPlace written = *space.Allocate(RunKind::kBase, false, kPageBytes);
  space.Discard(dead, 7 * kPageBytes);
  FillUp(space);
  EXPECT_EQ(space.ChooseVictim(), std::nullopt);
  space.Publish(written, 1);
  EXPECT_EQ(space.ChooseVictim(), written.segment);
  EXPECT_EQ(space.tags(written.segment), std::vector<uint32_t>{1});
}

TEST(SegmentSpaceTest, AnAbandonedSegmentTakesNoMoreAndIsSoonEmptied) {
  SegmentSpace space = WithFiles(4);
  const RunPlace run = *space.Allocate(RunKind::kBase, false, kPageBytes);
  space.Publish(run, 1);
  space.Abandon(run.segment);
  EXPECT_NE(space.Allocate(RunKind::kBase, false, kPageBytes)->segment, run.segment);
  EXPECT_EQ(space.ChooseVictim(), run.segment);
}

TEST(SegmentSpaceTest, HostilePlacesAreNone) {
  const SegmentSpace space(kSegment, 4);
  EXPECT_TRUE(space.IsPlace({.segment = 3, .page = 1}, 8 * kPageBytes));
  EXPECT_FALSE(space.IsPlace({.segment = 4, .page = 1}, kPageBytes));
  EXPECT_FALSE(space.IsPlace({.segment = 0, .page = 0}, kPageBytes));
  EXPECT_FALSE(space.IsPlace({.segment = 0, .page = 2}, 8 * kPageBytes));
  EXPECT_FALSE(space.IsPlace({.segment = 0, .page = (1u << 24) - 1}, kPageBytes));
  EXPECT_FALSE(space.IsPlace({.segment = 0, .page = 1}, 0));
  EXPECT_FALSE(space.IsPlace({.segment = 0, .page = 1}, UINT64_MAX));
}

// Runs of random sizes that die at random, reclaimed as the tier does it.
TEST(SegmentSpaceTest, RandomUseNeverOverlapsAndCountsWhatLives) {
  std::mt19937 random(1);
  SegmentSpace space(64 * kPageBytes, 24);
  std::map<std::pair<uint32_t, uint32_t>, uint64_t> runs;  // by place
  uint64_t live = 0;
  int moves = 0;
  const auto add = [&](const RunPlace& place, uint64_t bytes) {
    space.Publish(place, 0);
    const auto [at, fresh] = runs.insert({{place.segment, place.page}, bytes});
    ASSERT_TRUE(fresh);
    ASSERT_LE(place.offset() + bytes, space.segment_bytes());
    const auto next = std::next(at);
    if (next != runs.end() && next->first.first == place.segment) {
      ASSERT_LE(place.page + bytes / kPageBytes, next->first.second);
    }
    if (at != runs.begin() && std::prev(at)->first.first == place.segment) {
      ASSERT_LE(std::prev(at)->first.second + std::prev(at)->second / kPageBytes, place.page);
    }
    live += bytes;
  };
  const auto drop = [&](auto at) {
    space.Release(at->first.first, at->second);
    live -= at->second;
    return runs.erase(at);
  };
  for (int step = 0; step < 20'000; ++step) {
    while (const auto create = space.NextToCreate()) space.AddEmpty(*create);
    const uint64_t bytes = (1 + random() % 12) * kPageBytes;
    const auto drop_any = [&] {
      auto at = runs.begin();
      std::advance(at, random() % runs.size());
      drop(at);
    };
    while (space.live_bytes() + bytes > space.live_limit_bytes()) drop_any();
    const RunKind kind = random() % 2 == 0 ? RunKind::kBase : RunKind::kRefinement;
    if (const auto place = space.Allocate(kind, false, bytes)) {
      add(*place, bytes);
    } else if (!space.ChooseVictim().has_value()) {
      drop_any();
    }
    while (space.WantsReclaim()) {
      for (const uint32_t segment : space.TakeDrained()) space.AddEmpty(segment);
      const auto victim = space.ChooseVictim();
      if (!victim.has_value()) break;
      for (auto at = runs.lower_bound({*victim, 0});
           at != runs.end() && at->first.first == *victim;) {
        const uint64_t moved = at->second;
        const auto place = space.Allocate(RunKind::kBase, true, moved);
        ASSERT_TRUE(place.has_value()) << "a victim always fits into what is set aside";
        at = drop(at);
        add(*place, moved);
        ++moves;
      }
    }
    for (const uint32_t segment : space.TakeDrained()) space.AddEmpty(segment);
    ASSERT_EQ(space.live_bytes(), live);
  }
  EXPECT_GT(live, space.live_limit_bytes() / 2);
  EXPECT_GT(moves, 1000);
}

// Bytes moved for each byte written, of runs of a twelfth of a segment, with as much alive as may
// be.
double MovedPerWritten(bool oldest_first) {
  std::mt19937 random(1);
  SegmentSpace space(1024 * kPageBytes, 64);
  std::deque<RunPlace> runs;  // in order of writing
  constexpr uint64_t kRun = 85 * kPageBytes;
  uint64_t written = 0;
  uint64_t moved = 0;
  while (written < 4000 * kRun) {
    while (const auto create = space.NextToCreate()) space.AddEmpty(*create);
    const auto drop = [&] {
      const size_t at = oldest_first ? 0 : random() % runs.size();
      space.Release(runs[at].segment, kRun);
      runs.erase(runs.begin() + static_cast<ptrdiff_t>(at));
    };
    while (space.live_bytes() + kRun > space.live_limit_bytes()) drop();
    if (const auto place = space.Allocate(RunKind::kBase, false, kRun)) {
      space.Publish(*place, 0);
      runs.push_back(*place);
      written += kRun;
    } else if (!space.ChooseVictim().has_value()) {
      drop();
    }
    while (space.WantsReclaim()) {
      for (const uint32_t segment : space.TakeDrained()) space.AddEmpty(segment);
      const auto victim = space.ChooseVictim();
      if (!victim.has_value()) break;
      for (RunPlace& run : runs) {
        if (run.segment != *victim) continue;
        const RunPlace to = *space.Allocate(RunKind::kBase, true, kRun);
        space.Publish(to, 0);
        space.Release(run.segment, kRun);
        run = to;
        moved += kRun;
      }
    }
    for (const uint32_t segment : space.TakeDrained()) space.AddEmpty(segment);
  }
  return static_cast<double>(moved) / static_cast<double>(written);
}

TEST(SegmentSpaceTest, WhatGoesInOrderIsHardlyMovedAndNothingMoreThanThreeTimes) {
  const double in_order = MovedPerWritten(/*oldest_first=*/true);
  const double at_random = MovedPerWritten(/*oldest_first=*/false);
  std::printf("moved for each byte written: %.2f oldest first, %.2f at random\n", in_order,
              at_random);
  EXPECT_LT(in_order, 0.1);
  EXPECT_LT(at_random, 3);
}

}  // namespace
}  // namespace reprise::storage
