#include "transport/loopback/loopback.h"

#include "transport/conformance.h"

namespace reprise::transport {
namespace {

class LoopbackUnderTest final : public CarrierUnderTest {
 public:
  absl::StatusOr<std::unique_ptr<Server>> StartServer(Service& service) override {
    return LoopbackServer::Create(service);
  }

  absl::StatusOr<ConformanceConnection> Connect(Server& server, std::string hello,
                                                Deadline /*deadline*/) override {
    auto* loopback = dynamic_cast<LoopbackServer*>(&server);
    if (loopback == nullptr) return absl::UnavailableError("no such loopback server");
    REPRISE_ASSIGN_OR_RETURN(LoopbackConnection connection, loopback->Connect(hello));
    return ConformanceConnection{std::move(connection.channel), std::move(connection.hello_reply)};
  }

  std::optional<absl::StatusOr<std::unique_ptr<Channel>>> ConnectWithoutHello(
      Server& server, Deadline /*deadline*/) override {
    return dynamic_cast<LoopbackServer&>(server).ConnectWithoutHello();
  }
};

INSTANTIATE_TEST_SUITE_P(Loopback, CarrierConformance,
                         ::testing::Values(CarrierParam{
                             "loopback", [] { return std::make_unique<LoopbackUnderTest>(); }}),
                         CarrierName);

TEST(LoopbackTest, CallsOverTheLimitWaitUntilTheirDeadline) {
  constexpr size_t kLimit = 256;
  ParkedCalls parked;
  TestService service;
  service.On(kPark, [&](Request request, std::unique_ptr<Responder> responder) {
    parked.Park(std::move(request), std::move(responder));
  });
  auto server = LoopbackServer::Create(service);
  auto connection = server->Connect(kGoodHello);
  ASSERT_TRUE(connection.ok());
  const auto start = [&](Duration timeout) {
    auto observer = std::make_shared<RecordingObserver>();
    connection->channel->Start(
        CallRequest{
            .method = kPark, .message = "", .bulk = {}, .deadline = Deadline::After(timeout)},
        observer);
    return observer;
  };
  for (size_t i = 0; i < kLimit; ++i) start(std::chrono::minutes(1));
  auto late = start(std::chrono::milliseconds(100));
  auto patient = start(std::chrono::minutes(1));
  EXPECT_EQ(late->WaitDone().code(), absl::StatusCode::kDeadlineExceeded);
  // The first to end makes room for the one that is still waiting, and only for that.
  auto first = parked.Take();
  ASSERT_TRUE(first.has_value());
  first->responder->Complete(absl::OkStatus());
  for (size_t i = 1; i < kLimit; ++i) {
    auto next = parked.Take();
    ASSERT_TRUE(next.has_value());
    next->responder->Complete(absl::OkStatus());
  }
  auto last = parked.Take();
  ASSERT_TRUE(last.has_value());
  last->responder->Complete(absl::AbortedError("last"));
  EXPECT_EQ(patient->WaitDone(), absl::AbortedError("last"));
}

}  // namespace
}  // namespace reprise::transport
