#include "storage/tiering/ranked_lists.h"

#include <array>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace reprise::storage {
namespace {

using ::testing::ElementsAre;

struct Item : RankedLists::Entry {};

// Last uses in the order in which they would be met.
std::vector<uint64_t> All(const RankedLists& lists) {
  std::vector<uint64_t> uses;
  for (auto list = lists.Lowest(); list.has_value(); list = lists.NextAfter(*list)) {
    for (auto* entry = lists.Oldest(*list); entry != nullptr; entry = lists.NewerThan(entry)) {
      uses.push_back(entry->last_use);
    }
  }
  return uses;
}

TEST(RankedListsTest, GoesThroughListsByRankAndEntriesByAge) {
  RankedLists lists(200);
  std::array<Item, 5> items;
  for (size_t i = 0; i < items.size(); ++i) items[i].last_use = i + 1;
  lists.Insert(&items[0], 150);
  lists.Insert(&items[1], 3);
  lists.Insert(&items[3], 3);
  lists.Insert(&items[4], 70);
  lists.Insert(&items[2], 3);
  EXPECT_THAT(All(lists), ElementsAre(2, 3, 4, 5, 1));

  std::vector<float> values(200, 1.0F);
  values[3] = 2;
  values[150] = 0.5F;
  lists.Rank(values);
  EXPECT_THAT(All(lists), ElementsAre(1, 5, 2, 3, 4));
  for (Item& item : items) lists.Erase(&item);
  EXPECT_EQ(lists.Lowest(), std::nullopt);
}

TEST(RankedListsTest, AnErasedEntryMayComeBackElsewhere) {
  RankedLists lists(10);
  Item item;
  EXPECT_FALSE(item.listed());
  lists.Insert(&item, 9);
  lists.Erase(&item);
  lists.Erase(&item);
  EXPECT_FALSE(item.listed());
  lists.Insert(&item, 1);
  EXPECT_EQ(lists.Lowest(), 1);
  EXPECT_EQ(lists.NextAfter(1), std::nullopt);
  lists.Erase(&item);
}

}  // namespace
}  // namespace reprise::storage
