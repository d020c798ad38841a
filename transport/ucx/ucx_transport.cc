#include "transport/ucx/ucx_transport.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

#include "transport/part_limits.h"
#include "transport/ucx/channel_core.h"
#include "transport/ucx/listener.h"
#include "transport/ucx/registration.h"
#include "transport/ucx/server_loop.h"
#include "transport/ucx/socket_address.h"

namespace reprise::transport {

// ---- server ----

class ServerCore {
 public:
  ServerCore(Service& service, const Clock& clock, std::shared_ptr<UcxContext> ucx)
      : context(std::move(ucx)), shared(service, clock) {}

  const std::shared_ptr<UcxContext> context;
  ServerShared shared;
  std::vector<std::shared_ptr<ServerLoop>> loops;
  std::string address;

  // On the thread of the first loop. Sessions go to the loops in turn and stay there.
  bool OnConnection(ConnectionRequest request) {
    if (shared.endpoints >= kMaxEndpoints || shared.half_open >= kMaxHalfOpenEndpoints) {
      ++shared.counters.refused_endpoints;
      return false;
    }
    ++shared.endpoints;
    ++shared.half_open;
    loops[next_loop_++ % loops.size()]->Adopt(std::move(request));
    return true;
  }

  absl::StatusOr<std::unique_ptr<Listener>> Listen(std::string_view host_and_port) {
    REPRISE_ASSIGN_OR_RETURN(const std::vector<SocketAddress> addresses,
                             ResolveAddress(host_and_port));
    absl::StatusOr<std::unique_ptr<Listener>> listener;
    for (const SocketAddress& at : addresses) {
      listener = Listener::Create(loops.front()->worker(), at, [this](ConnectionRequest request) {
        return OnConnection(std::move(request));
      });
      if (listener.ok()) break;
    }
    return listener;
  }

 private:
  size_t next_loop_ = 0;
};

absl::StatusOr<std::unique_ptr<UcxServer>> UcxServer::Create(UcxServerOptions options) {
  if (options.service == nullptr || options.io_threads == 0) {
    return absl::InvalidArgumentError("a UCX server needs a service and at least one I/O thread");
  }
  REPRISE_ASSIGN_OR_RETURN(std::shared_ptr<UcxContext> context, UcxContext::Shared());
  auto core = std::make_unique<ServerCore>(*options.service, *options.clock, std::move(context));
  for (size_t i = 0; i < options.io_threads; ++i) {
    REPRISE_ASSIGN_OR_RETURN(
        std::shared_ptr<ServerLoop> loop,
        ServerLoop::Create(core->context, options.receive_bytes, core->shared));
    core->loops.push_back(std::move(loop));
  }
  REPRISE_ASSIGN_OR_RETURN(std::unique_ptr<Listener> listener, core->Listen(options.listen));
  core->address = listener->address().ToString();
  for (const std::shared_ptr<ServerLoop>& loop : core->loops) {
    loop->Start(std::exchange(listener, nullptr));
  }
  return std::unique_ptr<UcxServer>(new UcxServer(std::move(core)));
}

UcxServer::UcxServer(std::unique_ptr<ServerCore> core) : core_(std::move(core)) {}

UcxServer::~UcxServer() {
  for (const std::shared_ptr<ServerLoop>& loop : core_->loops) loop->BeginShutdown();
  for (const std::shared_ptr<ServerLoop>& loop : core_->loops) loop->Join();
}

std::string UcxServer::address() const { return core_->address; }

absl::StatusOr<std::unique_ptr<Registration>> UcxServer::RegisterMemory(ByteSpan memory) {
  return UcxRegistration::Create(core_->context, core_->shared.memory, memory);
}

UcxStatistics UcxServer::statistics() const {
  uint64_t free_bytes = 0;
  for (const std::shared_ptr<ServerLoop>& loop : core_->loops) free_bytes += loop->free_bytes();
  return Snapshot(core_->shared.counters, free_bytes);
}

// ---- client ----

UcxChannel::UcxChannel(std::shared_ptr<ChannelCore> core) : core_(std::move(core)) {}

UcxChannel::~UcxChannel() { core_->Close(); }

std::shared_ptr<Call> UcxChannel::Start(CallRequest request,
                                        std::shared_ptr<CallObserver> observer) {
  return core_->Start(std::move(request), std::move(observer));
}

bool UcxChannel::alive() const { return core_->alive(); }

absl::StatusOr<std::unique_ptr<Registration>> UcxChannel::RegisterMemory(ByteSpan memory) {
  return core_->RegisterMemory(memory);
}

UcxStatistics UcxChannel::statistics() const { return core_->statistics(); }

absl::StatusOr<UcxConnection> ConnectUcx(UcxConnectOptions options, Deadline deadline) {
  REPRISE_RETURN_IF_ERROR(CheckPartSizes(options.hello.size(), 0));
  REPRISE_ASSIGN_OR_RETURN(const std::vector<SocketAddress> addresses,
                           ResolveAddress(options.address));
  absl::Status failure;
  for (const SocketAddress& address : addresses) {
    REPRISE_ASSIGN_OR_RETURN(std::shared_ptr<ChannelCore> core,
                             ChannelCore::Create(options, address, deadline));
    auto channel = std::make_unique<UcxChannel>(core);
    absl::StatusOr<std::string> reply = core->WaitForHello();
    if (reply.ok()) return UcxConnection{std::move(channel), *std::move(reply)};
    failure = reply.status();
    if (!absl::IsUnavailable(failure)) break;  // the same on every address
  }
  return failure;
}

}  // namespace reprise::transport
