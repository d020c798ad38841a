#include "storage/tiering/reuse_model.h"

#include <gtest/gtest.h>

#include "storage/tiering/use_history.h"

namespace reprise::storage {
namespace {

// Spreads small numbers over all names.
uint64_t NameOf(uint64_t number) { return (number + 1) * 0x9E3779B97F4A7C15; }

TEST(ReuseModelTest, AgesDouble) {
  EXPECT_EQ(ReuseModel::AgeOf(0), 0);
  EXPECT_EQ(ReuseModel::AgeOf(63), 0);
  EXPECT_EQ(ReuseModel::AgeOf(64), 1);
  EXPECT_EQ(ReuseModel::AgeOf(127), 1);
  EXPECT_EQ(ReuseModel::AgeOf(128), 2);
  EXPECT_EQ(ReuseModel::AgeOf(~uint64_t{0}), ReuseModel::kAges - 1);
  for (uint32_t age = 0; age < ReuseModel::kAges; ++age) {
    EXPECT_EQ(ReuseModel::AgeOf(ReuseModel::AgeBegin(age)), age);
  }
}

TEST(ReuseModelTest, KnowingNothingItPrefersWhatWasUsedLast) {
  const ReuseModel model(1000);
  for (uint32_t age = 2; age < ReuseModel::kAges; ++age) {
    EXPECT_LT(model.Value(0, age), model.Value(0, age - 1)) << age;
  }
}

// Of class 0 every piece is used again after 900 calls; those of class 1 never are.
TEST(ReuseModelTest, LearnsWhoIsUsedAgainAndWhen) {
  constexpr uint64_t kPause = 900;
  ReuseModel model(1000);
  uint64_t learnt = 0;
  for (uint64_t now = 0; now < 200'000; ++now) {
    model.Observe(NameOf(now % kPause), 0, now);
    model.Observe(NameOf(kPause + now), 1, now);
    if (now - learnt >= model.learning_period()) {
      model.Learn(now);
      learnt = now;
    }
  }
  const uint32_t due = ReuseModel::AgeOf(kPause);
  EXPECT_GT(model.Value(0, due), 3 * model.Value(0, 0));  // the nearer, the better
  EXPECT_GT(model.Value(0, 0), 10 * model.Value(1, 0));
  EXPECT_GT(model.UseWithin(0, 0, 2 * kPause), 0.8);
  EXPECT_LT(model.UseWithin(0, 0, kPause / 4), 0.2);
  EXPECT_LT(model.UseWithin(1, 0, 2 * kPause), 0.2);
}

TEST(UseHistoryTest, RemembersTheLatestUpToItsSize) {
  UseHistory history(4000);
  EXPECT_EQ(history.Find(NameOf(1)).uses, 0);
  for (uint64_t number = 0; number < 1000; ++number) {
    history.Remember(NameOf(number), {.uses = 1, .turn = 1});
  }
  history.Remember(NameOf(7), {.uses = 99, .turn = 3});
  uint64_t known = 0;
  for (uint64_t number = 0; number < 1000; ++number) {
    if (history.Find(NameOf(number)).uses > 0) ++known;
  }
  EXPECT_GT(known, 980);  // a set may have got more than its share
  EXPECT_EQ(history.Find(NameOf(7)).uses, UseHistory::kMaxUses);
  EXPECT_EQ(history.Find(NameOf(7)).turn, 3);
  for (uint64_t number = 1000; number < 100'000; ++number) {
    history.Remember(NameOf(number), {.uses = 1, .turn = 1});
  }
  EXPECT_GT(history.Find(NameOf(99'999)).uses, 0);
  uint64_t old = 0;
  for (uint64_t number = 0; number < 1000; ++number) {
    if (history.Find(NameOf(number)).uses > 0) ++old;
  }
  EXPECT_LT(old, 20);
}

}  // namespace
}  // namespace reprise::storage
