// Whose pieces the policy names when a tenant is above its quota, and when only room is wanted for
// what may be used later.

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "storage/testing/test_piece.h"
#include "storage/tiering/tiering_policy.h"

namespace reprise::storage {
namespace {

class VictimScopeTest : public ::testing::Test {
 protected:
  void Insert(uint64_t tag, std::optional<uint64_t> parent = std::nullopt, uint64_t position = 0,
              double seconds = 1) {
    PolicyPiece piece{.tenant = 1,
                      .key = TestKey(std::to_string(tag)),
                      .size_bytes = 1000,
                      .attributes = {.position = position, .recompute_seconds = seconds},
                      .tag = tag};
    if (parent.has_value()) piece.attributes.parent = TestKey(std::to_string(*parent));
    held_[tag] = policy_.Insert(piece);
  }
  std::vector<TrackedPiece*> Among(const std::vector<uint64_t>& tags) {
    std::vector<TrackedPiece*> pieces;
    for (const uint64_t tag : tags) pieces.push_back(held_.at(tag));
    return pieces;
  }

  TieringPolicy policy_{1000, {}};
  std::map<uint64_t, TrackedPiece*> held_;
};

TEST_F(VictimScopeTest, NamesOneOfThoseAlone) {
  for (uint64_t tag = 0; tag < 100; ++tag) Insert(tag);
  EXPECT_EQ(policy_.ChooseAmong(true, Among({10, 5, 20})).piece->tag(), 5u);
  EXPECT_EQ(policy_.ChooseAmong(true, {}).piece, nullptr);
}

TEST_F(VictimScopeTest, OfAPrefixTheEndGoesAndOfNoEndNothing) {
  Insert(0);
  for (uint64_t tag = 1; tag < 10; ++tag) Insert(tag, tag - 1, tag);
  EXPECT_EQ(policy_.ChooseAmong(true, Among({3, 9, 0})).piece->tag(), 9u);
  EXPECT_EQ(policy_.ChooseAmong(true, Among({3, 0})).piece, nullptr);
}

TEST_F(VictimScopeTest, TheLeastWorthOfThemGoesFirst) {
  for (uint64_t tag = 0; tag < 40; ++tag) Insert(tag, std::nullopt, 0, tag == 17 ? 0.01 : 1.0);
  // Old enough for none of them to be fresh.
  for (uint64_t tag = 1000; tag < 1100; ++tag) Insert(tag);
  EXPECT_EQ(policy_.ChooseAmong(true, Among({3, 17, 21})).piece->tag(), 17u);
  policy_.SetHeld(held_.at(17), true);
  EXPECT_EQ(policy_.ChooseAmong(true, Among({3, 17, 21})).piece->tag(), 3u);
}

TEST_F(VictimScopeTest, WhatIsFreshGoesOnlyWhereThatIsAllowedAndLast) {
  for (uint64_t tag = 0; tag < 80; ++tag) Insert(tag, std::nullopt, 0, tag == 75 ? 0.01 : 1.0);
  // An eighth of 80 came with the last ten calls.
  const auto is_fresh = [](const TrackedPiece& piece) { return piece.tag() >= 70; };
  EXPECT_EQ(policy_.ChooseVictim(false, is_fresh).piece, nullptr);
  EXPECT_EQ(policy_.ChooseVictim(true, is_fresh).piece->tag(), 75u);
  EXPECT_EQ(policy_.ChooseAmong(false, Among({75, 79})).piece, nullptr);
  EXPECT_EQ(policy_.ChooseAmong(true, Among({75, 79})).piece->tag(), 75u);
  EXPECT_EQ(policy_.ChooseAmong(true, Among({75, 20})).piece->tag(), 20u);
}

}  // namespace
}  // namespace reprise::storage
