#include "transport/faulty/faulty.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "transport/conformance.h"
#include "transport/loopback/loopback.h"

namespace reprise::transport {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr uint32_t kParts = 20;

// A loopback server whose method 7 streams kParts parts of 1,000 bytes of bulk, and a faulty
// channel to it.
class FaultyTest : public ::testing::Test {
 protected:
  FaultyTest() : server_(LoopbackServer::Create(service_)) {
    service_.On(7, [this](Request /*request*/, std::unique_ptr<Responder> responder) {
      ++handled_;
      for (uint32_t i = 0; i < kParts; ++i) {
        responder->Send(Part{TestMessage(100, i), TestBulk(1'000, i)});
      }
      responder->Complete(absl::OkStatus());
    });
  }

  std::unique_ptr<FaultyChannel> Channel(const FaultPlan& plan) {
    absl::StatusOr<LoopbackConnection> connection = server_->Connect(kGoodHello);
    EXPECT_TRUE(connection.ok());
    return std::make_unique<FaultyChannel>(std::move(connection->channel), plan);
  }

  struct Outcome {
    absl::Status status;
    std::vector<Part> parts;
  };
  static Outcome Run(FaultyChannel& channel, Duration timeout = seconds(30)) {
    auto observer = std::make_shared<RecordingObserver>();
    auto call = channel.Start(CallRequest{.method = 7,
                                          .message = "",
                                          .bulk = {},
                                          .deadline = Deadline::After(timeout),
                                          .credit_parts = kParts + 2},
                              observer);
    absl::Status status = observer->WaitDone();
    return Outcome{std::move(status), observer->TakeParts()};
  }

  static std::vector<std::string> Messages(const Outcome& outcome) {
    std::vector<std::string> messages;
    for (const Part& part : outcome.parts) messages.push_back(part.message);
    return messages;
  }

  static int BitsDifferent(ByteSpan left, ByteSpan right) {
    EXPECT_EQ(left.size(), right.size());
    int bits = 0;
    for (size_t i = 0; i < std::min(left.size(), right.size()); ++i) {
      bits += std::popcount(static_cast<unsigned>(left[i] ^ right[i]));
    }
    return bits;
  }

  std::atomic<int> handled_{0};
  TestService service_;
  std::unique_ptr<LoopbackServer> server_;
};

TEST_F(FaultyTest, DroppedRequestNeverArrivesAndEndsByItsDeadline) {
  auto channel = Channel({.drop_request = 1});
  const TimePoint start = Clock::Steady().Now();
  EXPECT_TRUE(absl::IsDeadlineExceeded(Run(*channel, milliseconds(50)).status));
  EXPECT_GE(Clock::Steady().Now() - start, milliseconds(50));
  EXPECT_EQ(handled_, 0);
  EXPECT_EQ(channel->counts().requests_dropped, 1u);
}

TEST_F(FaultyTest, DroppedReplyWasHandledAndEndsByItsDeadline) {
  auto channel = Channel({.drop_reply = 1});
  Outcome outcome = Run(*channel, milliseconds(200));
  EXPECT_TRUE(absl::IsDeadlineExceeded(outcome.status));
  EXPECT_TRUE(outcome.parts.empty());
  EXPECT_EQ(handled_, 1);
}

TEST_F(FaultyTest, DroppedCallCanBeCancelled) {
  auto channel = Channel({.drop_request = 1});
  auto observer = std::make_shared<RecordingObserver>();
  auto call = channel->Start(
      CallRequest{.method = 7, .message = "", .bulk = {}, .deadline = Deadline::After(seconds(30))},
      observer);
  call->Cancel();
  EXPECT_TRUE(absl::IsCancelled(observer->WaitDone()));
  channel.reset();
  call->Cancel();
}

TEST_F(FaultyTest, FlipsExactlyOneBitOfEachMessageOrBulk) {
  for (const bool of_bulk : {false, true}) {
    auto channel = of_bulk ? Channel({.flip_bulk_bit = 1}) : Channel({.flip_message_bit = 1});
    Outcome outcome = Run(*channel);
    ASSERT_TRUE(outcome.status.ok()) << outcome.status;
    ASSERT_EQ(outcome.parts.size(), kParts);
    for (uint32_t i = 0; i < kParts; ++i) {
      const Part& part = outcome.parts[i];
      EXPECT_EQ(BitsDifferent(AsBytes(part.message), AsBytes(TestMessage(100, i))),
                of_bulk ? 0 : 1);
      EXPECT_EQ(BitsDifferent(part.bulk.bytes(), TestBulk(1'000, i).bytes()), of_bulk ? 1 : 0);
    }
  }
}

TEST_F(FaultyTest, TruncatesBulkToAPrefix) {
  auto channel = Channel({.truncate_bulk = 1});
  Outcome outcome = Run(*channel);
  ASSERT_EQ(outcome.parts.size(), kParts);
  for (uint32_t i = 0; i < kParts; ++i) {
    const SharedBytes& bulk = outcome.parts[i].bulk;
    ASSERT_LT(bulk.size(), 1'000u);
    EXPECT_EQ(BitsDifferent(bulk.bytes(), TestBulk(1'000, i).Slice(0, bulk.size()).bytes()), 0);
  }
}

TEST_F(FaultyTest, ReordersNeighboursAndLosesNone) {
  auto channel = Channel({.reorder = 1});
  Outcome outcome = Run(*channel);
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  ASSERT_EQ(outcome.parts.size(), kParts);
  for (uint32_t i = 0; i < kParts; ++i) {
    EXPECT_EQ(outcome.parts[i].message, TestMessage(100, i ^ 1)) << i;
  }
  EXPECT_EQ(channel->counts().reorders, kParts / 2);
}

TEST_F(FaultyTest, DelaysWithoutReordering) {
  auto channel = Channel({.seed = 5, .delay = 0.2, .delay_by = milliseconds(20)});
  const TimePoint start = Clock::Steady().Now();
  Outcome outcome = Run(*channel);
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  ASSERT_EQ(outcome.parts.size(), kParts);
  for (uint32_t i = 0; i < kParts; ++i) EXPECT_EQ(outcome.parts[i].message, TestMessage(100, i));
  EXPECT_GT(channel->counts().delays, 0u);
  EXPECT_GE(Clock::Steady().Now() - start, milliseconds(20));
}

TEST_F(FaultyTest, KillsTheChannelAfterSoManyParts) {
  auto channel = Channel({.kill_after_parts = 7});
  Outcome outcome = Run(*channel);
  EXPECT_TRUE(absl::IsUnavailable(outcome.status)) << outcome.status;
  EXPECT_EQ(channel->counts().parts_delivered, 7u);
  EXPECT_EQ(outcome.parts.size(), 7u);
  EXPECT_FALSE(channel->alive());
  EXPECT_TRUE(absl::IsUnavailable(Run(*channel).status));
  // The server notices too.
  EXPECT_TRUE(service_.WaitForLostSessions(1));
}

TEST_F(FaultyTest, SeedDecidesEverything) {
  const auto run = [&](uint64_t seed) {
    auto channel = Channel({.seed = seed,
                            .drop_request = 0.3,
                            .truncate_bulk = 0.1,
                            .flip_message_bit = 0.2,
                            .flip_bulk_bit = 0.2,
                            .reorder = 0.2});
    std::vector<std::string> all;
    for (int i = 0; i < 10; ++i) {
      Outcome outcome = Run(*channel, milliseconds(100));
      for (const Part& part : outcome.parts) {
        all.push_back(part.message + std::string(AsText(part.bulk.bytes())));
      }
    }
    return all;
  };
  const std::vector<std::string> first = run(1);
  EXPECT_EQ(first, run(1));
  EXPECT_NE(first, run(2));
}

// Around a good channel with an empty plan, it is as good a carrier as the one inside.
class FaultlessUnderTest final : public CarrierUnderTest {
 public:
  absl::StatusOr<std::unique_ptr<Server>> StartServer(Service& service) override {
    return LoopbackServer::Create(service);
  }

  absl::StatusOr<ConformanceConnection> Connect(Server& server, std::string hello,
                                                Deadline /*deadline*/) override {
    auto* loopback = dynamic_cast<LoopbackServer*>(&server);
    if (loopback == nullptr) return absl::UnavailableError("no such loopback server");
    REPRISE_ASSIGN_OR_RETURN(LoopbackConnection connection, loopback->Connect(hello));
    return ConformanceConnection{
        std::make_unique<FaultyChannel>(std::move(connection.channel), FaultPlan{}),
        std::move(connection.hello_reply)};
  }
};

INSTANTIATE_TEST_SUITE_P(Faulty, CarrierConformance,
                         ::testing::Values(CarrierParam{
                             "faultless", [] { return std::make_unique<FaultlessUnderTest>(); }}),
                         CarrierName);

}  // namespace
}  // namespace reprise::transport
