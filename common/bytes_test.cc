#include "common/bytes.h"

#include <array>

#include <gtest/gtest.h>

namespace reprise {
namespace {

TEST(HexTest, RoundTripsEveryByte) {
  std::array<std::byte, 256> all{};
  for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<std::byte>(i);
  const std::string hex = ToHex(all);
  EXPECT_EQ(hex.substr(0, 8), "00010203");
  EXPECT_EQ(hex.substr(hex.size() - 4), "feff");
  std::array<std::byte, 256> back{};
  ASSERT_TRUE(FromHex(hex, back));
  EXPECT_EQ(back, all);
}

TEST(HexTest, AcceptsUpperCaseAndRefusesEverythingElse) {
  std::array<std::byte, 2> out{};
  ASSERT_TRUE(FromHex("Ff0A", out));
  EXPECT_EQ(out[0], std::byte{0xFF});
  EXPECT_EQ(out[1], std::byte{0x0A});
  EXPECT_FALSE(FromHex("ff0", out));
  EXPECT_FALSE(FromHex("ff0a0", out));
  EXPECT_FALSE(FromHex("fg0a", out));
  EXPECT_FALSE(FromHex("", out));
}

TEST(SharedBytesTest, SliceKeepsTheOwnerAlive) {
  std::weak_ptr<const void> watch;
  SharedBytes slice;
  {
    auto owner = std::make_shared<std::array<std::byte, 8>>();
    (*owner)[5] = std::byte{42};
    watch = owner;
    const SharedBytes whole(*owner, owner);
    slice = whole.Slice(4, 3);
  }
  ASSERT_FALSE(watch.expired());
  EXPECT_EQ(slice.size(), 3u);
  EXPECT_EQ(slice.bytes()[1], std::byte{42});
  slice = {};
  EXPECT_TRUE(watch.expired());
}

TEST(SharedBytesTest, CopyDoesNotAlias) {
  std::string text = "abc";
  const SharedBytes copy = SharedBytes::CopyOf(AsBytes(text));
  text[0] = 'x';
  EXPECT_EQ(AsText(copy.bytes()), "abc");
}

}  // namespace
}  // namespace reprise
