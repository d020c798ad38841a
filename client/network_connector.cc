#include "client/network_connector.h"

#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"

#include "common/host_port.h"
#include "common/log.h"
#include "proto/methods.h"
#include "proto/reprise.pb.h"
#include "transport/grpc/grpc_channel.h"
#include "transport/ucx/ucx_transport.h"

namespace reprise::client {
namespace {

std::string HelloMessage(const std::string& token) {
  v1::HelloRequest hello;
  hello.set_token(token);
  hello.set_lowest_version(kProtocolVersions.lowest);
  hello.set_highest_version(kProtocolVersions.highest);
  return hello.SerializeAsString();
}

absl::Status CheckHelloReply(const std::string& message) {
  v1::HelloReply reply;
  if (reply.ParseFromString(message) && reply.version() >= kProtocolVersions.lowest &&
      reply.version() <= kProtocolVersions.highest) {
    return absl::OkStatus();
  }
  return absl::UnimplementedError(absl::StrCat("the store chose protocol version ", reply.version(),
                                               "; this client speaks ", kProtocolVersions.lowest,
                                               " to ", kProtocolVersions.highest));
}

}  // namespace

absl::StatusOr<std::unique_ptr<transport::Channel>> NetworkConnector::Open(Deadline deadline) {
  REPRISE_ASSIGN_OR_RETURN(Ticket ticket, OpenSession(deadline));
  if (options_.carrier == Carrier::kGrpc) {
    LogCarrier("grpc", "asked for");
    return OpenGrpc(ticket, deadline);
  }
  if (options_.carrier == Carrier::kUcx) {
    if (ticket.data_address.empty()) {
      return absl::UnavailableError(absl::StrCat(
          "the store at ", address_, " offers no UCX data path; use carrier grpc or auto"));
    }
    LogCarrier("ucx", "asked for");
    return OpenUcx(ticket, deadline);
  }
  if (ticket.data_address.empty()) {
    LogCarrier("grpc", "the store offers no UCX data path");
    return OpenGrpc(ticket, deadline);
  }
  const Duration left = deadline.RemainingAt(Clock::Steady().Now());
  auto ucx = OpenUcx(ticket, Deadline::After(left / 2));
  if (ucx.ok()) {
    LogCarrier("ucx", absl::StrCat("the store offers it at ", ticket.data_address));
    return ucx;
  }
  LogCarrier("grpc",
             absl::StrCat("UCX at ", ticket.data_address, " failed: ", ucx.status().message()));
  // The hello that failed may have used the token up.
  REPRISE_ASSIGN_OR_RETURN(ticket, OpenSession(deadline));
  return OpenGrpc(ticket, deadline);
}

absl::StatusOr<NetworkConnector::Ticket> NetworkConnector::OpenSession(Deadline deadline) const {
  REPRISE_ASSIGN_OR_RETURN(
      transport::GrpcConnection control,
      transport::ConnectGrpc(
          {.address = address_, .paths = GrpcPaths(), .hello_method = 0, .hello = {}}, deadline));
  v1::OpenSessionRequest request;
  request.set_tenant(options_.tenant);
  request.set_credential(options_.credential);
  const absl::StatusOr<transport::UnaryReply> answer =
      transport::CallAndWait(*control.channel, {.method = v1::OPEN_SESSION,
                                                .message = request.SerializeAsString(),
                                                .bulk = {},
                                                .deadline = deadline});
  // Every store knows this method; a web server or another gRPC service does not.
  if (absl::IsUnimplemented(answer.status())) {
    return absl::UnavailableError(absl::StrCat(
        "what answers at ", address_, " is not a Reprise store (", answer.status().message(), ")"));
  }
  if (!answer.ok()) return answer.status();
  v1::OpenSessionReply reply;
  if (!reply.ParseFromString(answer->message)) {
    return absl::InternalError(
        absl::StrCat("what answers at ", address_, " is not a Reprise store"));
  }
  Ticket ticket{
      .token = reply.token(), .data_address = reply.data_address(), .same_host = reply.same_host()};
  if (ticket.data_address.empty()) return ticket;
  if (ticket.data_address.starts_with(':')) {
    // The host that was called.
    ticket.data_address = address_.substr(0, address_.rfind(':')) + ticket.data_address;
  }
  if (!ParseHostPort(ticket.data_address, "the data address").ok()) {
    return absl::InternalError(
        absl::StrCat("the store names \"", ticket.data_address, "\" as its data address"));
  }
  return ticket;
}

absl::StatusOr<std::unique_ptr<transport::Channel>> NetworkConnector::OpenUcx(
    const Ticket& ticket, Deadline deadline) const {
  REPRISE_ASSIGN_OR_RETURN(transport::UcxConnection data,
                           transport::ConnectUcx({.address = ticket.data_address,
                                                  .hello = HelloMessage(ticket.token),
                                                  .receive_bytes = options_.receive_bytes,
                                                  .same_host = ticket.same_host},
                                                 deadline));
  REPRISE_RETURN_IF_ERROR(CheckHelloReply(data.hello_reply));
  return std::move(data.channel);
}

absl::StatusOr<std::unique_ptr<transport::Channel>> NetworkConnector::OpenGrpc(
    const Ticket& ticket, Deadline deadline) const {
  REPRISE_ASSIGN_OR_RETURN(transport::GrpcConnection data,
                           transport::ConnectGrpc({.address = address_,
                                                   .paths = GrpcPaths(),
                                                   .hello_method = v1::HELLO,
                                                   .hello = HelloMessage(ticket.token)},
                                                  deadline));
  REPRISE_RETURN_IF_ERROR(CheckHelloReply(data.hello_reply));
  return std::move(data.channel);
}

void NetworkConnector::LogCarrier(const std::string& carrier, const std::string& why) {
  std::string choice = absl::StrCat(carrier, ": ", why);
  if (choice == logged_) return;
  logged_ = std::move(choice);
  LogDebug("data path", {{"store", address_}, {"carrier", carrier}, {"why", why}});
}

}  // namespace reprise::client

namespace reprise {

absl::StatusOr<std::unique_ptr<Client>> Client::Connect(ClientOptions options) {
  REPRISE_ASSIGN_OR_RETURN(client::View view, client::ParseView(options.address));
  return client::CreateClient(
      std::make_unique<client::StaticMembership>(std::move(view)),
      [options](const client::Node& node) {
        return std::make_unique<client::NetworkConnector>(options, node.address);
      },
      options);
}

}  // namespace reprise
