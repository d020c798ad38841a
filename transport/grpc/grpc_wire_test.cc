// The gRPC carrier against plain gRPC: any client can call a store, and hostile or unlucky ones do
// no harm.
#include <future>

#include <grpcpp/create_channel.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/security/credentials.h>

#include "proto/methods.h"
#include "proto/reprise.pb.h"
#include "transport/conformance.h"
#include "transport/grpc/grpc_channel.h"
#include "transport/grpc/grpc_server.h"

namespace reprise::transport {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

grpc::ByteBuffer Buffer(const std::string& bytes) {
  const grpc::Slice slice(bytes);
  return grpc::ByteBuffer(&slice, 1);
}

std::string Bytes(const grpc::ByteBuffer& buffer) {
  grpc::Slice slice;
  EXPECT_TRUE(buffer.DumpToSingleSlice(&slice).ok());
  return {reinterpret_cast<const char*>(slice.begin()), slice.size()};
}

// A client that knows nothing of this carrier.
class PlainClient {
 public:
  explicit PlainClient(const std::string& address) {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    arguments.SetMaxReceiveMessageSize(-1);
    stub_ = std::make_unique<grpc::GenericStub>(
        grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments));
  }

  struct Answer {
    grpc::Status status;
    std::string message;
  };
  Answer Unary(const std::string& path, const std::string& request,
               const std::string& hello = std::string(kGoodHello)) {
    grpc::ClientContext context;
    if (!hello.empty()) context.AddMetadata("reprise-hello-bin", hello);
    context.set_deadline(std::chrono::system_clock::now() + seconds(30));
    const grpc::ByteBuffer buffer = Buffer(request);
    grpc::ByteBuffer reply;
    std::promise<grpc::Status> done;
    stub_->UnaryCall(&context, path, grpc::StubOptions(), &buffer, &reply,
                     [&done](grpc::Status status) { done.set_value(std::move(status)); });
    Answer answer{done.get_future().get(), ""};
    if (answer.status.ok()) answer.message = Bytes(reply);
    return answer;
  }

 private:
  std::unique_ptr<grpc::GenericStub> stub_;
};

class GrpcWireTest : public ::testing::Test {
 protected:
  void StartServer(GrpcServerOptions options = {}) {
    options.listen = "127.0.0.1:0";
    options.paths = GrpcPaths();
    options.hello_method = v1::HELLO;
    auto server = GrpcServer::Create(std::move(options), service_);
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
  }

  std::unique_ptr<Channel> Connect() {
    auto connection = ConnectGrpc({.address = server_->address(),
                                   .paths = GrpcPaths(),
                                   .hello_method = v1::HELLO,
                                   .hello = std::string(kGoodHello)},
                                  Deadline::After(seconds(30)));
    EXPECT_TRUE(connection.ok()) << connection.status();
    return connection.ok() ? std::move(connection->channel) : nullptr;
  }

  ParkedCalls parked_;
  TestService service_;
  std::unique_ptr<GrpcServer> server_;
};

TEST_F(GrpcWireTest, ProtobufClientSendsBulkAsFieldFifteen) {
  v1::PublishRequest sent;
  sent.set_key("key");
  sent.set_total_bytes(77);
  sent.set_bulk(std::string(300'000, 'b'));
  service_.On(v1::PUBLISH, [&](Request request, std::unique_ptr<Responder> responder) {
    v1::PublishRequest received;
    EXPECT_TRUE(received.ParseFromString(request.message));
    EXPECT_EQ(received.key(), "key");
    EXPECT_EQ(received.total_bytes(), 77u);
    EXPECT_TRUE(received.bulk().empty());
    EXPECT_EQ(AsText(request.bulk.bytes()), sent.bulk());
    EXPECT_NE(request.session, nullptr);
    v1::PublishReply reply;
    reply.set_upload_id(5);
    responder->Send(Part{reply.SerializeAsString(), SharedBytes()});
    responder->Complete(absl::OkStatus());
  });
  StartServer();
  PlainClient client(server_->address());
  auto answer = client.Unary("/reprise.v1.Store/Publish", sent.SerializeAsString());
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  v1::PublishReply reply;
  ASSERT_TRUE(reply.ParseFromString(answer.message));
  EXPECT_EQ(reply.upload_id(), 5u);
}

TEST_F(GrpcWireTest, ProtobufClientReceivesBulkAsFieldFifteen) {
  const SharedBytes bulk = TestBulk(1'000'000, 3);
  service_.On(v1::FETCH, [&](Request /*request*/, std::unique_ptr<Responder> responder) {
    v1::FetchPart part;
    part.set_piece(4);
    part.mutable_segments()->add_runs()->set_count(9);
    responder->Send(Part{part.SerializeAsString(), bulk});
    responder->Complete(absl::OkStatus());
  });
  StartServer();
  PlainClient client(server_->address());
  auto answer = client.Unary("/reprise.v1.Store/Fetch", "");
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  v1::FetchPart part;
  ASSERT_TRUE(part.ParseFromString(answer.message));
  EXPECT_EQ(part.piece(), 4u);
  EXPECT_EQ(part.segments().runs(0).count(), 9u);
  EXPECT_TRUE(part.bulk() == AsText(bulk.bytes()));
}

TEST_F(GrpcWireTest, PlainClientMaySayHelloItself) {
  StartServer();
  PlainClient client(server_->address());
  auto answer = client.Unary("/reprise.v1.Store/Hello", std::string(kGoodHello), "");
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  EXPECT_EQ(answer.message, kHelloReply);
  EXPECT_EQ(client.Unary("/reprise.v1.Store/Hello", TestMessage(20, 1), "").status.error_code(),
            grpc::StatusCode::UNAUTHENTICATED);
}

TEST_F(GrpcWireTest, OneHelloForAllCallsOfAConnection) {
  service_.On(v1::STAT, [](Request request, std::unique_ptr<Responder> responder) {
    EXPECT_NE(request.session, nullptr);
    responder->Send(Part{});
    responder->Complete(absl::OkStatus());
  });
  StartServer();
  PlainClient first(server_->address());
  PlainClient second(server_->address());
  for (int i = 0; i < 3; ++i) {
    EXPECT_TRUE(first.Unary("/reprise.v1.Store/Stat", "").status.ok());
    EXPECT_TRUE(second.Unary("/reprise.v1.Store/Stat", "").status.ok());
  }
  EXPECT_EQ(service_.hellos(), 2);
  EXPECT_EQ(first.Unary("/reprise.v1.Store/Stat", "", "wrong").status.error_code(),
            grpc::StatusCode::UNAUTHENTICATED);
  EXPECT_EQ(first.Unary("/reprise.v1.Store/Stat", "", std::string(2'000, 'x')).status.error_code(),
            grpc::StatusCode::INVALID_ARGUMENT);
}

TEST_F(GrpcWireTest, IdleSessionOfAPlainClientIsLost) {
  service_.On(v1::STAT, [](Request /*request*/, std::unique_ptr<Responder> responder) {
    responder->Send(Part{});
    responder->Complete(absl::OkStatus());
  });
  ManualClock clock;
  GrpcServerOptions options;
  options.session_idle = milliseconds(50);  // also how often the server looks
  options.clock = &clock;
  StartServer(std::move(options));
  std::unique_ptr<Channel> held = Connect();
  ASSERT_NE(held, nullptr);
  PlainClient client(server_->address());
  ASSERT_TRUE(client.Unary("/reprise.v1.Store/Stat", "").status.ok());
  EXPECT_TRUE(service_.lost().empty());
  clock.Advance(seconds(1));
  EXPECT_TRUE(service_.WaitForLostSessions(1));
  // A connection that holds its session keeps it however idle it is.
  EXPECT_TRUE(held->alive());
  EXPECT_EQ(service_.lost().size(), 1u);
  // The plain client says hello anew, unknowingly.
  EXPECT_TRUE(client.Unary("/reprise.v1.Store/Stat", "").status.ok());
  EXPECT_EQ(service_.hellos(), 3);
}

TEST_F(GrpcWireTest, RefusesWhatItCannotRead) {
  StartServer();
  PlainClient client(server_->address());
  EXPECT_EQ(client.Unary("/reprise.v1.Store/Nothing", "").status.error_code(),
            grpc::StatusCode::UNIMPLEMENTED);
  EXPECT_EQ(client.Unary("/reprise.v1.Store/Stat", "\xff").status.error_code(),
            grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(client.Unary("/reprise.v1.Store/Stat", std::string("\x7a\x7f", 2)).status.error_code(),
            grpc::StatusCode::INVALID_ARGUMENT);
  // A kilobyte of message is the most that may stand beside bulk.
  EXPECT_EQ(client.Unary("/reprise.v1.Store/Stat", TestMessage(2'000, 1) + "\x7a\x01x")
                .status.error_code(),
            grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(client.Unary("/reprise.v1.Store/Stat", std::string(20 << 20, 'x')).status.error_code(),
            grpc::StatusCode::RESOURCE_EXHAUSTED);
}

TEST_F(GrpcWireTest, HealthServiceAnswersServing) {
  StartServer();
  auto answer = PlainClient(server_->address()).Unary("/grpc.health.v1.Health/Check", "", "");
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  EXPECT_EQ(answer.message, "\x08\x01");  // status = SERVING
}

TEST_F(GrpcWireTest, ReadingWaitsWhileHandlersHoldTooMuch) {
  service_.On(v1::PUBLISH, [this](Request request, std::unique_ptr<Responder> responder) {
    parked_.Park(std::move(request), std::move(responder));
  });
  GrpcServerOptions options;
  options.max_received_bytes = 1'000'000;
  StartServer(std::move(options));
  std::unique_ptr<Channel> channel = Connect();
  ASSERT_NE(channel, nullptr);
  const auto start = [&](Duration timeout) {
    auto observer = std::make_shared<RecordingObserver>();
    channel->Start(CallRequest{.method = v1::PUBLISH,
                               .message = "",
                               .bulk = TestBulk(2'000'000, 1),
                               .deadline = Deadline::After(timeout)},
                   observer);
    return observer;
  };
  auto first = start(seconds(30));
  auto held = parked_.Take();
  ASSERT_TRUE(held.has_value());
  // While its bulk is held no other request is read: this one ends in vain, the next waits.
  EXPECT_TRUE(absl::IsDeadlineExceeded(start(milliseconds(200))->WaitDone()));
  auto second = start(seconds(30));
  held->request.bulk = SharedBytes();
  auto next = parked_.Take();
  ASSERT_TRUE(next.has_value());
  EXPECT_EQ(next->request.bulk.size(), 2'000'000u);
  held->responder->Complete(absl::OkStatus());
  next->responder->Complete(absl::OkStatus());
  EXPECT_TRUE(first->WaitDone().ok());
  EXPECT_TRUE(second->WaitDone().ok());
}

TEST_F(GrpcWireTest, PortInUseIsRefused) {
  StartServer();
  auto second = GrpcServer::Create(
      {.listen = server_->address(), .paths = GrpcPaths(), .hello_method = v1::HELLO}, service_);
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
                                                   .paths = GrpcPaths(),
                                                   .hello_method = v1::HELLO,
                                                   .hello = std::string(1'025, 'x')},
                                                  Deadline::After(seconds(1)))
                                          .status()));
}

TEST_F(GrpcWireTest, ConnectingToNobodyNamesTheAddress) {
  for (const bool with_hello : {false, true}) {
    GrpcChannelOptions options{.address = "127.0.0.1:1", .paths = GrpcPaths()};
    if (with_hello) {
      options.hello_method = v1::HELLO;
      options.hello = std::string(kGoodHello);
    }
    const absl::Status status =
        ConnectGrpc(std::move(options), Deadline::After(seconds(20))).status();
    EXPECT_TRUE(absl::IsUnavailable(status)) << status;
    EXPECT_NE(status.message().find("127.0.0.1:1"), std::string::npos) << status;
  }
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
