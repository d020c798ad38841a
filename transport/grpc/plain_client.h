// A gRPC client that knows nothing of this carrier, for tests: what grpcurl or a generated stub
// would do. Any thread may use it, one call at a time.
#pragma once

#include <chrono>
#include <future>
#include <memory>
#include <string>
#include <utility>

#include <grpcpp/create_channel.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/security/credentials.h>

namespace reprise::transport {

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

  // A unary call of `path`, with `hello` as metadata unless it is empty; blocks for 30 s at most.
  Answer Unary(const std::string& path, const std::string& request, const std::string& hello) {
    grpc::ClientContext context;
    if (!hello.empty()) context.AddMetadata("reprise-hello-bin", hello);
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(30));
    const grpc::Slice slice(request);
    const grpc::ByteBuffer buffer(&slice, 1);
    grpc::ByteBuffer reply;
    std::promise<grpc::Status> done;
    stub_->UnaryCall(&context, path, grpc::StubOptions(), &buffer, &reply,
                     [&done](grpc::Status status) { done.set_value(std::move(status)); });
    Answer answer{done.get_future().get(), ""};
    grpc::Slice bytes;
    if (answer.status.ok() && reply.DumpToSingleSlice(&bytes).ok()) {
      answer.message.assign(reinterpret_cast<const char*>(bytes.begin()), bytes.size());
    }
    return answer;
  }

 private:
  std::unique_ptr<grpc::GenericStub> stub_;
};

}  // namespace reprise::transport
