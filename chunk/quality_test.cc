#include "chunk/quality.h"

#include "gtest/gtest.h"

namespace reprise {
namespace {

PieceQuality Of(char content, uint32_t planes, float key, float value) {
  PieceQuality quality{.planes = planes, .distortion = {.key = key, .value = value}};
  quality.content_id.digest.bytes[0] = std::byte(content);
  return quality;
}

TEST(Reaches, OfTheSameContentPlanesDecide) {
  EXPECT_TRUE(Reaches(Of('a', 2, 0.1f, 0.1f), Of('a', 2, 0.1f, 0.1f)));
  EXPECT_TRUE(Reaches(Of('a', 3, 0, 0), Of('a', 2, 0.1f, 0.1f)));
  EXPECT_FALSE(Reaches(Of('a', 1, 0.2f, 0.2f), Of('a', 2, 0.1f, 0.1f)));
  EXPECT_FALSE(Reaches(Of('a', 1, 0, 0), Of('a', 2, 0, 0))) << "whatever the planes are good for";
}

TEST(Reaches, OfAnotherContentDistortionDecides) {
  EXPECT_TRUE(Reaches(Of('a', 1, 0, 0), Of('b', 4, 0, 0))) << "lossless with a single plane";
  EXPECT_FALSE(Reaches(Of('a', 1, 0.1f, 0.1f), Of('b', 1, 0, 0))) << "lossy with a single plane";
  EXPECT_FALSE(Reaches(Of('a', 4, 0.1f, 0.1f), Of('b', 1, 0.1f, 0.05f)));
  EXPECT_TRUE(Reaches(Of('a', 1, 0.1f, 0.1f), Of('b', 4, 0.2f, 0.1f)));
  EXPECT_TRUE(Reaches(Of('a', 1, 0.1f, 0.1f), Of('b', 4, 0.1f, 0.1f)));
}

TEST(Reaches, NeitherOfTwoThatErrDifferentlyReplacesTheOther) {
  const PieceQuality good_key = Of('a', 2, 0.1f, 0.3f);
  const PieceQuality good_value = Of('b', 2, 0.3f, 0.1f);
  EXPECT_TRUE(Reaches(good_key, good_value));
  EXPECT_TRUE(Reaches(good_value, good_key));
}

}  // namespace
}  // namespace reprise
