#include "common/byte_io.h"

#include <limits>

#include <gtest/gtest.h>

namespace reprise {
namespace {

TEST(ByteIoTest, WritesLittleEndian) {
  ByteWriter writer;
  writer.U16(0x0102);
  writer.U32(0x03040506);
  EXPECT_EQ(ToHex(writer.bytes()), "020106050403");
}

TEST(ByteIoTest, ReadsBackWhatWasWritten) {
  ByteWriter writer;
  writer.U8(7);
  writer.U64(0xFEDCBA9876543210u);
  writer.F32(-0.5f);
  writer.F64(1e300);
  writer.LengthPrefixed("hello");
  writer.Zeros(2);
  ByteReader reader(writer.bytes());
  EXPECT_EQ(reader.U8(), 7);
  EXPECT_EQ(reader.U64(), 0xFEDCBA9876543210u);
  EXPECT_EQ(reader.F32(), -0.5f);
  EXPECT_EQ(reader.F64(), 1e300);
  EXPECT_EQ(AsText(reader.LengthPrefixed(5)), "hello");
  EXPECT_FALSE(reader.AtEnd());
  EXPECT_EQ(reader.U16(), 0);
  EXPECT_TRUE(reader.AtEnd());
}

TEST(ByteIoTest, StaysFailedAfterReadingPastTheEnd) {
  ByteWriter writer;
  writer.U8(1);
  writer.U8(2);
  ByteReader reader(writer.bytes());
  EXPECT_EQ(reader.U32(), 0u);
  EXPECT_FALSE(reader.ok());
  EXPECT_EQ(reader.U8(), 0);
  EXPECT_FALSE(reader.AtEnd());
}

TEST(ByteIoTest, RefusesHostileLengths) {
  ByteWriter writer;
  writer.U32(0xFFFFFFFF);
  writer.U64(0);
  ByteReader over_limit(writer.bytes());
  EXPECT_TRUE(over_limit.LengthPrefixed(100).empty());
  EXPECT_FALSE(over_limit.ok());
  ByteReader over_end(writer.bytes());
  EXPECT_TRUE(over_end.Bytes(std::numeric_limits<uint64_t>::max()).empty());
  EXPECT_FALSE(over_end.ok());
}

TEST(CheckedTest, ReportsOverflow) {
  constexpr uint64_t kMax = std::numeric_limits<uint64_t>::max();
  EXPECT_EQ(CheckedAdd(kMax - 1, 1), kMax);
  EXPECT_EQ(CheckedAdd(kMax, 1), std::nullopt);
  EXPECT_EQ(CheckedMultiply(1u << 31, 2), uint64_t{1} << 32);
  EXPECT_EQ(CheckedMultiply(kMax, 2), std::nullopt);
}

TEST(CheckedTest, AlignUp) {
  EXPECT_EQ(AlignUp(0, 4096), 0u);
  EXPECT_EQ(AlignUp(1, 4096), 4096u);
  EXPECT_EQ(AlignUp(4096, 4096), 4096u);
  EXPECT_EQ(AlignUp(4097, 4096), 8192u);
}

}  // namespace
}  // namespace reprise
