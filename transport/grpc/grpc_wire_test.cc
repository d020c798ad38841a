// The gRPC carrier against plain gRPC: any client can call a store, and hostile or unlucky ones do
// no harm.
#include <thread>

#include "transport/conformance.h"
#include "transport/grpc/grpc_channel.h"
#include "transport/grpc/grpc_server.h"
#include "transport/grpc/plain_client.h"
#include "transport/grpc/unreachable.h"

namespace reprise::transport {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr MethodId kStat = 5;
constexpr MethodId kPublish = 6;
const std::string kHelloPath = "/wire.Test/Hello";
const std::string kStatPath = "/wire.Test/Stat";

std::vector<std::string> Paths() {
  return {"", "", kHelloPath, "", "", kStatPath, "/wire.Test/Publish"};
}

class GrpcWireTest : public ::testing::Test {
 protected:
  void StartServer(GrpcServerOptions options = {}) {
    options.listen = "127.0.0.1:0";
    options.paths = Paths();
    options.hello_method = kHelloMethod;
    auto server = GrpcServer::Create(std::move(options), service_);
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
  }

  std::unique_ptr<Channel> Connect() {
    auto connection = ConnectGrpc({.address = server_->address(),
                                   .paths = Paths(),
                                   .hello_method = kHelloMethod,
                                   .hello = std::string(kGoodHello)},
                                  Deadline::After(seconds(30)));
    EXPECT_TRUE(connection.ok()) << connection.status();
    return connection.ok() ? std::move(connection->channel) : nullptr;
  }

  // A plain client's Stat.
  static grpc::StatusCode StatCode(PlainClient& client, const std::string& request,
                                   const std::string& hello = std::string(kGoodHello)) {
    return client.Unary(kStatPath, request, hello).status.error_code();
  }

  ParkedCalls parked_;
  TestService service_;
  ManualClock clock_;  // outlives the server, which reads it to the end
  std::unique_ptr<GrpcServer> server_;
};

TEST_F(GrpcWireTest, PlainClientMaySayHelloItself) {
  StartServer();
  PlainClient client(server_->address());
  auto answer = client.Unary(kHelloPath, std::string(kGoodHello), "");
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  EXPECT_EQ(answer.message, kHelloReply);
  EXPECT_EQ(client.Unary(kHelloPath, TestMessage(20, 1), "").status.error_code(),
            grpc::StatusCode::UNAUTHENTICATED);
}

TEST_F(GrpcWireTest, OneHelloForAllCallsOfAConnection) {
  service_.On(kStat, [](Request request, std::unique_ptr<Responder> responder) {
    EXPECT_NE(request.session, nullptr);
    responder->Send(Part{});
    responder->Complete(absl::OkStatus());
  });
  StartServer();
  PlainClient first(server_->address());
  PlainClient second(server_->address());
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(StatCode(first, ""), grpc::StatusCode::OK);
    EXPECT_EQ(StatCode(second, ""), grpc::StatusCode::OK);
  }
  EXPECT_EQ(service_.hellos(), 2);
  EXPECT_EQ(StatCode(first, "", "wrong"), grpc::StatusCode::UNAUTHENTICATED);
  EXPECT_EQ(StatCode(first, "", std::string(2'000, 'x')), grpc::StatusCode::INVALID_ARGUMENT);
}

TEST_F(GrpcWireTest, IdleSessionOfAPlainClientIsLost) {
  service_.On(kStat, [](Request /*request*/, std::unique_ptr<Responder> responder) {
    responder->Send(Part{});
    responder->Complete(absl::OkStatus());
  });
  GrpcServerOptions options;
  options.session_idle = milliseconds(50);  // also how often the server looks
  options.clock = &clock_;
  StartServer(std::move(options));
  std::unique_ptr<Channel> held = Connect();
  ASSERT_NE(held, nullptr);
  PlainClient client(server_->address());
  ASSERT_EQ(StatCode(client, ""), grpc::StatusCode::OK);
  EXPECT_TRUE(service_.lost().empty());
  // Again and again: the server may call the session idle only after the client has its answer.
  while (service_.lost().empty()) {
    clock_.Advance(seconds(1));
    std::this_thread::yield();
  }
  // A connection that holds its session keeps it however idle it is.
  EXPECT_TRUE(held->alive());
  EXPECT_EQ(service_.lost().size(), 1u);
  // The plain client says hello anew, unknowingly.
  EXPECT_EQ(StatCode(client, ""), grpc::StatusCode::OK);
  EXPECT_EQ(service_.hellos(), 3);
}

TEST_F(GrpcWireTest, RefusesWhatItCannotRead) {
  StartServer();
  PlainClient client(server_->address());
  EXPECT_EQ(client.Unary("/wire.Test/Nothing", "", "").status.error_code(),
            grpc::StatusCode::UNIMPLEMENTED);
  EXPECT_EQ(StatCode(client, "\xff"), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(StatCode(client, std::string("\x7a\x7f", 2)), grpc::StatusCode::INVALID_ARGUMENT);
  // A kilobyte of message is the most that may stand beside bulk.
  EXPECT_EQ(StatCode(client, TestMessage(2'000, 1) + "\x7a\x01x"),
            grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(StatCode(client, std::string(20 << 20, 'x')), grpc::StatusCode::RESOURCE_EXHAUSTED);
}

TEST_F(GrpcWireTest, HealthServiceAnswersServing) {
  StartServer();
  auto answer = PlainClient(server_->address()).Unary("/grpc.health.v1.Health/Check", "", "");
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  EXPECT_EQ(answer.message, "\x08\x01");  // status = SERVING
}

TEST_F(GrpcWireTest, ReadingWaitsWhileHandlersHoldTooMuch) {
  service_.On(kPublish, [this](Request request, std::unique_ptr<Responder> responder) {
    parked_.Park(std::move(request), std::move(responder));
  });
  GrpcServerOptions options;
  options.max_received_bytes = 1'000'000;
  StartServer(std::move(options));
  std::unique_ptr<Channel> channel = Connect();
  ASSERT_NE(channel, nullptr);
  constexpr size_t kInVain = 2'000'001;
  const auto start = [&](Duration timeout, size_t bulk_bytes = 2'000'000) {
    auto observer = std::make_shared<RecordingObserver>();
    channel->Start(CallRequest{.method = kPublish,
                               .message = "",
                               .bulk = TestBulk(bulk_bytes, 1),
                               .deadline = Deadline::After(timeout)},
                   observer);
    return observer;
  };
  auto first = start(seconds(30));
  auto held = parked_.Take();
  ASSERT_TRUE(held.has_value());
  // While its bulk is held no other request is read: this one ends in vain, the next waits.
  EXPECT_TRUE(absl::IsDeadlineExceeded(start(milliseconds(200), kInVain)->WaitDone()));
  auto second = start(seconds(30));
  held->request.bulk = SharedBytes();
  auto next = parked_.Take();
  ASSERT_TRUE(next.has_value());
  // Its cancellation may come after the room that it waited for.
  if (next->request.bulk.size() == kInVain) {
    next.reset();
    next = parked_.Take();
  }
  ASSERT_TRUE(next.has_value());
  EXPECT_EQ(next->request.bulk.size(), 2'000'000u);
  held->responder->Complete(absl::OkStatus());
  next->responder->Complete(absl::OkStatus());
  EXPECT_TRUE(first->WaitDone().ok());
  EXPECT_TRUE(second->WaitDone().ok());
}

TEST_F(GrpcWireTest, WaitingRequestsAreReadOneByOne) {
  service_.On(kPublish, [this](Request request, std::unique_ptr<Responder> responder) {
    parked_.Park(std::move(request), std::move(responder));
  });
  GrpcServerOptions options;
  options.max_received_bytes = 1;
  StartServer(std::move(options));
  // A connection each: on one, HTTP/2's flow control alone would keep them apart.
  std::vector<std::unique_ptr<Channel>> channels;
  std::vector<std::shared_ptr<RecordingObserver>> observers;
  for (int i = 0; i < 4; ++i) {
    channels.push_back(Connect());
    ASSERT_NE(channels.back(), nullptr);
    observers.push_back(std::make_shared<RecordingObserver>());
    channels.back()->Start(CallRequest{.method = kPublish,
                                       .message = "",
                                       .bulk = TestBulk(2'000'000, 1),
                                       .deadline = Deadline::After(seconds(30))},
                           observers.back());
  }
  for (int i = 0; i < 4; ++i) {
    auto held = parked_.Take();
    ASSERT_TRUE(held.has_value());
    // Nobody else while this one's bulk is held, however many wait.
    EXPECT_FALSE(parked_.Take(milliseconds(100)).has_value()) << i;
    held->request.bulk = SharedBytes();
    held->responder->Complete(absl::OkStatus());
  }
  for (const auto& observer : observers) EXPECT_TRUE(observer->WaitDone().ok());
}

TEST_F(GrpcWireTest, WhoIsRefusedIsNotRead) {
  StartServer();
  PlainClient client(server_->address());
  PlainClient::SilentCall call(client, kStatPath, "wrong");
  EXPECT_EQ(call.Finish().error_code(), grpc::StatusCode::UNAUTHENTICATED);
}

TEST_F(GrpcWireTest, ARequestThatDoesNotComeKeepsOthersWaitingForAWhileOnly) {
  service_.On(kStat, [](Request /*request*/, std::unique_ptr<Responder> responder) {
    responder->Send(Part{});
    responder->Complete(absl::OkStatus());
  });
  GrpcServerOptions options;
  options.max_received_bytes = 1;
  options.read_timeout = milliseconds(50);  // also how often the server looks
  options.clock = &clock_;
  StartServer(std::move(options));
  PlainClient client(server_->address());
  const std::string hello(kGoodHello);
  PlainClient::SilentCall silent(client, kStatPath, hello);
  // When the silent one has arrived, others with a session wait; those without one do not.
  const auto times_out = [&] {
    return client.Unary(kStatPath, "", hello, milliseconds(200)).status.error_code() ==
           grpc::StatusCode::DEADLINE_EXCEEDED;
  };
  for (int i = 0; i < 1'000 && !times_out(); ++i) continue;
  EXPECT_TRUE(times_out());
  EXPECT_EQ(StatCode(client, "", ""), grpc::StatusCode::OK);

  clock_.Advance(seconds(1));
  const grpc::Status ended = silent.Finish();
  EXPECT_EQ(ended.error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  EXPECT_NE(ended.error_message().find("did not come in time"), std::string::npos)
      << ended.error_message();
  EXPECT_EQ(StatCode(client, ""), grpc::StatusCode::OK);
}

// gRPC's library took up to 10 s to stop, about once in ten times, when the last channel and server
// of a process went.
TEST_F(GrpcWireTest, LastChannelAndServerGoPromptly) {
  for (int i = 0; i < 20; ++i) {
    StartServer();
    std::unique_ptr<Channel> channel = Connect();
    ASSERT_NE(channel, nullptr);
    const TimePoint start = Clock::Steady().Now();
    channel.reset();
    server_.reset();
    EXPECT_LT(Clock::Steady().Now() - start, seconds(5));
  }
}

TEST_F(GrpcWireTest, PortInUseIsRefused) {
  StartServer();
  auto second = GrpcServer::Create(
      {.listen = server_->address(), .paths = Paths(), .hello_method = kHelloMethod}, service_);
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_NE(second.status().message().find(server_->address()), std::string::npos)
      << second.status();
}

TEST_F(GrpcWireTest, UnusableOptionsAreRefused) {
  EXPECT_TRUE(absl::IsInvalidArgument(GrpcServer::Create({.listen = "7070"}, service_).status()));
  EXPECT_TRUE(
      absl::IsUnavailable(GrpcServer::Create({.listen = "192.0.2.1:0"}, service_).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(ConnectGrpc({.address = "127.0.0.1:1",
                                                   .paths = Paths(),
                                                   .hello_method = kHelloMethod,
                                                   .hello = std::string(1'025, 'x')},
                                                  Deadline::After(seconds(1)))
                                          .status()));
}

TEST_F(GrpcWireTest, ConnectingToNobodyNamesTheAddress) {
  for (const bool with_hello : {false, true}) {
    GrpcChannelOptions options{.address = "127.0.0.1:1", .paths = Paths()};
    if (with_hello) {
      options.hello_method = kHelloMethod;
      options.hello = std::string(kGoodHello);
    }
    const absl::Status status =
        ConnectGrpc(std::move(options), Deadline::After(seconds(20))).status();
    EXPECT_TRUE(absl::IsUnavailable(status)) << status;
    EXPECT_NE(status.message().find("127.0.0.1:1"), std::string::npos) << status;
  }
}

TEST_F(GrpcWireTest, SaysWhyNobodyCouldBeReached) {
  const auto why = [](const std::string& address) {
    return std::string(
        ConnectGrpc({.address = address, .paths = Paths()}, Deadline::After(seconds(20)))
            .status()
            .message());
  };
  EXPECT_NE(why("127.0.0.1:1").find("nobody listens there"), std::string::npos);
  // A name kept for nobody (RFC 6761).
  EXPECT_NE(why("nowhere.invalid:1").find("the host name is not known"), std::string::npos);
  // The server itself stands for whatever else takes connections.
  StartServer();
  EXPECT_NE(WhyUnreachable(server_->address(), Deadline::After(seconds(20)))
                .find("does not answer as a store does"),
            std::string::npos);
}

TEST_F(GrpcWireTest, UnknownMethodNumberIsUnimplemented) {
  StartServer();
  std::unique_ptr<Channel> channel = Connect();
  ASSERT_NE(channel, nullptr);
  EXPECT_TRUE(absl::IsUnimplemented(
      CallAndWait(
          *channel,
          CallRequest{
              .method = 999, .message = "", .bulk = {}, .deadline = Deadline::After(seconds(5))})
          .status()));
}

}  // namespace
}  // namespace reprise::transport
