// Any gRPC client can publish to a store and fetch from it: messages that protobuf itself wrote and
// read, on the wire.
#include "gtest/gtest.h"

#include "proto/methods.h"
#include "proto/reprise.pb.h"
#include "transport/conformance.h"
#include "transport/grpc/grpc_server.h"
#include "transport/grpc/plain_client.h"

namespace reprise::transport {
namespace {

class GrpcProtobufTest : public ::testing::Test {
 protected:
  void StartServer() {
    auto server = GrpcServer::Create(
        {.listen = "127.0.0.1:0", .paths = GrpcPaths(), .hello_method = v1::HELLO}, service_);
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
  }

  TestService service_;
  std::unique_ptr<GrpcServer> server_;
};

TEST_F(GrpcProtobufTest, ProtobufClientSendsBulkAsFieldFifteen) {
  v1::PublishRequest sent;
  sent.set_key("key");
  sent.set_total_bytes(77);
  sent.set_bulk(std::string(300'000, 'b'));
  // A copy of its own: ThreadSanitizer does not see that the answer comes after the handler's read.
  service_.On(v1::PUBLISH,
              [bulk = sent.bulk()](Request request, std::unique_ptr<Responder> responder) {
                v1::PublishRequest received;
                EXPECT_TRUE(received.ParseFromString(request.message));
                EXPECT_EQ(received.key(), "key");
                EXPECT_EQ(received.total_bytes(), 77u);
                EXPECT_TRUE(received.bulk().empty());
                EXPECT_EQ(AsText(request.bulk.bytes()), bulk);
                EXPECT_NE(request.session, nullptr);
                v1::PublishReply reply;
                reply.set_upload_id(5);
                responder->Send(Part{reply.SerializeAsString(), SharedBytes()});
                responder->Complete(absl::OkStatus());
              });
  StartServer();
  PlainClient client(server_->address());
  auto answer =
      client.Unary("/reprise.v1.Store/Publish", sent.SerializeAsString(), std::string(kGoodHello));
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  v1::PublishReply reply;
  ASSERT_TRUE(reply.ParseFromString(answer.message));
  EXPECT_EQ(reply.upload_id(), 5u);
}

TEST_F(GrpcProtobufTest, ProtobufClientReceivesBulkAsFieldFifteen) {
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
  auto answer = client.Unary("/reprise.v1.Store/Fetch", "", std::string(kGoodHello));
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  v1::FetchPart part;
  ASSERT_TRUE(part.ParseFromString(answer.message));
  EXPECT_EQ(part.piece(), 4u);
  EXPECT_EQ(part.segments().runs(0).count(), 9u);
  EXPECT_TRUE(part.bulk() == AsText(bulk.bytes()));
}

}  // namespace
}  // namespace reprise::transport
