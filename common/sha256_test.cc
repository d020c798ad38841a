#include "common/sha256.h"

#include <gtest/gtest.h>

namespace reprise {
namespace {

// FIPS 180-4 examples, as NIST's "SHA256.pdf" gives them.
TEST(Sha256Test, MatchesTheStandard) {
  EXPECT_EQ(Sha256::Of(AsBytes("abc")).Hex(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(Sha256::Of(AsBytes("")).Hex(),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(Sha256::Of(AsBytes("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq")).Hex(),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
}

TEST(Sha256Test, UpdatesConcatenate) {
  EXPECT_EQ(Sha256().Update("ab").Update("").Update("c").Finish(), Sha256::Of(AsBytes("abc")));
}

TEST(DigestTest, ReadsBackItsOwnForms) {
  const Digest digest = Sha256::Of(AsBytes("abc"));
  EXPECT_EQ(Digest::FromHex(digest.Hex()), digest);
  EXPECT_EQ(Digest::FromBytes(digest.AsString()), digest);
  EXPECT_EQ(Digest::FromHex(digest.Hex().substr(1)), std::nullopt);
  EXPECT_EQ(Digest::FromBytes("short"), std::nullopt);
}

}  // namespace
}  // namespace reprise
