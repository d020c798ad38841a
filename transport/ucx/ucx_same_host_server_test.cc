// What a server that lends its memory can do to a client.
#include <unistd.h>

#include <atomic>
#include <functional>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "common/limits.h"
#include "transport/conformance.h"
#include "transport/ucx/same_host.h"
#include "transport/ucx/testing/raw_peer.h"
#include "transport/ucx/ucx_transport.h"

namespace reprise::transport {
namespace {

uint64_t AddressOf(const void* memory) { return reinterpret_cast<uintptr_t>(memory); }

class UcxSameHostServerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto peer = RawPeer::Create();
    ASSERT_TRUE(peer.ok()) << peer.status();
    peer_ = *std::move(peer);
    ASSERT_TRUE(peer_->Listen().ok());
  }

  Frame Token() const { return TokenAt(lender_.token_address()); }
  static Frame TokenAt(uint64_t address) {
    return {
        .kind = FrameKind::kToken, .sequence = static_cast<uint32_t>(getpid()), .address = address};
  }

  // A new channel to the raw server, which sends `frames` before its welcome.
  void Connect(const std::vector<Frame>& frames, bool same_host = true) {
    absl::StatusOr<UcxConnection> connection;
    std::atomic<bool> finished{false};
    const size_t before = peer_->received().size();
    std::thread connecting([&] {
      connection = ConnectUcx({.address = peer_->address(),
                               .hello = "hi",
                               .receive_bytes = 2 * kMaxPartBytes,
                               .same_host = same_host},
                              Deadline::After(std::chrono::seconds(30)));
      finished = true;
    });
    // What an earlier channel sent last may come meanwhile.
    const FrameKind kind = same_host ? FrameKind::kHelloSameHost : FrameKind::kHello;
    std::optional<Frame> hello;
    EXPECT_TRUE(peer_->ProgressUntil([&] {
      for (size_t i = before; i < peer_->received().size(); ++i) {
        if (peer_->received()[i].frame.kind == kind) hello = peer_->received()[i].frame;
      }
      return hello.has_value();
    }));
    EXPECT_EQ(hello.value_or(Frame{}).call_id, same_host ? *SameHostIdentity() : 0);
    endpoint_ = peer_->endpoints() - 1;
    for (const Frame& frame : frames) peer_->Send(endpoint_, frame);
    peer_->Send(endpoint_, {.kind = FrameKind::kWelcome}, "welcome");
    EXPECT_TRUE(peer_->ProgressUntil([&] { return finished.load(); }));
    connecting.join();
    connected_ = connection.status();
    if (connection.ok()) channel_ = std::move(connection->channel);
  }

  // Connects with a good token, and starts a call.
  uint64_t ConnectAndStart(uint32_t credit = 4) {
    Connect({Token()});
    EXPECT_TRUE(connected_.ok()) << connected_;
    return Start(credit);
  }

  uint64_t Start(uint32_t credit = 4) {
    observer_ = std::make_shared<RecordingObserver>();
    call_ = channel_->Start({.method = 1,
                             .message = "",
                             .bulk = {},
                             .deadline = Deadline::After(std::chrono::seconds(60)),
                             .credit_parts = credit},
                            observer_);
    EXPECT_TRUE(peer_->ProgressUntil([&] { return last().frame.kind == FrameKind::kRequest; }));
    return last().frame.call_id;
  }

  void LendPart(uint64_t call_id, uint32_t sequence, uint64_t address, size_t size = kMiB) {
    const std::string message = "lent";
    const Frame frame{.kind = FrameKind::kLentPart,
                      .message_bytes = static_cast<uint32_t>(message.size()),
                      .call_id = call_id,
                      .sequence = sequence,
                      .bulk_bytes = static_cast<uint32_t>(size),
                      .address = address};
    peer_->SendRaw(endpoint_, std::string(AsText(EncodeFrame(frame))), message,
                   UCP_AM_SEND_FLAG_REPLY | UCP_AM_SEND_FLAG_EAGER);
  }

  // The call under way ends with UNAVAILABLE, without any part.
  void ExpectLost(const std::string& why, uint64_t violations) {
    ASSERT_TRUE(peer_->ProgressUntil([&] { return observer_->done(); }));
    EXPECT_EQ(observer_->WaitDone().code(), absl::StatusCode::kUnavailable);
    EXPECT_NE(observer_->WaitDone().message().find(why), absl::string_view::npos)
        << observer_->WaitDone();
    EXPECT_EQ(observer_->parts_seen(), 0u);
    EXPECT_FALSE(channel_->alive());
    EXPECT_EQ(channel_->statistics().protocol_violations, violations);
    EXPECT_EQ(channel_->statistics().free_receive_bytes, 2 * kMaxPartBytes);
  }

  const RawPeer::Received& last() const { return peer_->received().back(); }
  size_t Reads() const {
    size_t reads = 0;
    for (const RawPeer::Received& received : peer_->received()) {
      reads += received.frame.kind == FrameKind::kRead ? 1 : 0;
    }
    return reads;
  }

  SameHostLender lender_;
  const std::string bulk_ = std::string(kMiB, 'b');
  std::unique_ptr<RawPeer> peer_;
  std::unique_ptr<UcxChannel> channel_;
  absl::Status connected_;
  std::shared_ptr<RecordingObserver> observer_;
  std::shared_ptr<Call> call_;
  size_t endpoint_ = 0;
};

TEST_F(UcxSameHostServerTest, LentPartsAreReadInOrder) {
  const uint64_t id = ConnectAndStart();
  const std::string first(kMaxPartBytes, 'a');
  LendPart(id, 0, AddressOf(first.data()), first.size());
  peer_->Send(endpoint_, {.kind = FrameKind::kPart, .call_id = id, .sequence = 1}, "small");
  LendPart(id, 2, AddressOf(bulk_.data()));
  peer_->Send(endpoint_, {.kind = FrameKind::kDone, .call_id = id, .sequence = 3});
  ASSERT_TRUE(peer_->ProgressUntil([&] { return observer_->done(); }));
  EXPECT_TRUE(observer_->WaitDone().ok()) << observer_->WaitDone();
  EXPECT_TRUE(peer_->ProgressUntil([&] { return Reads() == 2; }));
  const std::vector<Part> parts = observer_->TakeParts();
  ASSERT_EQ(parts.size(), 3u);
  EXPECT_EQ(AsText(parts[0].bulk.bytes()), first);
  EXPECT_EQ(parts[0].message, "lent");
  EXPECT_EQ(AsText(parts[2].bulk.bytes()), bulk_);
  EXPECT_EQ(channel_->statistics().same_host_bytes, kMaxPartBytes + kMiB);
}

TEST_F(UcxSameHostServerTest, BytesThatAreNotAProofAreNotToldToTheServer) {
  const std::string secret(64, 's');
  for (const uint64_t address : {AddressOf(secret.data()), uint64_t{0x1000}, UINT64_MAX / 2}) {
    Connect({TokenAt(address)});
    ASSERT_TRUE(connected_.ok()) << connected_;
    ASSERT_TRUE(peer_->ProgressUntil([&] { return last().frame.kind == FrameKind::kProof; }));
    EXPECT_EQ(last().message, "");
    // Nor is anything read for such a server.
    LendPart(Start(), 0, AddressOf(bulk_.data()));
    ExpectLost("did not ask", 1);
  }
}

TEST_F(UcxSameHostServerTest, ForgedAddressesAreALostServer) {
  for (const uint64_t address : {uint64_t{0x1000}, UINT64_MAX - kMaxPartBytes}) {
    LendPart(ConnectAndStart(), 0, address);
    ExpectLost("cannot read", 0);
  }
}

TEST_F(UcxSameHostServerTest, WhatIsLentNoMoreIsALostServer) {
  const uint64_t id = ConnectAndStart();
  static_cast<void>(lender_.Revoke());
  LendPart(id, 0, AddressOf(bulk_.data()));
  ExpectLost("has ended the session", 0);
}

TEST_F(UcxSameHostServerTest, ViolationsEndTheChannel) {
  LendPart(ConnectAndStart(), 0, AddressOf(bulk_.data()), kMaxPartBytes + 1);
  ExpectLost("bulk size", 1);
  LendPart(ConnectAndStart(), 1 << 20, AddressOf(bulk_.data()));
  ExpectLost("far ahead", 1);

  const uint64_t id = ConnectAndStart(/*credit=*/1);
  // The second is on its way before the first can be read and credited.
  LendPart(id, 1, AddressOf(bulk_.data()));
  LendPart(id, 2, AddressOf(bulk_.data()));
  ExpectLost("on a credit of 1", 1);

  ConnectAndStart();
  peer_->Send(endpoint_, Token());
  ExpectLost("not asked for", 1);

  Connect({Token()}, /*same_host=*/false);
  EXPECT_EQ(connected_.code(), absl::StatusCode::kUnavailable);
  Connect({Token(), Token()});
  EXPECT_EQ(connected_.code(), absl::StatusCode::kUnavailable);
  Connect({}, /*same_host=*/false);
  ASSERT_TRUE(connected_.ok()) << connected_;
  LendPart(Start(), 0, AddressOf(bulk_.data()));
  ExpectLost("did not ask", 1);
  ConnectAndStart();
  peer_->Send(endpoint_, {.kind = FrameKind::kProof});
  ExpectLost("broke the protocol", 1);
}

TEST_F(UcxSameHostServerTest, PartsThatNobodyWantsAreGivenBack) {
  const uint64_t id = ConnectAndStart();
  // Never asked for; then two for a call that holds all receive memory, and one that waits.
  LendPart(id + 5, 0, AddressOf(bulk_.data()));
  EXPECT_TRUE(peer_->ProgressUntil([&] { return Reads() == 1; }));
  EXPECT_EQ(channel_->statistics().unknown_calls, 1u);
  const std::string large(kMaxPartBytes, 'l');
  for (uint32_t i = 0; i < 3; ++i) LendPart(id, i, AddressOf(large.data()), large.size());
  EXPECT_TRUE(peer_->ProgressUntil([&] { return Reads() == 3 && observer_->parts_seen() == 2; }));
  call_->Cancel();
  EXPECT_EQ(observer_->WaitDone().code(), absl::StatusCode::kCancelled);
  EXPECT_TRUE(peer_->ProgressUntil([&] { return Reads() == 4; }));
  EXPECT_EQ(channel_->statistics().same_host_bytes, 2 * kMaxPartBytes);
  LendPart(id, 3, AddressOf(large.data()), large.size());
  EXPECT_TRUE(peer_->ProgressUntil([&] { return Reads() == 5; }));
  EXPECT_TRUE(channel_->alive());
}

}  // namespace
}  // namespace reprise::transport
