#include "codec/profile.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace reprise {
namespace {

using ::testing::HasSubstr;

Profile Sample() {
  Profile profile;
  profile.model = "tiny 1";
  profile.layers.resize(2);
  profile.layers[0] = {.key_octaves = -8, .value_octaves = 7, .key_channels = {-8, 0, 7, 1}};
  profile.layers[1].key_octaves = 2;
  return profile;
}

constexpr char kSampleText[] =
    "reprise profile 1\n"
    "model tiny 1\n"
    "layer 0 key -8 value 7 channels 08f9\n"
    "layer 1 key 2 value 0\n";

Namespace NamespaceOf(uint32_t layers, uint32_t heads, uint32_t dims) {
  Namespace name_space;
  name_space.profile = ProfileName(Sample());
  LayerGroup& group = name_space.groups.emplace_back();
  for (uint32_t layer = 0; layer < layers; ++layer) group.layers.push_back(layer);
  group.kv_heads = heads;
  group.key_dim = dims;
  return name_space;
}

TEST(ProfileTest, IsWrittenAndReadBack) {
  EXPECT_EQ(Serialize(Sample()), kSampleText);
  const absl::StatusOr<Profile> read = ParseProfile(kSampleText);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(*read, Sample());
}

TEST(ProfileTest, NamesTheLineThatIsWrong) {
  const struct {
    std::string from;
    std::string to;
    const char* message;
  } cases[] = {
      {"reprise profile 1", "reprise", "line 1"},
      {"reprise profile 1", "reprise profile 2", "this build knows"},
      {"model tiny 1", "model \t", "line 2"},
      {"model tiny 1", "name", "line 2"},
      {"key -8", "key -9", "line 3"},
      {"value 7", "value 8", "line 3"},
      {"08f9", "08g9", "line 3"},
      {"layer 1", "layer 2", "line 4"},
      {"key 2", "key 02", "not written as"},
      {"value 0\n", "value 0", "not written as"},
      {"value 0\n", "value 0\n\n", "line 5"},
  };
  for (const auto& c : cases) {
    std::string text = kSampleText;
    text.replace(text.find(c.from), c.from.size(), c.to);
    const absl::StatusOr<Profile> read = ParseProfile(text);
    ASSERT_FALSE(read.ok()) << c.from << " -> " << c.to;
    EXPECT_THAT(std::string(read.status().message()), HasSubstr(c.message)) << c.to;
  }
}

TEST(ProfileTest, BelongsToANamespaceThatNamesItAndHasItsShape) {
  const Profile profile = Sample();
  EXPECT_TRUE(CheckProfile(NamespaceOf(2, 2, 2), &profile).ok());
  EXPECT_TRUE(CheckProfile(Namespace(), nullptr).ok());
  const auto message = [](const absl::Status& status) { return std::string(status.message()); };
  EXPECT_THAT(message(CheckProfile(NamespaceOf(2, 2, 2), nullptr)), HasSubstr("given is none"));
  EXPECT_THAT(message(CheckProfile(Namespace(), &profile)), HasSubstr("names no profile"));
  EXPECT_THAT(message(CheckProfile(NamespaceOf(3, 2, 2), &profile)), HasSubstr("has 2 layers"));
  EXPECT_THAT(message(CheckProfile(NamespaceOf(2, 2, 8), &profile)),
              HasSubstr("4 channels of K, the namespace 2 x 8"));
}

}  // namespace
}  // namespace reprise
