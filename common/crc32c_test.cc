#include "common/crc32c.h"

#include <vector>

#include <gtest/gtest.h>

namespace reprise {
namespace {

uint32_t CrcOfFill(uint8_t first, int step) {
  std::vector<std::byte> bytes(32);
  for (size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] = static_cast<std::byte>(first + step * static_cast<int>(i));
  }
  return Crc32c(bytes);
}

// RFC 3720, appendix B.4.
TEST(Crc32cTest, MatchesTheVectorsOfTheRfc) {
  EXPECT_EQ(CrcOfFill(0x00, 0), 0x8A9136AAu);
  EXPECT_EQ(CrcOfFill(0xFF, 0), 0x62A8AB43u);
  EXPECT_EQ(CrcOfFill(0x00, 1), 0x46DD794Eu);
  EXPECT_EQ(CrcOfFill(0x1F, -1), 0x113FDB5Cu);
  EXPECT_EQ(Crc32c(AsBytes("123456789")), 0xE3069283u);
}

TEST(Crc32cTest, ExtendsAcrossAnySplit) {
  const std::string text = "a checksum of a message may be taken part by part";
  const uint32_t whole = Crc32c(AsBytes(text));
  for (size_t split = 0; split <= text.size(); ++split) {
    const ByteSpan bytes = AsBytes(text);
    EXPECT_EQ(ExtendCrc32c(Crc32c(bytes.first(split)), bytes.subspan(split)), whole) << split;
  }
}

}  // namespace
}  // namespace reprise
