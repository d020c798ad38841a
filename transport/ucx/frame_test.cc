#include "transport/ucx/frame.h"

#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "gtest/gtest.h"

#include "common/limits.h"

namespace reprise::transport {
namespace {

Frame RequestFrame() {
  return Frame{.kind = FrameKind::kRequest,
               .method = 5,
               .message_bytes = 17,
               .call_id = 0x0102030405060708,
               .deadline_ms = 2500,
               .credit = 4};
}

Frame LentFrame() {
  return Frame{.kind = FrameKind::kLentPart,
               .message_bytes = 17,
               .call_id = 3,
               .sequence = 2,
               .bulk_bytes = kMaxPartBytes,
               .address = 0x0102'0304'0506'0708};
}

absl::StatusOr<Frame> Decode(const FrameHeader& header, uint64_t data_bytes) {
  return DecodeFrame(header, data_bytes);
}

TEST(FrameTest, LayoutIsAsDocumented) {
  const FrameHeader header = EncodeFrame(Frame{.kind = FrameKind::kPart,
                                               .message_bytes = 0x11223344,
                                               .call_id = 0x0102030405060708,
                                               .sequence = 0xA1A2A3A4,
                                               .bulk_bytes = 0xB1B2B3B4});
  const std::vector<uint8_t> expected = {
      1,    4,    0,    0,                                         // version, kind, method
      0x44, 0x33, 0x22, 0x11,                                      // message bytes
      8,    7,    6,    5,    4, 3, 2, 1, 0xA4, 0xA3, 0xA2, 0xA1,  // sequence
      0xB4, 0xB3, 0xB2, 0xB1,                                      // bulk bytes
      0,    0,    0,    0,    0, 0, 0, 0, 0,    0,    0,    0,    0, 0, 0, 0};
  ASSERT_EQ(header.size(), 40u);
  for (size_t i = 0; i < expected.size(); ++i) {
    const auto byte = static_cast<uint8_t>(header[i]);
    EXPECT_EQ(byte, expected[i]) << "offset " << i;
  }
}

TEST(FrameTest, AnAddressTakesThePlaceOfDeadlineAndCredit) {
  const FrameHeader header = EncodeFrame(LentFrame());
  for (uint8_t i = 0; i < 8; ++i) EXPECT_EQ(header.at(24 + i), std::byte(8 - i));
}

TEST(FrameTest, EveryKindRoundTrips) {
  const std::vector<Frame> frames = {
      {.kind = FrameKind::kHello, .message_bytes = 9},
      {.kind = FrameKind::kWelcome, .message_bytes = 3},
      {.kind = FrameKind::kWelcome,
       .message_bytes = kMaxStatusTextBytes,
       .status = absl::StatusCode::kUnauthenticated},
      RequestFrame(),
      {.kind = FrameKind::kPart, .message_bytes = kMaxMessageBytes, .call_id = 1, .sequence = 7},
      {.kind = FrameKind::kDone, .call_id = 1, .sequence = 8},
      {.kind = FrameKind::kCancel, .call_id = 1},
      {.kind = FrameKind::kCredit, .call_id = 1, .credit = kMaxCreditParts},
      {.kind = FrameKind::kHelloSameHost, .message_bytes = 9, .call_id = UINT64_MAX},
      {.kind = FrameKind::kToken, .sequence = 4711, .address = 0x7000'1234'5678},
      {.kind = FrameKind::kProof},
      {.kind = FrameKind::kProof, .message_bytes = kProofBytes},
      LentFrame(),
      {.kind = FrameKind::kRead, .call_id = 1, .sequence = 8},
  };
  for (const Frame& frame : frames) {
    const absl::StatusOr<Frame> decoded = Decode(EncodeFrame(frame), frame.message_bytes);
    ASSERT_TRUE(decoded.ok()) << decoded.status();
    EXPECT_EQ(*decoded, frame);
  }
}

TEST(FrameTest, MessageBesideBulkFollowsTheHeader) {
  const std::string message(kMaxBulkMessageBytes, 'm');
  const Frame frame{.kind = FrameKind::kPart,
                    .message_bytes = static_cast<uint32_t>(message.size()),
                    .call_id = 3,
                    .bulk_bytes = kMaxPartBytes};
  const FrameHeader header = EncodeFrame(frame);
  std::string am_header(AsText(header));
  am_header += message;
  const absl::StatusOr<Frame> decoded = DecodeFrame(AsBytes(am_header), kMaxPartBytes);
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  EXPECT_EQ(*decoded, frame);
  EXPECT_EQ(AsText(MessageBesideBulk(AsBytes(am_header))), message);
  // Sizes that disagree with what came.
  EXPECT_FALSE(DecodeFrame(AsBytes(am_header), kMaxPartBytes - 1).ok());
  EXPECT_FALSE(DecodeFrame(AsBytes(am_header + "x"), kMaxPartBytes).ok());
  am_header.pop_back();
  EXPECT_FALSE(DecodeFrame(AsBytes(am_header), kMaxPartBytes).ok());
}

TEST(FrameTest, LimitsAreChecked) {
  const auto refused = [](Frame frame, size_t data_bytes) {
    return !Decode(EncodeFrame(frame), data_bytes).ok();
  };
  Frame frame = RequestFrame();
  EXPECT_FALSE(refused(frame, 17));
  EXPECT_TRUE(refused(frame, 16));
  EXPECT_TRUE(refused(frame, 18));
  frame.credit = 0;
  EXPECT_TRUE(refused(frame, 17));
  frame.credit = kMaxCreditParts + 1;
  EXPECT_TRUE(refused(frame, 17));
  frame = RequestFrame();
  frame.message_bytes = kMaxMessageBytes + 1;
  EXPECT_TRUE(refused(frame, frame.message_bytes));
  frame = RequestFrame();
  frame.message_bytes = 0;
  frame.bulk_bytes = kMaxPartBytes;
  EXPECT_FALSE(refused(frame, kMaxPartBytes));
  frame.bulk_bytes = kMaxPartBytes + 1;
  EXPECT_TRUE(refused(frame, kMaxPartBytes + 1));
  const Frame long_text{.kind = FrameKind::kDone,
                        .message_bytes = kMaxStatusTextBytes + 1,
                        .call_id = 1,
                        .status = absl::StatusCode::kInternal};
  EXPECT_TRUE(refused(long_text, kMaxStatusTextBytes + 1));
}

TEST(FrameTest, LimitsOfWhatIsReadOnTheSameHost) {
  const auto refused = [](auto change) {
    Frame frame = LentFrame();
    change(frame);
    return !Decode(EncodeFrame(frame), frame.message_bytes).ok();
  };
  EXPECT_FALSE(refused([](Frame&) {}));
  EXPECT_FALSE(refused([](Frame& frame) { frame.message_bytes = kMaxBulkMessageBytes; }));
  EXPECT_TRUE(refused([](Frame& frame) { frame.message_bytes = kMaxBulkMessageBytes + 1; }));
  EXPECT_TRUE(refused([](Frame& frame) { frame.bulk_bytes = 0; }));
  EXPECT_TRUE(refused([](Frame& frame) { frame.bulk_bytes = kMaxPartBytes + 1; }));
  EXPECT_TRUE(refused([](Frame& frame) { frame.address = 0; }));
  EXPECT_TRUE(refused([](Frame& frame) { frame.address = UINT64_MAX - kMaxPartBytes + 1; }));
  EXPECT_TRUE(refused([](Frame& frame) { frame.status = absl::StatusCode::kAborted; }));
  // The bulk does not come along.
  EXPECT_FALSE(Decode(EncodeFrame(LentFrame()), kMaxPartBytes).ok());
  for (const uint32_t size : {1u, 15u, 17u, 32u}) {
    EXPECT_FALSE(Decode(EncodeFrame({.kind = FrameKind::kProof, .message_bytes = size}), size).ok())
        << size;
  }
  EXPECT_FALSE(Decode(EncodeFrame({.kind = FrameKind::kToken, .sequence = 1}), 0).ok());
}

TEST(FrameTest, FieldsOfOtherKindsAreRefused) {
  const Frame cancel{.kind = FrameKind::kCancel, .call_id = 1};
  const auto refused = [&](auto change) {
    Frame frame = cancel;
    change(frame);
    return !Decode(EncodeFrame(frame), frame.message_bytes).ok();
  };
  EXPECT_FALSE(refused([](Frame&) {}));
  EXPECT_TRUE(refused([](Frame& frame) { frame.method = 1; }));
  EXPECT_TRUE(refused([](Frame& frame) { frame.message_bytes = 1; }));
  EXPECT_TRUE(refused([](Frame& frame) { frame.sequence = 1; }));
  EXPECT_TRUE(refused([](Frame& frame) { frame.bulk_bytes = 1; }));
  EXPECT_TRUE(refused([](Frame& frame) { frame.deadline_ms = 1; }));
  EXPECT_TRUE(refused([](Frame& frame) { frame.credit = 1; }));
  EXPECT_TRUE(refused([](Frame& frame) { frame.status = absl::StatusCode::kAborted; }));
  EXPECT_FALSE(Decode(EncodeFrame({.kind = FrameKind::kHello, .call_id = 1}), 0).ok());
}

TEST(FrameTest, UnknownVersionKindStatusAndReservedBytesAreRefused) {
  const FrameHeader good = EncodeFrame(RequestFrame());
  const auto with = [&](size_t offset, uint8_t value) {
    FrameHeader header = good;
    header.at(offset) = std::byte{value};
    return Decode(header, 17).status();
  };
  EXPECT_TRUE(with(0, 1).ok());
  EXPECT_NE(with(0, 2).message().find("version 2"), absl::string_view::npos) << with(0, 2);
  EXPECT_FALSE(with(1, 0).ok());
  EXPECT_FALSE(with(1, 13).ok());
  EXPECT_NE(with(1, 13).message().find("kind 13"), absl::string_view::npos) << with(1, 13);
  for (size_t offset = 36; offset < 40; ++offset) EXPECT_FALSE(with(offset, 1).ok());
  FrameHeader done = EncodeFrame({.kind = FrameKind::kDone, .call_id = 1});
  done.at(32) = std::byte{16};
  EXPECT_TRUE(Decode(done, 0).ok());
  done.at(32) = std::byte{17};
  EXPECT_FALSE(Decode(done, 0).ok());
}

TEST(FrameTest, ShortHeadersAreRefused) {
  const FrameHeader header = EncodeFrame(RequestFrame());
  for (size_t size = 0; size < header.size(); ++size) {
    EXPECT_FALSE(DecodeFrame(ByteSpan(header).first(size), 17).ok()) << size;
  }
}

TEST(FrameTest, WhatRandomBytesDecodeToEncodesBack) {
  std::mt19937 random(7);
  int accepted = 0;
  for (int i = 0; i < 200'000; ++i) {
    Frame frame = i % 2 == 0 ? RequestFrame() : LentFrame();
    frame.kind = static_cast<FrameKind>(1 + i % 12);
    FrameHeader header = EncodeFrame(frame);
    for (int flips = 0; flips < 3; ++flips) {
      header.at(random() % header.size()) = std::byte{static_cast<uint8_t>(random() % 3)};
    }
    const uint64_t data_bytes = random() % 40;
    const absl::StatusOr<Frame> decoded = DecodeFrame(header, data_bytes);
    if (!decoded.ok()) continue;
    ++accepted;
    EXPECT_EQ(EncodeFrame(*decoded), header);
  }
  EXPECT_GT(accepted, 0);
}

}  // namespace
}  // namespace reprise::transport
