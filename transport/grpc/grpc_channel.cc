#include "transport/grpc/grpc_channel.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/support/channel_arguments.h>

#include "transport/grpc/grpc_client_call.h"
#include "transport/grpc/grpc_library.h"
#include "transport/grpc/unreachable.h"
#include "transport/part_limits.h"

namespace reprise::transport {
namespace {

constexpr int kKeepaliveMs = 10'000;
constexpr int kKeepaliveTimeoutMs = 5'000;

grpc::ChannelArguments ChannelArguments() {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kMaxGrpcMessageBytes);
  arguments.SetMaxSendMessageSize(kMaxGrpcMessageBytes);
  arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
  // Channels to one address would share a connection, and a session is bound to its connection.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  arguments.SetInt(GRPC_ARG_SERVICE_CONFIG_DISABLE_RESOLUTION, 1);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveMs);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveTimeoutMs);
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  return arguments;
}

class GrpcChannel final : public Channel {
 public:
  explicit GrpcChannel(std::shared_ptr<GrpcClientCore> core) : core_(std::move(core)) {}
  ~GrpcChannel() override { core_->Close(); }

  std::shared_ptr<Call> Start(CallRequest request,
                              std::shared_ptr<CallObserver> observer) override {
    auto call = std::make_shared<GrpcClientCall>(core_, std::max<uint32_t>(request.credit_parts, 1),
                                                 observer);
    absl::Status status = CheckPartSizes(request.message.size(), request.bulk.size());
    const std::vector<std::string>& paths = core_->options().paths;
    if (status.ok() && (request.method >= paths.size() || paths[request.method].empty())) {
      status = absl::UnimplementedError(absl::StrCat("no method has the number ", request.method));
    }
    const Deadline deadline = request.deadline;
    if (status.ok() && deadline.PassedAt(Clock::Steady().Now())) {
      status = absl::DeadlineExceededError("the call's deadline had passed when it was started");
    }
    if (status.ok() && !core_->Add(call)) status = core_->lost();
    if (!status.ok()) {
      observer->OnDone(std::move(status));
      return call;
    }
    call->Start(std::move(request), deadline, /*hold=*/false);
    return call;
  }

  bool alive() const override { return core_->lost().ok(); }
  std::string_view carrier() const override { return "grpc"; }

 private:
  const std::shared_ptr<GrpcClientCore> core_;
};

// Watches the call that says hello and then lasts as long as the connection.
class HelloObserver final : public CallObserver {
 public:
  explicit HelloObserver(std::shared_ptr<GrpcClientCore> core) : core_(std::move(core)) {}

  void OnPart(Part part) override {
    MutexLock lock(mutex_);
    if (!reply_.has_value()) reply_ = std::move(part.message);
    wake_.notify_all();
  }

  void OnDone(absl::Status status) override {
    if (status.ok()) status = absl::UnavailableError("the server ended the session");
    core_->Lose(absl::UnavailableError(absl::StrCat("the connection to ", core_->options().address,
                                                    " is lost: ", status.ToString())));
    MutexLock lock(mutex_);
    done_ = std::move(status);
    wake_.notify_all();
  }

  absl::StatusOr<std::string> Wait(Deadline deadline) {
    MutexLock lock(mutex_);
    while (!reply_.has_value() && !done_.has_value()) {
      if (wake_.wait_until(mutex_, deadline.at()) == std::cv_status::timeout) {
        return absl::DeadlineExceededError("no answer to hello by the deadline");
      }
    }
    if (reply_.has_value()) return *reply_;
    return *done_;
  }

 private:
  const std::shared_ptr<GrpcClientCore> core_;
  Mutex mutex_;
  CondVar wake_;
  std::optional<std::string> reply_ ABSL_GUARDED_BY(mutex_);
  std::optional<absl::Status> done_ ABSL_GUARDED_BY(mutex_);
};

absl::StatusOr<std::string> SayHello(const std::shared_ptr<GrpcClientCore>& core,
                                     Deadline deadline) {
  auto observer = std::make_shared<HelloObserver>(core);
  auto call = std::make_shared<GrpcClientCall>(core, 1, observer);
  if (!core->Add(call)) return core->lost();
  call->Start(CallRequest{.method = core->options().hello_method,
                          .message = *core->options().hello,
                          .bulk = SharedBytes(),
                          .deadline = deadline},
              std::nullopt, /*hold=*/true);
  return observer->Wait(deadline);
}

absl::Status AwaitConnection(grpc::Channel& channel, const std::string& address,
                             Deadline deadline) {
  while (true) {
    const grpc_connectivity_state state = channel.GetState(/*try_to_connect=*/true);
    if (state == GRPC_CHANNEL_READY) return absl::OkStatus();
    if (state == GRPC_CHANNEL_TRANSIENT_FAILURE || state == GRPC_CHANNEL_SHUTDOWN) {
      return absl::UnavailableError(WhyUnreachable(address, deadline));
    }
    if (!channel.WaitForStateChange(state, ToGrpcDeadline(deadline))) {
      return absl::DeadlineExceededError("no connection by the deadline");
    }
  }
}

}  // namespace

GrpcClientCore::GrpcClientCore(GrpcChannelOptions options)
    : options_(std::move(options)),
      pool_(BufferPool::Create(kGrpcPoolBytes)),
      loans_(std::make_shared<BulkLoans>()),
      channel_(grpc::CreateCustomChannel(options_.address, grpc::InsecureChannelCredentials(),
                                         ChannelArguments())),
      stub_(std::make_unique<grpc::GenericStub>(channel_)),
      queue_(
          std::make_unique<GrpcQueue>(std::make_unique<grpc::CompletionQueue>(), "grpc-client")) {}

bool GrpcClientCore::Add(const std::shared_ptr<GrpcClientCall>& call) {
  MutexLock lock(mutex_);
  if (!lost_.ok()) return false;
  calls_.insert(call);
  return true;
}

void GrpcClientCore::Remove(const std::shared_ptr<GrpcClientCall>& call) {
  MutexLock lock(mutex_);
  calls_.erase(call);
  if (calls_.empty()) idle_.notify_all();
}

void GrpcClientCore::Lose(const absl::Status& status) {
  absl::flat_hash_set<std::shared_ptr<GrpcClientCall>> calls;
  {
    MutexLock lock(mutex_);
    if (lost_.ok()) lost_ = status;
    calls = calls_;
  }
  for (const std::shared_ptr<GrpcClientCall>& call : calls) call->End(status);
}

void GrpcClientCore::Close() {
  Lose(absl::CancelledError("the channel was destroyed"));
  {
    MutexLock lock(mutex_);
    while (!calls_.empty()) idle_.wait(mutex_);
  }
  stub_.reset();
  channel_.reset();
  queue_.reset();
  loans_->WaitUntilNone();
}

absl::Status GrpcClientCore::lost() const {
  MutexLock lock(mutex_);
  return lost_;
}

absl::StatusOr<GrpcConnection> ConnectGrpc(GrpcChannelOptions options, Deadline deadline) {
  if (options.hello.has_value() &&
      (options.hello->size() > kMaxGrpcHelloBytes || options.hello_method >= options.paths.size() ||
       options.paths[options.hello_method].empty())) {
    return absl::InvalidArgumentError(
        absl::StrCat("a hello of ", options.hello->size(), " bytes (at most ", kMaxGrpcHelloBytes,
                     ") by method ", options.hello_method, ", which must have a path"));
  }
  StartGrpcLibrary();
  const std::string address = options.address;
  auto core = std::make_shared<GrpcClientCore>(std::move(options));
  // From here on its destruction closes the core.
  auto channel = std::make_unique<GrpcChannel>(core);
  if (!core->options().hello.has_value()) {
    if (absl::Status status = AwaitConnection(core->channel(), address, deadline); !status.ok()) {
      return Annotate(status, address);
    }
    return GrpcConnection{std::move(channel), ""};
  }
  absl::StatusOr<std::string> reply = SayHello(core, deadline);
  if (!reply.ok()) return Annotate(reply.status(), address);
  return GrpcConnection{std::move(channel), *std::move(reply)};
}

}  // namespace reprise::transport
