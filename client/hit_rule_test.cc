#include "client/hit_rule.h"

#include <set>
#include <utility>

#include <gtest/gtest.h>

namespace reprise::client {
namespace {

LayerGroup Group(GroupKind kind, uint32_t window_tokens = 0) {
  LayerGroup group;
  group.kind = kind;
  group.window_tokens = window_tokens;
  return group;
}

TEST(HitRuleTest, ReachFollowsTheKindOfGroup) {
  EXPECT_EQ(ReachInChunks(Group(GroupKind::kFullAttention), 256), kWholePrefix);
  EXPECT_EQ(ReachInChunks(Group(GroupKind::kLatent), 256), kWholePrefix);
  EXPECT_EQ(ReachInChunks(Group(GroupKind::kState), 256), 1u);
  EXPECT_EQ(ReachInChunks(Group(GroupKind::kSlidingWindow, 1), 256), 1u);
  EXPECT_EQ(ReachInChunks(Group(GroupKind::kSlidingWindow, 256), 256), 1u);
  EXPECT_EQ(ReachInChunks(Group(GroupKind::kSlidingWindow, 257), 256), 2u);
  EXPECT_EQ(ReachInChunks(Group(GroupKind::kSlidingWindow, 4096), 256), 16u);
}

TEST(HitRuleTest, NeededChunksLieAtTheEndOfThePrefix) {
  EXPECT_TRUE(IsNeeded(kWholePrefix, 0, 10));
  EXPECT_TRUE(IsNeeded(kWholePrefix, 9, 10));
  EXPECT_FALSE(IsNeeded(kWholePrefix, 10, 10));
  EXPECT_FALSE(IsNeeded(2, 7, 10));
  EXPECT_TRUE(IsNeeded(2, 8, 10));
  EXPECT_TRUE(IsNeeded(2, 9, 10));
  EXPECT_FALSE(IsNeeded(1, 8, 10));
  EXPECT_TRUE(IsNeeded(5, 0, 2));
}

using Held = std::set<std::pair<uint32_t, uint32_t>>;  // (chunk, slot)

uint32_t Hit(const std::vector<uint32_t>& reaches, uint32_t first, uint32_t end, const Held& held) {
  return LongestHit(reaches, first, end, [&](uint32_t chunk, uint32_t slot) {
    return held.contains({chunk, slot});
  });
}

TEST(HitRuleTest, FullAttentionEndsAtTheFirstHole) {
  const std::vector<uint32_t> reaches = {kWholePrefix, kWholePrefix};
  EXPECT_EQ(Hit(reaches, 0, 3, {}), 0u);
  EXPECT_EQ(Hit(reaches, 0, 3, {{0, 0}}), 0u);
  EXPECT_EQ(Hit(reaches, 0, 3, {{0, 0}, {0, 1}, {2, 0}, {2, 1}}), 1u);
  EXPECT_EQ(Hit(reaches, 0, 2, {{0, 0}, {0, 1}, {1, 0}, {1, 1}}), 2u);
}

TEST(HitRuleTest, AWindowNeedsOnlyTheEnd) {
  const std::vector<uint32_t> reaches = {kWholePrefix, 2};
  const Held full = {{0, 0}, {1, 0}, {2, 0}, {3, 0}};
  Held held = full;
  held.insert({2, 1});
  held.insert({3, 1});
  EXPECT_EQ(Hit(reaches, 0, 4, held), 4u);
  // The window ends one chunk earlier: so does the hit.
  held = full;
  held.insert({1, 1});
  held.insert({2, 1});
  EXPECT_EQ(Hit(reaches, 0, 4, held), 3u);
  // Only one chunk of it: enough for a prefix of one chunk, and for no longer one.
  held = full;
  held.insert({0, 1});
  held.insert({2, 1});
  EXPECT_EQ(Hit(reaches, 0, 4, held), 1u);
}

TEST(HitRuleTest, AStateNeedsTheLastChunkOnly) {
  const std::vector<uint32_t> reaches = {1};
  EXPECT_EQ(Hit(reaches, 0, 5, {{1, 0}, {3, 0}}), 4u);
  EXPECT_EQ(Hit(reaches, 0, 5, {}), 0u);
}

TEST(HitRuleTest, ChunksBeforeTheFirstCountAsHeld) {
  const std::vector<uint32_t> reaches = {kWholePrefix, 3};
  EXPECT_EQ(Hit(reaches, 4, 6, {}), 4u);
  EXPECT_EQ(Hit(reaches, 4, 6, {{4, 0}, {4, 1}}), 5u);
  EXPECT_EQ(Hit(reaches, 4, 6, {{4, 0}, {5, 0}, {4, 1}, {5, 1}}), 6u);
}

}  // namespace
}  // namespace reprise::client
