// A gRPC client that knows nothing of this carrier, for tests: what grpcurl or a generated stub
// would do, and worse. Any thread may use it, one unary call at a time.
#pragma once

#include <chrono>
#include <future>
#include <memory>
#include <string>
#include <utility>

#include <grpcpp/completion_queue.h>
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

  // A unary call of `path`, with `hello` as metadata unless it is empty; blocks for `timeout` at
  // most.
  Answer Unary(const std::string& path, const std::string& request, const std::string& hello,
               std::chrono::milliseconds timeout = std::chrono::seconds(30)) {
    grpc::ClientContext context;
    if (!hello.empty()) context.AddMetadata("reprise-hello-bin", hello);
    context.set_deadline(std::chrono::system_clock::now() + timeout);
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

  // A call that is opened and then sends no request.
  class SilentCall {
   public:
    SilentCall(PlainClient& client, const std::string& path, const std::string& hello) {
      if (!hello.empty()) context_.AddMetadata("reprise-hello-bin", hello);
      context_.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(60));
      stream_ = client.stub_->PrepareCall(&context_, path, &queue_);
      stream_->StartCall(nullptr);
      Next();
    }
    ~SilentCall() {
      context_.TryCancel();
      Finish();
      queue_.Shutdown();
      Next();
    }
    SilentCall(const SilentCall&) = delete;
    SilentCall& operator=(const SilentCall&) = delete;

    // Blocks until the server ends it, or it is cancelled.
    grpc::Status Finish() {
      if (std::exchange(finished_, true)) return status_;
      stream_->Finish(&status_, nullptr);
      Next();
      return status_;
    }

   private:
    void Next() {
      void* tag = nullptr;
      bool ok = false;
      queue_.Next(&tag, &ok);
    }

    grpc::ClientContext context_;
    grpc::CompletionQueue queue_;
    std::unique_ptr<grpc::GenericClientAsyncReaderWriter> stream_;
    grpc::Status status_;
    bool finished_ = false;
  };

 private:
  std::unique_ptr<grpc::GenericStub> stub_;
};

}  // namespace reprise::transport
