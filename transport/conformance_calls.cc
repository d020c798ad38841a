// Conformance: what is sent arrives, whole, in order and under credit.
#include <algorithm>
#include <cstring>

#include "common/limits.h"
#include "transport/conformance.h"

namespace reprise::transport {
namespace {

bool SameBytes(const SharedBytes& left, const SharedBytes& right) {
  return left.size() == right.size() &&
         (left.empty() || std::memcmp(left.data(), right.data(), left.size()) == 0);
}

TEST_P(CarrierConformance, EchoesMessagesOfEverySize) {
  std::unique_ptr<Channel> channel = Connect();
  ASSERT_NE(channel, nullptr);
  for (size_t size : {size_t{0}, size_t{2}, size_t{3}, size_t{100}, size_t{4096}, size_t{16385},
                      size_t{1} << 20, kMaxMessageBytes - 1, kMaxMessageBytes}) {
    const std::string message = TestMessage(size, static_cast<uint32_t>(size));
    ASSERT_EQ(message.size(), size);
    absl::StatusOr<UnaryReply> reply = CallAndWait(*channel, MakeRequest(kEcho, message));
    ASSERT_TRUE(reply.ok()) << size << ": " << reply.status();
    EXPECT_TRUE(reply->message == message) << size;
    EXPECT_TRUE(reply->bulk.empty()) << size;
  }
}

TEST_P(CarrierConformance, EchoesBulkOfEverySize) {
  std::unique_ptr<Channel> channel = Connect();
  ASSERT_NE(channel, nullptr);
  for (size_t size : {size_t{0}, size_t{1}, size_t{127}, size_t{128}, 4 * kKiB, 4 * kKiB + 1, kMiB,
                      kMaxPartBytes - 1, kMaxPartBytes}) {
    const SharedBytes bulk = TestBulk(size, static_cast<uint32_t>(size));
    const std::string message = TestMessage(kMaxBulkMessageBytes, 7);
    absl::StatusOr<UnaryReply> reply = CallAndWait(*channel, MakeRequest(kEcho, message, bulk));
    ASSERT_TRUE(reply.ok()) << size << ": " << reply.status();
    EXPECT_TRUE(reply->message == message) << size;
    EXPECT_TRUE(SameBytes(reply->bulk, bulk)) << size;
    if (size > 0) {
      EXPECT_NE(reply->bulk.data(), bulk.data()) << "bulk must land in the transport's own memory";
    }
  }
}

TEST_P(CarrierConformance, RefusesWhatIsOverTheLimits) {
  std::unique_ptr<Channel> channel = Connect();
  ASSERT_NE(channel, nullptr);
  const auto code = [&](size_t message_bytes, size_t bulk_bytes) {
    return CallAndWait(*channel,
                       MakeRequest(kEcho, TestMessage(message_bytes, 1), TestBulk(bulk_bytes, 1)))
        .status()
        .code();
  };
  EXPECT_EQ(code(0, kMaxPartBytes + 1), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code(kMaxMessageBytes + 1, 0), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code(kMaxBulkMessageBytes + 1, 1), absl::StatusCode::kInvalidArgument);
  // The channel is none the worse for it.
  EXPECT_EQ(code(10, 10), absl::StatusCode::kOk);
}

TEST_P(CarrierConformance, ServicesPartOverTheLimitIsInternal) {
  service_.On(7, [](Request /*request*/, std::unique_ptr<Responder> responder) {
    responder->Send(Part{"", TestBulk(kMaxPartBytes + 1, 1)});
    responder->Complete(absl::OkStatus());
  });
  std::unique_ptr<Channel> channel = Connect();
  ASSERT_NE(channel, nullptr);
  EXPECT_EQ(CallAndWait(*channel, MakeRequest(7)).status().code(), absl::StatusCode::kInternal);
}

TEST_P(CarrierConformance, ManyPartsArriveInOrder) {
  constexpr uint32_t kParts = 200;
  service_.On(7, [](Request /*request*/, std::unique_ptr<Responder> responder) {
    for (uint32_t i = 0; i < kParts; ++i) {
      // With bulk and without in turn, small and larger than a carrier's own frames.
      const size_t bulk = i % 3 == 0 ? 0 : (i % 3 == 1 ? 100 : 100'000);
      responder->Send(Part{TestMessage(40, i), TestBulk(bulk, i)});
    }
    responder->Complete(absl::OkStatus());
  });
  std::unique_ptr<Channel> channel = Connect();
  ASSERT_NE(channel, nullptr);
  uint32_t next = 0;
  auto observer = std::make_shared<RecordingObserver>([&next](Part part) {
    const size_t bulk = next % 3 == 0 ? 0 : (next % 3 == 1 ? 100 : 100'000);
    EXPECT_TRUE(part.message == TestMessage(40, next)) << next;
    EXPECT_TRUE(SameBytes(part.bulk, TestBulk(bulk, next))) << next;
    ++next;
  });
  auto call = channel->Start(MakeRequest(7), observer);
  EXPECT_TRUE(observer->WaitDone().ok()) << observer->WaitDone();
  EXPECT_EQ(observer->parts_seen(), kParts);
}

TEST_P(CarrierConformance, PartsThatAreHeldThrottleTheSender) {
  constexpr size_t kParts = 100;
  constexpr uint32_t kCredit = 3;
  struct Stream : std::enable_shared_from_this<Stream> {
    std::unique_ptr<Responder> responder;
    std::atomic<size_t> sent{0};
    void Next() {
      if (sent == kParts) return responder->Complete(absl::OkStatus());
      responder->Send(Part{TestMessage(10, static_cast<uint32_t>(sent)),
                           TestBulk(kMiB, static_cast<uint32_t>(sent))});
      ++sent;
      responder->WhenWritable([self = shared_from_this()] { self->Next(); });
    }
  };
  auto stream = std::make_shared<Stream>();
  service_.On(7, [stream](Request /*request*/, std::unique_ptr<Responder> responder) {
    stream->responder = std::move(responder);
    stream->Next();
  });
  std::unique_ptr<Channel> channel = Connect();
  ASSERT_NE(channel, nullptr);
  auto observer = std::make_shared<RecordingObserver>();
  CallRequest request = MakeRequest(7);
  request.credit_parts = kCredit;
  auto call = channel->Start(std::move(request), observer);

  size_t received = 0;
  while (received < kParts) {
    const size_t expected = std::min<size_t>(kParts, received + kCredit);
    ASSERT_TRUE(observer->WaitParts(expected)) << expected;
    // Calls on the same channel go on, and when they are through, no further part came.
    ASSERT_TRUE(CallAndWait(*channel, MakeRequest(kEcho)).ok());
    EXPECT_EQ(observer->parts_seen(), expected) << "more parts than credit";
    // Besides those held, one part may be queued in the carrier: the one that waits for credit.
    EXPECT_LE(stream->sent, expected + 1 + carrier_->parts_buffered_ahead());
    std::vector<Part> parts = observer->TakeParts();
    for (const Part& part : parts) {
      EXPECT_TRUE(SameBytes(part.bulk, TestBulk(kMiB, static_cast<uint32_t>(received))))
          << received;
      ++received;
    }
  }
  EXPECT_TRUE(observer->WaitDone().ok()) << observer->WaitDone();
}

TEST_P(CarrierConformance, PartsWithoutBulkNeedNoCredit) {
  service_.On(7, [](Request /*request*/, std::unique_ptr<Responder> responder) {
    responder->Send(Part{TestMessage(10, 0), TestBulk(1000, 0)});
    for (uint32_t i = 1; i < 50; ++i) responder->Send(Part{TestMessage(10, i), SharedBytes()});
    responder->Complete(absl::OkStatus());
  });
  std::unique_ptr<Channel> channel = Connect();
  ASSERT_NE(channel, nullptr);
  auto observer = std::make_shared<RecordingObserver>();
  CallRequest request = MakeRequest(7);
  request.credit_parts = 1;
  auto call = channel->Start(std::move(request), observer);
  // The bulk of the first part is held to the end.
  EXPECT_TRUE(observer->WaitDone().ok()) << observer->WaitDone();
  EXPECT_EQ(observer->parts_seen(), 50u);
}

TEST_P(CarrierConformance, SentBulkIsReleased) {
  // Both directions: the owners that the service and the caller attached are dropped once the peer
  // has the bytes.
  auto released_by_server = std::make_shared<Event>();
  auto released_by_client = std::make_shared<Event>();
  const auto with_owner = [](const std::shared_ptr<Event>& event) {
    auto memory = std::make_shared<std::string>(kMiB, 'x');
    std::shared_ptr<const void> owner(memory.get(), [memory, event](const void*) { event->Set(); });
    return SharedBytes(AsBytes(*memory), owner);
  };
  service_.On(7, [&](Request /*request*/, std::unique_ptr<Responder> responder) {
    responder->Send(Part{"", with_owner(released_by_server)});
    responder->Complete(absl::OkStatus());
  });
  std::unique_ptr<Channel> channel = Connect();
  ASSERT_NE(channel, nullptr);
  absl::StatusOr<UnaryReply> reply =
      CallAndWait(*channel, MakeRequest(7, "", with_owner(released_by_client)));
  ASSERT_TRUE(reply.ok()) << reply.status();
  // The reply's bulk is still held here.
  EXPECT_TRUE(released_by_client->Wait());
  EXPECT_TRUE(released_by_server->Wait());
  EXPECT_EQ(reply->bulk.size(), kMiB);
}

TEST_P(CarrierConformance, ReceivedBulkOutlivesChannelAndServer) {
  std::unique_ptr<Channel> channel = Connect();
  ASSERT_NE(channel, nullptr);
  const SharedBytes bulk = TestBulk(kMiB, 5);
  absl::StatusOr<UnaryReply> reply = CallAndWait(*channel, MakeRequest(kEcho, "", bulk));
  ASSERT_TRUE(reply.ok()) << reply.status();
  channel.reset();
  server_.reset();
  EXPECT_TRUE(SameBytes(reply->bulk, bulk));
}

TEST_P(CarrierConformance, RegisteredMemoryIsSentAsAnyOther) {
  const SharedBytes request_bulk = TestBulk(2 * kMiB, 1);
  const SharedBytes reply_bulk = TestBulk(2 * kMiB, 2);
  service_.On(7, [reply_bulk](Request request, std::unique_ptr<Responder> responder) {
    responder->Send(Part{std::move(request.message), reply_bulk});
    responder->Complete(absl::OkStatus());
  });
  std::unique_ptr<Channel> channel = Connect();
  ASSERT_NE(channel, nullptr);
  const auto at_server = server_->RegisterMemory(reply_bulk.bytes());
  ASSERT_TRUE(at_server.ok()) << at_server.status();
  const auto at_client = channel->RegisterMemory(request_bulk.bytes());
  ASSERT_TRUE(at_client.ok()) << at_client.status();
  const auto reply = CallAndWait(*channel, MakeRequest(7, "", request_bulk));
  ASSERT_TRUE(reply.ok()) << reply.status();
  EXPECT_EQ(AsText(reply->bulk.bytes()), AsText(reply_bulk.bytes()));
}

}  // namespace
}  // namespace reprise::transport
