// Conformance: hello, sessions, and many callers at once.
#include <cstring>
#include <thread>

#include "common/limits.h"
#include "transport/conformance.h"

namespace reprise::transport {
namespace {

using std::chrono::seconds;

TEST_P(CarrierConformance, RefusedHelloGivesItsStatus) {
  absl::StatusOr<ConformanceConnection> connection =
      carrier_->Connect(*server_, TestMessage(20, 1), Deadline::After(seconds(30)));
  ASSERT_FALSE(connection.ok());
  EXPECT_EQ(connection.status().code(), absl::StatusCode::kUnauthenticated) << connection.status();
  EXPECT_NE(connection.status().message().find("the test refuses this hello"), std::string::npos)
      << connection.status();
  EXPECT_TRUE(service_.lost().empty());
}

TEST_P(CarrierConformance, ConnectingToNobodyIsUnavailable) {
  std::unique_ptr<Channel> channel = Connect();
  ASSERT_NE(channel, nullptr);
  channel.reset();
  const std::string address = server_->address();
  EXPECT_NE(address.find(':'), std::string::npos) << address;
  // A server that refuses from now on, at an address that was good a moment ago.
  class Gone final : public Server {
   public:
    explicit Gone(std::string address) : address_(std::move(address)) {}
    std::string address() const override { return address_; }

   private:
    std::string address_;
  };
  server_.reset();
  Gone gone(address);
  const TimePoint start = Clock::Steady().Now();
  absl::StatusOr<ConformanceConnection> connection =
      carrier_->Connect(gone, std::string(kGoodHello), Deadline::After(seconds(10)));
  ASSERT_FALSE(connection.ok());
  EXPECT_EQ(connection.status().code(), absl::StatusCode::kUnavailable) << connection.status();
  EXPECT_LT(Clock::Steady().Now() - start, seconds(11));
}

TEST_P(CarrierConformance, CallsCarryTheSessionOfTheirHello) {
  std::unique_ptr<Channel> first = Connect();
  std::unique_ptr<Channel> second = Connect();
  ASSERT_NE(first, nullptr);
  ASSERT_NE(second, nullptr);
  EXPECT_EQ(service_.hellos(), 2);
  std::vector<std::shared_ptr<Call>> calls;
  std::vector<std::shared_ptr<Session>> seen;
  for (Channel* channel : {first.get(), first.get(), second.get()}) {
    auto each = std::make_shared<RecordingObserver>();
    calls.push_back(channel->Start(MakeRequest(kPark), each));
    std::optional<ParkedCalls::Parked> parked = parked_.Take();
    ASSERT_TRUE(parked.has_value());
    ASSERT_NE(parked->request.session, nullptr);
    seen.push_back(parked->request.session);
    parked->responder->Complete(absl::OkStatus());
    EXPECT_TRUE(each->WaitDone().ok());
  }
  EXPECT_EQ(seen[0], seen[1]);
  EXPECT_NE(seen[0], seen[2]);
  EXPECT_FALSE(static_cast<TestSession&>(*seen[0]).endpoint.empty());
  EXPECT_NE(static_cast<TestSession&>(*seen[0]).endpoint,
            static_cast<TestSession&>(*seen[2]).endpoint);
  EXPECT_EQ(service_.hellos(), 2);

  first.reset();
  ASSERT_TRUE(service_.WaitForLostSessions(1));
  EXPECT_EQ(service_.lost()[0], seen[0]);
  EXPECT_TRUE(second->alive());
  EXPECT_TRUE(CallAndWait(*second, MakeRequest(kEcho)).ok());
  EXPECT_EQ(service_.lost().size(), 1u);
}

TEST_P(CarrierConformance, CallsWithoutHelloHaveNoSession) {
  auto connected = carrier_->ConnectWithoutHello(*server_, Deadline::After(seconds(30)));
  // Elsewhere there is no connection without a hello, so nothing that could be tested.
  if (!connected.has_value()) GTEST_SKIP() << "this carrier's endpoints begin with hello";
  ASSERT_TRUE(connected->ok()) << connected->status();
  Channel& channel = ***connected;
  service_.On(7, [](Request request, std::unique_ptr<Responder> responder) {
    if (request.session == nullptr) {
      return responder->Complete(absl::UnauthenticatedError("say hello first"));
    }
    responder->Complete(absl::InternalError("a session from nowhere"));
  });
  EXPECT_EQ(CallAndWait(channel, MakeRequest(7)).status(),
            absl::UnauthenticatedError("say hello first"));
  EXPECT_TRUE(CallAndWait(channel, MakeRequest(kEcho)).ok());
  EXPECT_EQ(service_.hellos(), 0);
}

TEST_P(CarrierConformance, ManyThreadsMixSizes) {
  constexpr int kThreads = 8;
  constexpr int kCallsEach = 40;
  std::unique_ptr<Channel> channel = Connect();
  ASSERT_NE(channel, nullptr);
  constexpr size_t kSizes[] = {0, 1, 300, 4096, 70'000, 1'000'000, 3'000'000};
  std::atomic<int> good{0};
  std::vector<std::thread> threads;
  threads.reserve(kThreads);
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kCallsEach; ++i) {
        const uint32_t seed = static_cast<uint32_t>(t * 1000 + i);
        const SharedBytes bulk = TestBulk(kSizes[seed % std::size(kSizes)], seed);
        const std::string message = TestMessage(2 + seed % 1000, seed);
        absl::StatusOr<UnaryReply> reply = CallAndWait(*channel, MakeRequest(kEcho, message, bulk));
        if (!reply.ok()) {
          ADD_FAILURE() << reply.status();
          return;
        }
        if (reply->message == message && reply->bulk.size() == bulk.size() &&
            (bulk.empty() || std::memcmp(reply->bulk.data(), bulk.data(), bulk.size()) == 0)) {
          ++good;
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(good, kThreads * kCallsEach);
}

TEST_P(CarrierConformance, CancelsRaceWithAnswers) {
  std::unique_ptr<Channel> channel = Connect();
  ASSERT_NE(channel, nullptr);
  std::vector<std::shared_ptr<RecordingObserver>> observers;
  for (uint32_t i = 0; i < 200; ++i) {
    observers.push_back(std::make_shared<RecordingObserver>());
    auto call = channel->Start(MakeRequest(kEcho, TestMessage(50, i), TestBulk(20'000, i)),
                               observers.back());
    if (i % 3 != 0) call->Cancel();
  }
  for (uint32_t i = 0; i < observers.size(); ++i) {
    const absl::Status status = observers[i]->WaitDone();
    if (i % 3 == 0) {
      EXPECT_TRUE(status.ok()) << status;
    } else {
      EXPECT_TRUE(status.ok() || absl::IsCancelled(status)) << status;
    }
  }
}

TEST_P(CarrierConformance, ManyCallsAtOnceAllEnd) {
  constexpr uint32_t kCalls = 2'000;
  std::unique_ptr<Channel> channel = Connect();
  ASSERT_NE(channel, nullptr);
  std::vector<std::shared_ptr<RecordingObserver>> observers;
  std::vector<std::shared_ptr<Call>> calls;
  for (uint32_t i = 0; i < kCalls; ++i) {
    observers.push_back(std::make_shared<RecordingObserver>());
    calls.push_back(
        channel->Start(MakeRequest(kEcho, TestMessage(2 + i % 100, i)), observers.back()));
  }
  for (const auto& observer : observers) {
    EXPECT_TRUE(observer->WaitDone().ok()) << observer->WaitDone();
  }
}

TEST_P(CarrierConformance, ChannelsComeAndGo) {
  for (int i = 0; i < 20; ++i) {
    std::unique_ptr<Channel> channel = Connect();
    ASSERT_NE(channel, nullptr);
    EXPECT_TRUE(CallAndWait(*channel, MakeRequest(kEcho)).ok());
  }
  EXPECT_TRUE(service_.WaitForLostSessions(20));
}

TEST_P(CarrierConformance, ServersComeAndGoUnderLoad) {
  for (uint32_t i = 0; i < 5; ++i) {
    std::unique_ptr<Channel> channel = Connect();
    ASSERT_NE(channel, nullptr);
    std::vector<std::shared_ptr<RecordingObserver>> observers;
    for (uint32_t j = 0; j < 20; ++j) {
      observers.push_back(std::make_shared<RecordingObserver>());
      channel->Start(MakeRequest(kEcho, "", TestBulk(200'000, j)), observers.back());
    }
    server_.reset();
    for (const auto& observer : observers) {
      const absl::Status status = observer->WaitDone();
      EXPECT_TRUE(status.ok() || absl::IsUnavailable(status)) << status;
    }
    channel.reset();
    auto server = carrier_->StartServer(service_);
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
  }
}

}  // namespace
}  // namespace reprise::transport
