#include "storage/tiering/tiering_policy.h"

#include <algorithm>
#include <array>
#include <limits>
#include <map>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "storage/testing/test_piece.h"

namespace reprise::storage {
namespace {

using ::testing::ElementsAre;
using ::testing::Optional;

constexpr auto kAny = [](const TrackedPiece&) { return true; };
constexpr uint64_t kNone = std::numeric_limits<uint64_t>::max();
constexpr Distortion kFloor{.key = 0.03F, .value = 0.03F};
// Of 100, 200, 300 and 800 bytes; the floor is the second.
const std::array<PieceSummary::Level, 4> kLevels{{{.bytes = 100, .distortion = {0.1F, 0.1F}},
                                                  {.bytes = 200, .distortion = {0.02F, 0.03F}},
                                                  {.bytes = 300, .distortion = {0.01F, 0.01F}},
                                                  {.bytes = 800, .distortion = {0, 0}}}};

// A tier of pieces named by small numbers, which are also their tags.
class Tier {
 public:
  explicit Tier(const TieringOptions& options = {}) : policy_(1000, options) {}

  struct Piece {
    uint64_t parent = kNone;
    uint64_t position = 0;
    double seconds = 1;
    uint64_t bytes = 800;
    bool has_planes = false;
    TenantId tenant = 1;
  };
  void Insert(uint64_t id, const Piece& piece) {
    PolicyPiece inserted{.tenant = piece.tenant,
                         .key = TestKey(std::to_string(id)),
                         .size_bytes = piece.bytes,
                         .attributes = {.parent = std::nullopt,
                                        .position = piece.position,
                                        .recompute_seconds = piece.seconds},
                         .tag = id};
    if (piece.parent != kNone) inserted.attributes.parent = TestKey(std::to_string(piece.parent));
    if (piece.has_planes) {
      inserted.levels = kLevels;
      inserted.planes_held = kLevels.size();
    }
    held_[id] = {.record = policy_.Insert(inserted), .planes = inserted.planes_held};
    parents_[id] = piece.parent;
  }
  void Insert(uint64_t id) { Insert(id, Piece{}); }
  // Pieces first, first + 1, ..., each the child of the one before.
  void InsertChain(uint64_t first, uint64_t count) {
    for (uint64_t i = 0; i < count; ++i) {
      Insert(first + i, {.parent = i == 0 ? kNone : first + i - 1, .position = i});
    }
  }
  void Use(uint64_t id) { policy_.Use(held_.at(id).record); }
  void Remove(uint64_t id) {
    policy_.Remove(held_.at(id).record);
    held_.erase(id);
  }
  void SetHeld(uint64_t id, bool held) { policy_.SetHeld(held_.at(id).record, held); }
  void SetDemoted(uint64_t id) { policy_.SetDemoted(held_.at(id).record); }
  bool WorthDemoting(uint64_t id) { return policy_.WorthDemoting(*held_.at(id).record); }
  bool Has(uint64_t id) const { return held_.contains(id); }
  size_t size() const { return held_.size(); }
  std::set<uint64_t> ids() const {
    std::set<uint64_t> all;
    for (const auto& [id, held] : held_) all.insert(id);
    return all;
  }
  bool HasChild(uint64_t id) const {
    return std::any_of(held_.begin(), held_.end(),
                       [&](const auto& held) { return parents_.at(held.first) == id; });
  }

  struct GivenUp {
    uint64_t id = kNone;
    uint32_t keep_planes = 0;
    friend bool operator==(const GivenUp&, const GivenUp&) = default;
  };
  // What the policy names, given up.
  std::optional<GivenUp> GiveUp() {
    const Victim victim = policy_.ChooseVictim(true, kAny);
    if (victim.piece == nullptr) return std::nullopt;
    const GivenUp given_up{victim.piece->tag(), victim.keep_planes};
    if (victim.keep_planes == 0) {
      Remove(given_up.id);
    } else {
      Held& held = held_.at(given_up.id);
      EXPECT_LT(victim.keep_planes, held.planes);
      held.planes = victim.keep_planes;
      policy_.Shed(held.record, held.planes, kLevels[held.planes - 1].bytes);
    }
    return given_up;
  }
  std::vector<uint64_t> Drain() {
    std::vector<uint64_t> order;
    while (const auto given_up = GiveUp()) order.push_back(given_up->id);
    return order;
  }
  void ShrinkTo(size_t pieces) {
    while (size() > pieces) GiveUp();
  }

  TieringPolicy& policy() { return policy_; }

 private:
  struct Held {
    TrackedPiece* record = nullptr;
    uint32_t planes = 0;
  };
  TieringPolicy policy_;
  std::map<uint64_t, Held> held_;
  std::map<uint64_t, uint64_t> parents_;
};

TEST(TieringPolicyTest, NamesNothingWhenThereIsNothing) {
  Tier tier;
  EXPECT_EQ(tier.GiveUp(), std::nullopt);
}

TEST(TieringPolicyTest, DescendantsGoBeforeAncestors) {
  Tier tier;
  tier.InsertChain(0, 5);
  tier.Use(4);
  EXPECT_THAT(tier.Drain(), ElementsAre(4, 3, 2, 1, 0));
}

TEST(TieringPolicyTest, WhatSavesMorePerByteStays) {
  Tier tier;
  tier.Insert(1, {.seconds = 8});
  tier.Insert(2, {.seconds = 1});
  tier.Insert(3, {.seconds = 8, .bytes = 100});
  tier.Insert(4, {.seconds = 0.1});
  EXPECT_THAT(tier.Drain(), ElementsAre(4, 2, 1, 3));
}

TEST(TieringPolicyTest, OfEqualOnesTheOldestGoes) {
  Tier tier;
  for (uint64_t id = 0; id < 4; ++id) tier.Insert(id);
  EXPECT_THAT(tier.Drain(), ElementsAre(0, 1, 2, 3));
}

TEST(TieringPolicyTest, WhatCannotBeReachedGoesFirst) {
  Tier tier;
  tier.Insert(1, {.seconds = 0.01});
  tier.Insert(2, {.parent = 99, .position = 3, .seconds = 100});
  tier.Insert(3, {.parent = 2, .position = 4, .seconds = 100});
  EXPECT_THAT(tier.Drain(), ElementsAre(3, 2, 1));
}

TEST(TieringPolicyTest, AParentThatComesLaterMakesItsChildReachable) {
  Tier tier;
  tier.Insert(2, {.parent = 1, .position = 1, .seconds = 100});
  tier.Insert(3, {.seconds = 1});
  tier.Insert(1, {.seconds = 100});
  EXPECT_THAT(tier.Drain(), ElementsAre(3, 2, 1));
}

TEST(TieringPolicyTest, BelowAnotherTierBeginningsMayBeElsewhere) {
  Tier tier({.below_another_tier = true});
  tier.Insert(1, {.seconds = 1});
  tier.Insert(2, {.parent = 99, .position = 3, .seconds = 100});
  EXPECT_THAT(tier.Drain(), ElementsAre(1, 2));
}

TEST(TieringPolicyTest, AHeldPieceIsNoVictimAndKeepsItsAncestors) {
  Tier tier;
  tier.InsertChain(0, 3);
  tier.SetHeld(2, true);
  EXPECT_EQ(tier.GiveUp(), std::nullopt);
  tier.SetHeld(2, false);
  EXPECT_THAT(tier.Drain(), ElementsAre(2, 1, 0));
}

// Whoever was told that a prompt is published must have the time to ask for it.
TEST(TieringPolicyTest, WhatJustCameOutlastsWhatIsWorthMore) {
  Tier tier;
  for (uint64_t id = 0; id < 80; ++id) tier.Insert(id, {.seconds = 100});
  for (uint64_t id = 100; id < 110; ++id) tier.Insert(id, {.seconds = 0});
  // Of 90 pieces the last 11 to come are fresh, of 80 the last 10.
  for (int i = 0; i < 10; ++i) {
    const auto given_up = tier.GiveUp();
    ASSERT_TRUE(given_up.has_value());
    EXPECT_LT(given_up->id, 80);
  }
  // Where nothing older may go, fresh pieces do.
  for (const uint64_t id : tier.ids()) tier.SetHeld(id, id < 80);
  const auto given_up = tier.GiveUp();
  ASSERT_TRUE(given_up.has_value());
  EXPECT_GE(given_up->id, 100);
}

TEST(TieringPolicyTest, PassesOverWhatIsTurnedDown) {
  Tier tier;
  for (uint64_t id = 0; id < 3; ++id) tier.Insert(id);
  const Victim victim =
      tier.policy().ChooseVictim(true, [](const TrackedPiece& piece) { return piece.tag() == 2; });
  ASSERT_NE(victim.piece, nullptr);
  EXPECT_EQ(victim.piece->tag(), 2);
}

// A scan of pieces that are used once would push these out of an LRU cache of 200 between uses.
TEST(TieringPolicyTest, AScanDoesNotPushOutWhatIsUsedAgain) {
  Tier tier;
  uint64_t scanned = 1000;
  uint64_t missed = 0;
  for (int round = 0; round < 60; ++round) {
    for (uint64_t id = 0; id < 50; ++id) {
      if (tier.Has(id)) {
        tier.Use(id);
        continue;
      }
      if (round >= 20) ++missed;
      tier.ShrinkTo(199);
      tier.Insert(id);
    }
    for (int i = 0; i < 500; ++i) {
      tier.ShrinkTo(199);
      tier.Insert(scanned++);
    }
  }
  EXPECT_LT(missed, 40 * 50 / 10);
}

TEST(TieringPolicyTest, PrecisionGoesBeforePieces) {
  Tier tier({.floor = kFloor, .refinement_worth = 0.01});
  tier.Insert(1, {.has_planes = true});
  tier.Insert(2, {.parent = 1, .position = 1, .has_planes = true});
  using GivenUp = Tier::GivenUp;
  std::vector<GivenUp> given_up;
  while (const auto next = tier.GiveUp()) given_up.push_back(*next);
  // The last plane gains least per byte; ancestors may lose precision first, but no piece.
  EXPECT_THAT(given_up, ElementsAre(GivenUp{1, 3}, GivenUp{2, 3}, GivenUp{1, 2}, GivenUp{2, 2},
                                    GivenUp{2, 0}, GivenUp{1, 0}));
}

TEST(TieringPolicyTest, WhatIsUsedOftenKeepsItsPrecisionWhileOthersGo) {
  Tier tier({.floor = kFloor, .refinement_worth = 0.5});
  tier.Insert(1, {.seconds = 100, .has_planes = true});
  tier.Insert(2, {.seconds = 0.1, .has_planes = true});
  while (tier.Has(2)) EXPECT_EQ(tier.GiveUp()->id, 2);
}

TEST(TieringPolicyTest, PiecesGoWholeWithoutAFloorAndWhereOnlyTheLastLevelReachesIt) {
  for (const float floor : {0.0F, 1e-6F}) {
    Tier tier({.floor = {.key = floor, .value = floor}});
    tier.Insert(1, {.has_planes = true});
    EXPECT_THAT(tier.GiveUp(), Optional(Tier::GivenUp{.id = 1, .keep_planes = 0}));
  }
}

TEST(TieringPolicyTest, NothingIsWorthDemotingToATierThatIsNotThere) {
  Tier tier;
  tier.InsertChain(0, 2);
  EXPECT_FALSE(tier.WorthDemoting(1));
}

TEST(TieringPolicyTest, AncestorsOfWhatWasDemotedAreWorthIt) {
  Tier tier({.next_tier_bytes = 800});
  // Nothing is ever used again, which the policy learns.
  for (uint64_t id = 100; id < 40'000; ++id) {
    tier.ShrinkTo(500);
    tier.Insert(id);
  }
  tier.InsertChain(0, 3);
  EXPECT_FALSE(tier.WorthDemoting(0));
  EXPECT_FALSE(tier.WorthDemoting(1));
  tier.SetDemoted(2);
  EXPECT_TRUE(tier.WorthDemoting(1));
  tier.SetDemoted(1);
  EXPECT_TRUE(tier.WorthDemoting(0));
}

TEST(TieringPolicyTest, WhatTheNextTierHasIsReachedThere) {
  Tier tier({.next_tier_bytes = 80'000});
  // The one before each is not resident; of the first, the next tier has both.
  tier.Insert(1, {.parent = 100, .position = 1});
  tier.Insert(2, {.parent = 200, .position = 1});
  tier.SetDemoted(1);
  tier.Insert(3, {.parent = 1, .position = 2});
  EXPECT_TRUE(tier.WorthDemoting(3));
  EXPECT_FALSE(tier.WorthDemoting(2));
  EXPECT_EQ(tier.GiveUp()->id, 2u);
}

TEST(TieringPolicyTest, WhatCannotBeReachedIsNotWorthDemoting) {
  Tier tier({.next_tier_bytes = 800'000'000});
  tier.Insert(1);
  tier.Insert(2, {.parent = 99, .position = 3});
  EXPECT_TRUE(tier.WorthDemoting(1));
  EXPECT_FALSE(tier.WorthDemoting(2));
}

TEST(TieringPolicyTest, FillsHalfOfTheTierBelowWithWhateverCanBeReached) {
  Tier tier({.next_tier_bytes = 8000});
  for (uint64_t id = 0; id < 20'000; ++id) {
    tier.ShrinkTo(500);
    tier.Insert(id);
  }
  tier.Insert(20'000, {.parent = 99, .position = 3});
  const std::set<uint64_t> held = tier.ids();
  EXPECT_TRUE(tier.WorthDemoting(*held.begin()));
  EXPECT_FALSE(tier.WorthDemoting(20'000));
  for (int i = 0; i < 5; ++i) tier.SetDemoted(20'000);
  for (const uint64_t id : held) EXPECT_FALSE(tier.WorthDemoting(id)) << id;
}

TEST(TieringPolicyTest, LearnsThatOneUsePiecesAreNotWorthAWrite) {
  Tier tier({.next_tier_bytes = 800'000});
  uint64_t asked = 0;
  uint64_t worth = 0;
  for (uint64_t next = 0; next < 60'000; ++next) {
    tier.ShrinkTo(500);
    tier.Insert(next);
    // The first half of the tier below takes anything.
    if (next < 500) tier.SetDemoted(next);
    if (next < 40'000 || !tier.Has(next - 300)) continue;
    ++asked;
    if (tier.WorthDemoting(next - 300)) ++worth;
  }
  EXPECT_GT(asked, 1000);
  EXPECT_LT(worth, asked / 100);
}

TEST(TieringPolicyTest, TakesWhateverAPublisherSays) {
  Tier tier({.floor = kFloor});
  uint64_t id = 0;
  for (const double seconds :
       {0.0, -1.0, 1e300, 1e-300, std::numeric_limits<double>::infinity(),
        -std::numeric_limits<double>::infinity(), std::numeric_limits<double>::quiet_NaN()}) {
    for (const uint64_t bytes : {uint64_t{0}, uint64_t{1}, std::numeric_limits<uint64_t>::max()}) {
      tier.Insert(id, {.parent = id,
                       .position = std::numeric_limits<uint64_t>::max(),
                       .seconds = seconds,
                       .bytes = bytes,
                       .has_planes = id % 2 == 0});
      ++id;
    }
  }
  const std::vector<uint64_t> order = tier.Drain();
  EXPECT_EQ(std::set<uint64_t>(order.begin(), order.end()).size(), id);
  EXPECT_EQ(tier.size(), 0);
}

TEST(TieringPolicyTest, TenantsHaveTheirOwnPieces) {
  Tier tier;
  tier.Insert(1, {.tenant = 1});
  tier.Insert(2, {.parent = 1, .position = 1, .tenant = 2});
  // Another tenant's piece does not build on it.
  EXPECT_THAT(tier.Drain(), ElementsAre(2, 1));
}

// Chains that grow, are used, held, removed and given up at random.
TEST(TieringPolicyTest, NeverLeavesAHoleAndNeverGivesUpWhatIsHeld) {
  std::mt19937_64 random(7);
  Tier tier({.floor = kFloor});
  Tier twin({.floor = kFloor});
  std::set<uint64_t> held;
  for (int step = 0; step < 20'000; ++step) {
    const uint64_t chain = random() % 40;
    const uint64_t position = random() % 8;
    const uint64_t id = chain * 8 + position;
    switch (random() % 8) {
      case 0:
        if (!tier.Has(id)) break;
        for (Tier* each : {&tier, &twin}) each->SetHeld(id, !held.contains(id));
        if (!held.insert(id).second) held.erase(id);
        break;
      case 1: {
        if (tier.size() < 100) break;
        const std::set<uint64_t> before = tier.ids();
        const auto given_up = tier.GiveUp();
        EXPECT_EQ(twin.GiveUp(), given_up);  // what it does depends on its calls alone
        if (!given_up.has_value()) break;
        EXPECT_FALSE(held.contains(given_up->id));
        if (given_up->keep_planes > 0) {
          EXPECT_EQ(tier.ids(), before);
          EXPECT_GE(given_up->keep_planes, 2) << "below the floor";
        } else {
          EXPECT_FALSE(tier.HasChild(given_up->id));
        }
        break;
      }
      case 2:
        if (random() % 4 != 0 || !tier.Has(id)) break;
        for (Tier* each : {&tier, &twin}) each->Remove(id);
        held.erase(id);
        break;
      default:
        for (Tier* each : {&tier, &twin}) {
          if (each->Has(id)) {
            each->Use(id);
          } else {
            each->Insert(id, {.parent = position == 0 ? kNone : id - 1,
                              .position = position,
                              .has_planes = true});
          }
        }
    }
  }
  for (const uint64_t id : held) tier.SetHeld(id, false);
  tier.Drain();
  EXPECT_EQ(tier.size(), 0);
}

TEST(TieringPolicyTest, TakesLittleMemoryPerPiece) {
  constexpr size_t kPieces = 1'000'000;
  const TieringPolicy none(0, {});
  const TieringPolicy policy(kPieces, {});
  const size_t share = (policy.fixed_bytes() - none.fixed_bytes()) / kPieces;
  EXPECT_LE(share + policy.bytes_per_piece(), 144);
  EXPECT_LE(none.fixed_bytes(), 256 << 10);
}

}  // namespace
}  // namespace reprise::storage
