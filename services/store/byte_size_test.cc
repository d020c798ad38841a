#include "services/store/byte_size.h"

#include <gtest/gtest.h>

namespace reprise::store {
namespace {

TEST(ByteSize, ReadsNumbersWithUnits) {
  EXPECT_EQ(ParseByteSize("4096").value(), 4096u);
  EXPECT_EQ(ParseByteSize("17B").value(), 17u);
  EXPECT_EQ(ParseByteSize("3KiB").value(), 3072u);
  EXPECT_EQ(ParseByteSize("512 MiB").value(), 536'870'912u);
  EXPECT_EQ(ParseByteSize("8GiB").value(), 8'589'934'592u);
  EXPECT_EQ(ParseByteSize("2TiB").value(), 2'199'023'255'552u);
  EXPECT_EQ(ParseByteSize("5kB").value(), 5'000u);
  EXPECT_EQ(ParseByteSize("8GB").value(), 8'000'000'000u);
  EXPECT_EQ(ParseByteSize("18446744073709551615").value(), UINT64_MAX);
}

TEST(ByteSize, RefusesWhatIsAmbiguousOrTooLarge) {
  for (const char* text : {"", "GiB", "1G", "1gib", "-1", "+1", "1.5GiB", " 1GiB", "1GiB ", "0x10",
                           "18446744073709551616", "16777216TiB", "1 GiB more"}) {
    const auto parsed = ParseByteSize(text);
    ASSERT_EQ(parsed.status().code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_NE(parsed.status().message().find("\"" + std::string(text) + "\""), std::string::npos)
        << parsed.status();
  }
}

TEST(ByteSize, WritesTheLargestUnit) {
  EXPECT_EQ(FormatByteSize(0), "0 B");
  EXPECT_EQ(FormatByteSize(1023), "1023 B");
  EXPECT_EQ(FormatByteSize(1024), "1 KiB");
  EXPECT_EQ(FormatByteSize(1536), "1.5 KiB");
  EXPECT_EQ(FormatByteSize(268'435'456), "256 MiB");
}

}  // namespace
}  // namespace reprise::store
