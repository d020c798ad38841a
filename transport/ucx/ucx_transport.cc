#include "transport/ucx/ucx_transport.h"

#include <utility>
#include <vector>

#include "transport/part_limits.h"
#include "transport/ucx/channel_core.h"
#include "transport/ucx/io_loop.h"
#include "transport/ucx/server_core.h"
#include "transport/ucx/socket_address.h"

namespace reprise::transport {

// ---- server ----

absl::StatusOr<std::unique_ptr<UcxServer>> UcxServer::Create(UcxServerOptions options) {
  if (options.service == nullptr) {
    return absl::InvalidArgumentError("a UCX server needs a service");
  }
  REPRISE_ASSIGN_OR_RETURN(std::vector<SocketAddress> addresses, ResolveAddress(options.listen));
  REPRISE_ASSIGN_OR_RETURN(std::shared_ptr<IoLoop> loop, IoLoop::Shared());
  REPRISE_ASSIGN_OR_RETURN(std::shared_ptr<ServerCore> core,
                           ServerCore::Create(*loop, options, std::move(addresses)));
  absl::StatusOr<std::string> address = core->WaitUntilListening();
  std::unique_ptr<UcxServer> server(
      new UcxServer(std::move(loop), std::move(core), address.ok() ? *address : ""));
  if (!address.ok()) return address.status();
  return server;
}

UcxServer::UcxServer(std::shared_ptr<IoLoop> loop, std::shared_ptr<ServerCore> core,
                     std::string address)
    : loop_(std::move(loop)), core_(std::move(core)), address_(std::move(address)) {}

UcxServer::~UcxServer() { core_->Close(); }

std::string UcxServer::address() const { return address_; }

absl::StatusOr<std::unique_ptr<Registration>> UcxServer::RegisterMemory(ByteSpan memory) {
  return core_->memory().Register(memory);
}

UcxStatistics UcxServer::statistics() const {
  return core_->memory().Statistics(loop_->wire().unknown_senders());
}

std::function<uint64_t()> UcxServer::same_host_bytes() const {
  return [counters = core_->memory().counters] { return counters->same_host_bytes.load(); };
}

// ---- client ----

UcxChannel::UcxChannel(std::shared_ptr<IoLoop> loop, std::shared_ptr<ChannelCore> core)
    : loop_(std::move(loop)), core_(std::move(core)) {}

UcxChannel::~UcxChannel() { core_->Close(); }

std::shared_ptr<Call> UcxChannel::Start(CallRequest request,
                                        std::shared_ptr<CallObserver> observer) {
  return core_->Start(std::move(request), std::move(observer));
}

bool UcxChannel::alive() const { return core_->alive(); }

absl::StatusOr<std::unique_ptr<Registration>> UcxChannel::RegisterMemory(ByteSpan memory) {
  return core_->memory().Register(memory);
}

UcxStatistics UcxChannel::statistics() const {
  return core_->memory().Statistics(loop_->wire().unknown_senders());
}

absl::StatusOr<UcxConnection> ConnectUcx(UcxConnectOptions options, Deadline deadline) {
  REPRISE_RETURN_IF_ERROR(CheckPartSizes(options.hello.size(), 0));
  REPRISE_ASSIGN_OR_RETURN(const std::vector<SocketAddress> addresses,
                           ResolveAddress(options.address));
  REPRISE_ASSIGN_OR_RETURN(const std::shared_ptr<IoLoop> loop, IoLoop::Shared());
  absl::Status failure;
  for (const SocketAddress& address : addresses) {
    REPRISE_ASSIGN_OR_RETURN(std::shared_ptr<ChannelCore> core,
                             ChannelCore::Create(*loop, options, address, deadline));
    auto channel = std::make_unique<UcxChannel>(loop, core);
    absl::StatusOr<std::string> reply = core->WaitForHello();
    if (reply.ok()) return UcxConnection{std::move(channel), *std::move(reply)};
    failure = reply.status();
    if (!absl::IsUnavailable(failure)) break;  // the same on every address
  }
  return failure;
}

}  // namespace reprise::transport
