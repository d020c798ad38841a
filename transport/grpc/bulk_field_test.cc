#include "transport/grpc/bulk_field.h"

#include <vector>

#include "gtest/gtest.h"

namespace reprise::transport {
namespace {

// Finds in `text` as a whole, byte by byte, and in slices of 3 with empty ones between; all must
// agree.
absl::StatusOr<std::optional<BulkField>> Find(std::string_view text) {
  const ByteSpan all = AsBytes(text);
  auto whole = FindBulkField(std::vector<ByteSpan>{all});
  for (size_t step : {size_t{1}, size_t{3}}) {
    std::vector<ByteSpan> slices = {ByteSpan()};
    for (size_t at = 0; at < all.size(); at += step) {
      slices.push_back(all.subspan(at, std::min(step, all.size() - at)));
      slices.emplace_back();
    }
    const auto sliced = FindBulkField(slices);
    EXPECT_EQ(sliced.status(), whole.status());
    if (whole.ok() && sliced.ok()) {
      EXPECT_EQ(sliced->has_value(), whole->has_value());
      if (whole->has_value() && sliced->has_value()) {
        EXPECT_EQ((*sliced)->field_begin, (*whole)->field_begin);
        EXPECT_EQ((*sliced)->bulk_begin, (*whole)->bulk_begin);
        EXPECT_EQ((*sliced)->bulk_size, (*whole)->bulk_size);
      }
    }
  }
  return whole;
}

std::string Bytes(std::initializer_list<int> bytes) {
  std::string text;
  for (int byte : bytes) text += static_cast<char>(byte);
  return text;
}

TEST(BulkFieldTest, FindsTheFieldAmongOthers) {
  // field 1 varint 300, field 15 of 3 bytes, field 2 fixed32, field 3 fixed64, field 16 of 1 byte
  const std::string message =
      Bytes({0x08, 0xac, 0x02, 0x7a, 3, 'a', 'b', 'c', 0x15, 1,    2,    3, 4,
             0x19, 1,    2,    3,    4, 5,   6,   7,   8,    0x82, 0x01, 1, 'x'});
  auto found = Find(message);
  ASSERT_TRUE(found.ok()) << found.status();
  ASSERT_TRUE(found->has_value());
  EXPECT_EQ((*found)->field_begin, 3u);
  EXPECT_EQ((*found)->bulk_begin, 5u);
  EXPECT_EQ((*found)->bulk_size, 3u);
}

TEST(BulkFieldTest, NoneInMessagesWithoutIt) {
  for (const std::string& message : {Bytes({}), Bytes({0x08, 1}), Bytes({0x72, 2, 0x7a, 0})}) {
    auto found = Find(message);
    ASSERT_TRUE(found.ok()) << found.status();
    EXPECT_FALSE(found->has_value());
  }
}

TEST(BulkFieldTest, EmptyBulkIsFound) {
  auto found = Find(Bytes({0x7a, 0}));
  ASSERT_TRUE(found.ok() && found->has_value());
  EXPECT_EQ((*found)->bulk_size, 0u);
}

TEST(BulkFieldTest, RefusesMalformedMessages) {
  const std::vector<std::string> bad = {
      Bytes({0x08}),          // value missing
      Bytes({0x80}),          // tag cut short
      Bytes({0x0a, 5, 'a'}),  // longer than the message
      Bytes({0x7a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1}),  // 2^64 - 1 bytes
      Bytes(
          {0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2}),  // varint over 64 bits
      Bytes({0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1}),  // 11 bytes
      Bytes({0x00, 0}),                                                              // field 0
      Bytes({0x80, 0x80, 0x80, 0x80, 0x10, 0}),                                      // field 2^29
      Bytes({0x0b, 0x0c}),                                                           // a group
      Bytes({0x0e}),
      Bytes({0x0f}),  // wire types 6 and 7
      Bytes({0x15, 1, 2, 3}),
      Bytes({0x11, 1, 2, 3, 4, 5, 6, 7}),   // fixed, cut short
      Bytes({0x78, 1}),                     // field 15, varint
      Bytes({0x7a, 1, 'a', 0x7a, 1, 'b'}),  // field 15 twice
  };
  for (size_t i = 0; i < bad.size(); ++i) {
    EXPECT_EQ(Find(bad[i]).status().code(), absl::StatusCode::kInvalidArgument) << i;
  }
}

TEST(BulkFieldTest, HeaderIsWhatTheScannerReads) {
  for (size_t size : {size_t{1}, size_t{127}, size_t{128}, size_t{16'383}, size_t{16'384}}) {
    const std::string message = Bytes({0x08, 1}) + BulkFieldHeader(size) + std::string(size, 'b');
    const std::vector<ByteSpan> slices = {AsBytes(message)};
    auto found = FindBulkField(slices);
    ASSERT_TRUE(found.ok() && found->has_value()) << size;
    EXPECT_EQ((*found)->field_begin, 2u);
    EXPECT_EQ((*found)->bulk_size, size);
    EXPECT_EQ((*found)->bulk_begin + size, message.size());
  }
}

TEST(BulkFieldTest, CopiesAcrossSlices) {
  const std::vector<ByteSpan> slices = {AsBytes("abc"), AsBytes(""), AsBytes("defg"), AsBytes("h")};
  std::string out(4, '?');
  CopyFromSlices(slices, 2, std::as_writable_bytes(std::span(out.data(), out.size())));
  EXPECT_EQ(out, "cdef");
}

}  // namespace
}  // namespace reprise::transport
