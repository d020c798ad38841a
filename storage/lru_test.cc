#include "storage/lru.h"

#include <algorithm>
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

constexpr auto kAny = [](const TrackedPiece&) { return true; };

// Pieces named by small numbers, which are also their tags.
class LruTest : public ::testing::Test {
 protected:
  static Key KeyOf(uint64_t id) { return TestKey(std::to_string(id)); }

  void Insert(uint64_t id, std::optional<uint64_t> parent = std::nullopt, uint64_t position = 0,
              TenantId tenant = 1) {
    PolicyPiece piece{.tenant = tenant, .key = KeyOf(id), .size_bytes = 1, .tag = id};
    if (parent.has_value()) piece.attributes.parent = KeyOf(*parent);
    piece.attributes.position = position;
    records_[id] = policy_.Insert(piece);
  }
  void InsertChain(uint64_t first, uint64_t count) {
    Insert(first);
    for (uint64_t i = 1; i < count; ++i) Insert(first + i, first + i - 1, i);
  }
  void Use(uint64_t id) { policy_.Use(records_.at(id)); }
  void Remove(uint64_t id) {
    policy_.Remove(records_.at(id));
    records_.erase(id);
  }
  void SetHeld(uint64_t id, bool held) { policy_.SetHeld(records_.at(id), held); }

  // Evicts everything that may go.
  std::vector<uint64_t> Drain() {
    std::vector<uint64_t> order;
    while (const TrackedPiece* victim = policy_.ChooseVictim(true, kAny).piece) {
      order.push_back(victim->tag());
      Remove(victim->tag());
    }
    return order;
  }

  LruPolicy policy_{100};
  std::map<uint64_t, TrackedPiece*> records_;
};

TEST_F(LruTest, EvictsInOrderOfLastUse) {
  for (uint64_t id = 0; id < 5; ++id) Insert(id);
  Use(1);
  Use(0);
  EXPECT_THAT(Drain(), ElementsAre(2, 3, 4, 1, 0));
  EXPECT_EQ(policy_.ChooseVictim(true, kAny).piece, nullptr);
}

TEST_F(LruTest, PassesOverWhatMayNotGo) {
  for (uint64_t id = 0; id < 4; ++id) Insert(id);
  const TrackedPiece* victim =
      policy_.ChooseVictim(true, [](const TrackedPiece& piece) { return piece.tag() >= 2; }).piece;
  ASSERT_NE(victim, nullptr);
  EXPECT_EQ(victim->tag(), 2u);
  EXPECT_EQ(policy_.ChooseVictim(true, [](const TrackedPiece&) { return false; }).piece, nullptr);
}

TEST_F(LruTest, DescendantsGoBeforeAncestors) {
  InsertChain(10, 4);
  Insert(20);
  // The chain's first chunks were used longest ago, but nothing of it may go before its end.
  EXPECT_THAT(Drain(), ElementsAre(13, 12, 11, 10, 20));
}

TEST_F(LruTest, ASharedPrefixOutlivesItsLastBranchOnlyByItsOwnUse) {
  InsertChain(10, 2);  // 10 <- 11
  Insert(12, 11, 2);   // two continuations
  Insert(13, 11, 2);
  Insert(20);
  Use(10);
  Use(11);  // a request that shares the prefix only
  EXPECT_THAT(Drain(), ElementsAre(12, 13, 20, 11, 10));
}

TEST_F(LruTest, ParentsMayComeAfterTheirChildren) {
  Insert(12, 11, 2);
  Insert(11, 10, 1);
  Insert(10);
  EXPECT_THAT(Drain(), ElementsAre(12, 11, 10));
}

TEST_F(LruTest, AParentThatComesBackIsStillAParent) {
  InsertChain(10, 3);
  Remove(11);
  Insert(30);
  Insert(11, 10, 1);
  EXPECT_THAT(Drain(), ElementsAre(12, 30, 11, 10));
}

TEST_F(LruTest, LinksThatClaimAnotherPositionLeadNowhere) {
  Insert(1, 2, 5);  // a cycle, if both were believed
  Insert(2, 1, 5);
  Insert(3, 3, 1);  // its own parent
  Insert(4, 1, 9);  // 1 is at 5
  Insert(5, 1, 0);  // a first chunk with a parent
  EXPECT_THAT(Drain(), ElementsAre(1, 2, 3, 4, 5));
}

TEST_F(LruTest, TenantsHaveChainsOfTheirOwn) {
  Insert(1, std::nullopt, 0, /*tenant=*/1);
  Insert(2, 1, 1,
         /*tenant=*/2);  // its parent is tenant 2's piece of that key, which does not exist
  EXPECT_THAT(Drain(), ElementsAre(1, 2));
}

TEST_F(LruTest, HeldPiecesAndTheirAncestorsStay) {
  InsertChain(10, 3);
  Insert(20);
  SetHeld(11, true);
  EXPECT_THAT(Drain(), ElementsAre(12, 20));
  SetHeld(11, false);
  EXPECT_THAT(Drain(), ElementsAre(11, 10));
}

TEST_F(LruTest, LettingGoIsNoUse) {
  for (uint64_t id = 0; id < 3; ++id) Insert(id);
  SetHeld(0, true);
  SetHeld(0, false);
  SetHeld(1, true);
  Use(1);
  SetHeld(1, false);
  EXPECT_THAT(Drain(), ElementsAre(0, 2, 1));
}

// Against a model that looks at every piece: the one used longest ago without a resident child.
TEST_F(LruTest, RandomCallsAgreeWithASearchOverAllPieces) {
  struct Model {
    std::optional<uint64_t> parent;
    uint64_t last_use = 0;
    bool held = false;
  };
  std::map<uint64_t, Model> model;
  std::mt19937 random(17);
  uint64_t now = 0;
  constexpr uint64_t kIds =
      60;  // id i is at position i % 6 and builds on some piece of position i % 6 - 1
  for (int step = 0; step < 50'000; ++step) {
    const uint64_t id = random() % kIds;
    const auto found = model.find(id);
    switch (random() % 5) {
      case 0:
      case 1:
        if (found == model.end()) {
          std::optional<uint64_t> parent;
          if (id % 6 > 0) parent = (random() % (kIds / 6)) * 6 + id % 6 - 1;
          Insert(id, parent, id % 6);
          model[id] = {.parent = parent, .last_use = ++now};
        } else {
          Use(id);
          found->second.last_use = ++now;
        }
        break;
      case 2:
        if (found != model.end()) {
          found->second.held = !found->second.held;
          SetHeld(id, found->second.held);
        }
        break;
      case 3:
        if (found != model.end() && random() % 4 == 0) {
          Remove(id);
          model.erase(found);
        }
        break;
      default: {
        std::set<uint64_t> parents;
        for (const auto& [child, state] : model) {
          if (state.parent.has_value()) parents.insert(*state.parent);
        }
        const uint64_t banned = random() % kIds;
        std::optional<uint64_t> expected;
        for (const auto& [candidate, state] : model) {
          if (state.held || candidate == banned || parents.contains(candidate)) continue;
          if (!expected.has_value() || state.last_use < model.at(*expected).last_use) {
            expected = candidate;
          }
        }
        const TrackedPiece* victim =
            policy_
                .ChooseVictim(true,
                              [banned](const TrackedPiece& piece) { return piece.tag() != banned; })
                .piece;
        ASSERT_EQ(victim != nullptr, expected.has_value());
        if (victim == nullptr) break;
        ASSERT_EQ(victim->tag(), *expected);
        Remove(*expected);
        model.erase(*expected);
      }
    }
  }
}

}  // namespace
}  // namespace reprise::storage
