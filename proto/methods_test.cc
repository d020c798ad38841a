#include "proto/methods.h"

#include <gtest/gtest.h>

#include "proto/reprise.pb.h"

namespace reprise {
namespace {

TEST(MethodsTest, EveryNumberHasThePathOfItsMethod) {
  const std::vector<std::string> paths = GrpcPaths();
  ASSERT_EQ(paths.size(), 11u);
  EXPECT_EQ(paths[v1::METHOD_UNSPECIFIED], "");
  EXPECT_EQ(paths[v1::OPEN_SESSION], "/reprise.v1.Store/OpenSession");
  EXPECT_EQ(paths[v1::FETCH], "/reprise.v1.Store/Fetch");
  EXPECT_EQ(paths[v1::WARM], "/reprise.v1.Store/Warm");
  for (size_t number = 1; number < paths.size(); ++number) EXPECT_NE(paths[number], "") << number;
}

TEST(MethodsTest, TheVersionIsTheHighestThatBothSpeak) {
  EXPECT_EQ(HighestCommonVersion({1, 1}, {1, 1}), 1u);
  EXPECT_EQ(HighestCommonVersion({1, 3}, {1, 2}), 2u);
  EXPECT_EQ(HighestCommonVersion({1, 2}, {2, 9}), 2u);
  EXPECT_EQ(HighestCommonVersion({2, 3}, {1, 1}), std::nullopt);
  EXPECT_EQ(HighestCommonVersion({1, 1}, {2, 3}), std::nullopt);
}

}  // namespace
}  // namespace reprise
