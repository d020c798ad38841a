#include "transport/grpc/grpc_server.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include <grpcpp/server_builder.h>

#include "common/host_port.h"
#include "transport/grpc/grpc_library.h"
#include "transport/grpc/grpc_server_call.h"

namespace reprise::transport {
namespace {

constexpr std::chrono::milliseconds kShutdownGrace{500};
constexpr std::chrono::seconds kSweepInterval{5};
// Calls of one connection at once; a client's further calls wait in the client.
constexpr int kMaxStreamsPerConnection = 256;
constexpr int kKeepaliveMs = 10'000;
constexpr int kKeepaliveTimeoutMs = 5'000;
// Clients may ping this often; ours do every 10 s.
constexpr int kMinPingIntervalMs = 2'000;

}  // namespace

class ReceiveBudget::Charged {
 public:
  Charged(std::shared_ptr<ReceiveBudget> budget, BufferPool::Buffer buffer)
      : budget_(std::move(budget)), buffer_(std::move(buffer)) {}
  ~Charged() {
    const size_t bytes = buffer_.bytes.size();
    buffer_.owner.reset();
    budget_->Release(bytes);
  }
  Charged(const Charged&) = delete;
  Charged& operator=(const Charged&) = delete;

 private:
  const std::shared_ptr<ReceiveBudget> budget_;
  BufferPool::Buffer buffer_;
};

bool ReceiveBudget::Admit(std::shared_ptr<GrpcServerCall> call) {
  {
    MutexLock lock(mutex_);
    if (waiting_.size() >= kMaxWaitingReads) return false;
    waiting_.push_back(std::move(call));
  }
  Serve();
  return true;
}

SharedBytes ReceiveBudget::Charge(BufferPool::Buffer buffer) {
  {
    MutexLock lock(mutex_);
    used_ += buffer.bytes.size();
  }
  const ByteSpan bytes = buffer.bytes;
  return SharedBytes(bytes, std::make_shared<Charged>(shared_from_this(), std::move(buffer)));
}

void ReceiveBudget::Release(size_t bytes) {
  {
    MutexLock lock(mutex_);
    used_ -= bytes;
  }
  Serve();
}

std::shared_ptr<GrpcServerCall> ReceiveBudget::TakeNext() {
  MutexLock lock(mutex_);
  const bool room = used_ == 0 || used_ + kReadBytes <= limit_;
  if (waiting_.empty() || !room) return nullptr;
  used_ += kReadBytes;
  std::shared_ptr<GrpcServerCall> next = std::move(waiting_.front());
  waiting_.pop_front();
  return next;
}

void ReceiveBudget::Serve() {
  while (const std::shared_ptr<GrpcServerCall> call = TakeNext()) {
    if (call->ReadRequest()) continue;
    MutexLock lock(mutex_);
    used_ -= kReadBytes;
  }
}

GrpcServerCore::GrpcServerCore(GrpcServerOptions options, Service& service)
    : options_(std::move(options)),
      service_(service),
      sessions_(service, *options_.clock, options_.session_idle),
      budget_(std::make_shared<ReceiveBudget>(options_.max_received_bytes)),
      stranger_budget_(std::make_shared<ReceiveBudget>(2 * ReceiveBudget::kReadBytes)),
      pool_(BufferPool::Create(kGrpcPoolBytes)),
      loans_(std::make_shared<BulkLoans>()) {
  for (size_t i = 0; i < options_.paths.size(); ++i) {
    if (!options_.paths[i].empty()) methods_.emplace(options_.paths[i], static_cast<MethodId>(i));
  }
}

absl::Status GrpcServerCore::Listen() {
  REPRISE_ASSIGN_OR_RETURN(HostPort bound, ParseHostPort(options_.listen, "the listen address"));
  if (options_.threads == 0) return absl::InvalidArgumentError("a server needs a thread");
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort(options_.listen, grpc::InsecureServerCredentials(), &port);
  // By default two servers on one port would share its connections.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, kMaxStreamsPerConnection);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveTimeoutMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS,
                             kMinPingIntervalMs);
  builder.SetMaxReceiveMessageSize(kMaxGrpcMessageBytes);
  builder.SetMaxSendMessageSize(kMaxGrpcMessageBytes);
  builder.RegisterAsyncGenericService(&generic_);
  std::vector<std::unique_ptr<grpc::ServerCompletionQueue>> queues;
  for (size_t i = 0; i < options_.threads; ++i) queues.push_back(builder.AddCompletionQueue());
  server_ = builder.BuildAndStart();
  for (auto& queue : queues) {
    queues_.push_back(std::make_unique<GrpcQueue>(std::move(queue), "grpc-server"));
  }
  if (server_ == nullptr || port == 0) {
    return absl::UnavailableError(
        absl::StrCat("cannot listen on ", options_.listen,
                     ": the port is in use or the address is not one of this machine's"));
  }
  bound.port = static_cast<uint16_t>(port);
  address_ = FormatHostPort(bound);
  for (const auto& queue : queues_) RequestCall(*queue);
  SweepLater();
  return absl::OkStatus();
}

GrpcServerCore::~GrpcServerCore() {
  if (server_ != nullptr) Stop();
}

void GrpcServerCore::Stop() {
  {
    MutexLock lock(listen_mutex_);
    stopping_ = true;
  }
  for (const auto& call : Calls()) {
    call->Kill(absl::UnavailableError("the server is shutting down"));
  }
  sweep_alarm_.Cancel();
  server_->Shutdown(std::chrono::system_clock::now() + kShutdownGrace);
  {
    MutexLock lock(mutex_);
    while (!calls_.empty()) idle_.wait(mutex_);
  }
  queues_.clear();
  server_.reset();
  sessions_.LoseAll();
  loans_->WaitUntilNone();
}

void GrpcServerCore::RequestCall(GrpcQueue& queue) {
  auto call = std::make_shared<GrpcServerCall>(*this, queue);
  MutexLock lock(listen_mutex_);
  if (stopping_) return;
  {
    MutexLock calls_lock(mutex_);
    calls_.insert(call);
  }
  call->Accept();
}

void GrpcServerCore::Remove(const std::shared_ptr<GrpcServerCall>& call) {
  MutexLock lock(mutex_);
  calls_.erase(call);
  if (calls_.empty()) idle_.notify_all();
}

void GrpcServerCore::LoseSession(const std::shared_ptr<GrpcSession>& session) {
  for (const auto& call : Calls()) {
    if (call->BelongsTo(session.get())) {
      call->Kill(absl::UnavailableError("the session's connection is gone"));
    }
  }
  sessions_.Lose(session);
}

std::optional<MethodId> GrpcServerCore::FindMethod(const std::string& path) const {
  if (path == "/grpc.health.v1.Health/Check") return kHealthCheck;
  const auto found = methods_.find(path);
  if (found == methods_.end()) return std::nullopt;
  return found->second;
}

std::vector<std::shared_ptr<GrpcServerCall>> GrpcServerCore::Calls() {
  MutexLock lock(mutex_);
  return {calls_.begin(), calls_.end()};
}

void GrpcServerCore::SweepLater() {
  MutexLock lock(listen_mutex_);
  if (stopping_) return;
  const Duration interval =
      std::min<Duration>({kSweepInterval, options_.session_idle, options_.read_timeout});
  sweep_alarm_.Set(
      queues_.front()->get(),
      ToGrpcDeadline(Deadline::After(std::max<Duration>(interval, std::chrono::milliseconds(10)))),
      sweep_.Arm());
}

void GrpcServerCore::OnSweep(bool ok) {
  if (!ok) return;
  sessions_.LoseIdle();
  const TimePoint slow = options_.clock->Now() - options_.read_timeout;
  for (const auto& call : Calls()) call->EndSlowRead(slow);
  SweepLater();
}

absl::StatusOr<std::unique_ptr<GrpcServer>> GrpcServer::Create(GrpcServerOptions options,
                                                               Service& service) {
  StartGrpcLibrary();
  auto core = std::make_unique<GrpcServerCore>(std::move(options), service);
  REPRISE_RETURN_IF_ERROR(core->Listen());
  return std::unique_ptr<GrpcServer>(new GrpcServer(std::move(core)));
}

GrpcServer::GrpcServer(std::unique_ptr<GrpcServerCore> core) : core_(std::move(core)) {}

GrpcServer::~GrpcServer() = default;

std::string GrpcServer::address() const { return core_->address(); }

}  // namespace reprise::transport
