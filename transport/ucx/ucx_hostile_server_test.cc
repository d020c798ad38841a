// What a server that breaks the protocol, or stops in the middle, can do to a client.
#include <atomic>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "common/limits.h"
#include "transport/conformance.h"
#include "transport/ucx/testing/raw_peer.h"
#include "transport/ucx/ucx_transport.h"

namespace reprise::transport {
namespace {

class UcxHostileServerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto peer = RawPeer::Create();
    ASSERT_TRUE(peer.ok()) << peer.status();
    peer_ = *std::move(peer);
    ASSERT_TRUE(peer_->Listen().ok());
    Connect();
  }

  // A new channel to the raw server, on its newest endpoint.
  void Connect() {
    absl::StatusOr<UcxConnection> connection;
    std::atomic<bool> finished{false};
    const size_t before = peer_->received().size();
    std::thread connecting([&] {
      connection = ConnectUcx(
          {.address = peer_->address(), .hello = "hi", .receive_bytes = 2 * kMaxPartBytes},
          Deadline::After(std::chrono::seconds(30)));
      finished = true;
    });
    EXPECT_TRUE(peer_->ProgressUntil([&] { return peer_->received().size() > before; }));
    endpoint_ = peer_->endpoints() - 1;
    peer_->Send(endpoint_, {.kind = FrameKind::kWelcome}, "welcome");
    EXPECT_TRUE(peer_->ProgressUntil([&] { return finished.load(); }));
    connecting.join();
    ASSERT_TRUE(connection.ok()) << connection.status();
    EXPECT_EQ(connection->hello_reply, "welcome");
    channel_ = std::move(connection->channel);
  }

  // Starts a call and waits until the server has its request; returns its id.
  uint64_t Start(const std::shared_ptr<RecordingObserver>& observer, uint32_t credit = 4) {
    const size_t before = peer_->received().size();
    call_ = channel_->Start({.method = 1,
                             .message = "",
                             .bulk = {},
                             .deadline = Deadline::After(std::chrono::seconds(60)),
                             .credit_parts = credit},
                            observer);
    EXPECT_TRUE(peer_->ProgressUntil([&] { return peer_->received().size() > before; }));
    return peer_->received().back().frame.call_id;
  }

  void ExpectLosesTheChannel(const std::string& what,
                             const std::function<void(uint64_t call_id)>& misbehave) {
    SCOPED_TRACE(what);
    Connect();
    auto observer = std::make_shared<RecordingObserver>();
    misbehave(Start(observer, /*credit=*/1));
    ASSERT_TRUE(peer_->ProgressUntil([&] { return observer->done(); }));
    EXPECT_EQ(observer->WaitDone().code(), absl::StatusCode::kUnavailable);
    EXPECT_NE(observer->WaitDone().message().find("broke the protocol"), absl::string_view::npos)
        << observer->WaitDone();
    EXPECT_FALSE(channel_->alive());
    EXPECT_EQ(channel_->statistics().protocol_violations, 1u);
  }

  std::unique_ptr<RawPeer> peer_;
  std::unique_ptr<UcxChannel> channel_;
  std::shared_ptr<Call> call_;
  size_t endpoint_ = 0;
};

TEST_F(UcxHostileServerTest, ViolationsEndTheChannel) {
  const auto send = [this](Frame frame) {
    return [this, frame](uint64_t call_id) mutable {
      frame.call_id = call_id;
      peer_->Send(endpoint_, frame);
    };
  };
  ExpectLosesTheChannel("a second hello reply", [this](uint64_t) {
    peer_->Send(endpoint_, {.kind = FrameKind::kWelcome});
  });
  ExpectLosesTheChannel("a client's frame", send({.kind = FrameKind::kCancel}));
  ExpectLosesTheChannel("a request", [this](uint64_t call_id) {
    peer_->Send(endpoint_,
                {.kind = FrameKind::kRequest, .call_id = call_id, .deadline_ms = 1, .credit = 1});
  });
  ExpectLosesTheChannel("a part twice", [this](uint64_t call_id) {
    peer_->Send(endpoint_, {.kind = FrameKind::kPart, .call_id = call_id});
    peer_->Send(endpoint_, {.kind = FrameKind::kPart, .call_id = call_id});
  });
  ExpectLosesTheChannel("an end before parts that came", [this](uint64_t call_id) {
    peer_->Send(endpoint_, {.kind = FrameKind::kPart, .call_id = call_id, .sequence = 1});
    peer_->Send(endpoint_, {.kind = FrameKind::kDone, .call_id = call_id, .sequence = 1});
  });
  ExpectLosesTheChannel("bulk without credit", [this](uint64_t call_id) {
    for (uint32_t i = 0; i < 2; ++i) {
      peer_->Send(endpoint_, {.kind = FrameKind::kPart, .call_id = call_id, .sequence = i}, "",
                  std::string(kMiB, 'b'));
    }
  });
  ExpectLosesTheChannel("a part far ahead", send({.kind = FrameKind::kPart, .sequence = 1 << 20}));
}

TEST_F(UcxHostileServerTest, AnswersToNothingAreIgnoredAndCounted) {
  auto observer = std::make_shared<RecordingObserver>();
  const uint64_t id = Start(observer);
  peer_->Send(endpoint_, {.kind = FrameKind::kPart, .call_id = id + 5});
  peer_->Send(endpoint_, {.kind = FrameKind::kPart, .call_id = 0}, "", std::string(kMiB, 'b'));
  peer_->Send(endpoint_, {.kind = FrameKind::kDone, .call_id = UINT64_MAX});
  peer_->Send(endpoint_, {.kind = FrameKind::kPart, .call_id = id}, "real");
  peer_->Send(endpoint_, {.kind = FrameKind::kDone, .call_id = id, .sequence = 1});
  // After the end nothing about the call is new, or a mistake.
  peer_->Send(endpoint_, {.kind = FrameKind::kDone, .call_id = id, .sequence = 1});
  ASSERT_TRUE(peer_->ProgressUntil([&] { return observer->done(); }));
  EXPECT_TRUE(observer->WaitDone().ok());
  EXPECT_EQ(observer->parts_seen(), 1u);
  EXPECT_EQ(channel_->statistics().unknown_calls, 3u);
  EXPECT_TRUE(channel_->alive());
  // The bulk that nobody asked for was let go.
  EXPECT_TRUE(peer_->ProgressUntil([&] { return peer_->sends_under_way() == 0; }));
}

TEST_F(UcxHostileServerTest, PartsComeInOrderThoughSmallOnesOvertakeBulk) {
  auto observer = std::make_shared<RecordingObserver>();
  const uint64_t id = Start(observer);
  peer_->Send(endpoint_, {.kind = FrameKind::kPart, .call_id = id, .sequence = 0}, "0",
              std::string(kMaxPartBytes, 'a'));
  peer_->Send(endpoint_, {.kind = FrameKind::kPart, .call_id = id, .sequence = 2}, "2");
  peer_->Send(endpoint_, {.kind = FrameKind::kPart, .call_id = id, .sequence = 1}, "1",
              std::string(kMiB, 'b'));
  peer_->Send(endpoint_, {.kind = FrameKind::kDone, .call_id = id, .sequence = 3});
  ASSERT_TRUE(peer_->ProgressUntil([&] { return observer->done(); }));
  EXPECT_TRUE(observer->WaitDone().ok());
  const std::vector<Part> parts = observer->TakeParts();
  ASSERT_EQ(parts.size(), 3u);
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(parts[i].message, std::to_string(i));
  EXPECT_EQ(AsText(parts[0].bulk.bytes()), std::string(kMaxPartBytes, 'a'));
  EXPECT_EQ(AsText(parts[1].bulk.bytes()), std::string(kMiB, 'b'));
}

// The peer is in the middle of writing one call's buffer when that call is cancelled. Until the
// transfer ends, nobody else may get the buffer.
TEST_F(UcxHostileServerTest, ACancelledCallsBufferIsQuarantined) {
  auto cancelled = std::make_shared<RecordingObserver>();
  const uint64_t cancelled_id = Start(cancelled);
  const std::shared_ptr<Call> cancelled_call = call_;
  auto patient = std::make_shared<RecordingObserver>();
  const uint64_t patient_id = Start(patient);

  // Both of the client's slots are being received into; the server then stands still.
  peer_->Send(endpoint_, {.kind = FrameKind::kPart, .call_id = cancelled_id}, "",
              std::string(kMaxPartBytes, 'x'));
  peer_->Send(endpoint_, {.kind = FrameKind::kPart, .call_id = patient_id}, "",
              std::string(kMaxPartBytes, 'a'));
  peer_->Send(endpoint_, {.kind = FrameKind::kPart, .call_id = patient_id, .sequence = 1}, "",
              std::string(kMaxPartBytes, 'b'));
  while (channel_->statistics().parked_parts < 1) std::this_thread::yield();

  cancelled_call->Cancel();
  EXPECT_EQ(cancelled->WaitDone().code(), absl::StatusCode::kCancelled);
  // A call that begins and ends after the cancellation shows that the client's loop went on, and
  // still did not start the parked part.
  auto later = std::make_shared<RecordingObserver>();
  auto later_call = channel_->Start({.method = 1,
                                     .message = "",
                                     .bulk = {},
                                     .deadline = Deadline::After(std::chrono::milliseconds(50))},
                                    later);
  EXPECT_EQ(later->WaitDone().code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(channel_->statistics().free_receive_bytes, 0u);
  EXPECT_EQ(patient->parts_seen(), 0u);

  // The server goes on: what it writes for the cancelled call harms nobody.
  peer_->Send(endpoint_, {.kind = FrameKind::kDone, .call_id = patient_id, .sequence = 2});
  ASSERT_TRUE(peer_->ProgressUntil([&] { return patient->done(); }));
  EXPECT_TRUE(patient->WaitDone().ok()) << patient->WaitDone();
  std::vector<Part> parts = patient->TakeParts();
  ASSERT_EQ(parts.size(), 2u);
  EXPECT_EQ(AsText(parts[0].bulk.bytes()), std::string(kMaxPartBytes, 'a'));
  EXPECT_EQ(AsText(parts[1].bulk.bytes()), std::string(kMaxPartBytes, 'b'));
  EXPECT_EQ(cancelled->parts_seen(), 0u);
  parts.clear();
  EXPECT_TRUE(peer_->ProgressUntil([&] {
    return peer_->sends_under_way() == 0 &&
           channel_->statistics().free_receive_bytes == 2 * kMaxPartBytes;
  }));
}

TEST_F(UcxHostileServerTest, AChannelClosesInTheMiddleOfTransfers) {
  auto observer = std::make_shared<RecordingObserver>();
  const uint64_t id = Start(observer);
  for (uint32_t i = 0; i < 4; ++i) {
    peer_->Send(endpoint_, {.kind = FrameKind::kPart, .call_id = id, .sequence = i}, "",
                std::string(kMaxPartBytes, 'x'));
  }
  while (channel_->statistics().parked_parts < 2) std::this_thread::yield();
  const TimePoint start = Clock::Steady().Now();
  channel_.reset();
  EXPECT_LT(Clock::Steady().Now() - start, std::chrono::seconds(3));
  EXPECT_TRUE(observer->done());
  EXPECT_EQ(observer->WaitDone().code(), absl::StatusCode::kCancelled);
  EXPECT_TRUE(peer_->ProgressUntil([&] { return peer_->sends_under_way() == 0; }));
}

TEST_F(UcxHostileServerTest, AServerThatNeverAnswersHelloIsADeadline) {
  const TimePoint start = Clock::Steady().Now();
  const absl::StatusOr<UcxConnection> connection =
      ConnectUcx({.address = peer_->address(), .hello = "hi"},
                 Deadline::After(std::chrono::milliseconds(300)));
  EXPECT_EQ(connection.status().code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_LT(Clock::Steady().Now() - start, std::chrono::seconds(3));
}

}  // namespace
}  // namespace reprise::transport
