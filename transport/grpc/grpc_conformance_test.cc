#include "absl/strings/str_cat.h"

#include "transport/conformance.h"
#include "transport/grpc/grpc_channel.h"
#include "transport/grpc/grpc_server.h"

namespace reprise::transport {
namespace {

std::vector<std::string> Paths() {
  std::vector<std::string> paths(1);
  for (int i = 1; i < kConformanceMethods; ++i)
    paths.push_back(absl::StrCat("/conformance.Test/M", i));
  return paths;
}

class GrpcUnderTest final : public CarrierUnderTest {
 public:
  absl::StatusOr<std::unique_ptr<Server>> StartServer(Service& service) override {
    return GrpcServer::Create(
        GrpcServerOptions{.listen = "127.0.0.1:0", .paths = Paths(), .hello_method = kHelloMethod},
        service);
  }

  absl::StatusOr<ConformanceConnection> Connect(Server& server, std::string hello,
                                                Deadline deadline) override {
    REPRISE_ASSIGN_OR_RETURN(GrpcConnection connection, ConnectGrpc({.address = server.address(),
                                                                     .paths = Paths(),
                                                                     .hello_method = kHelloMethod,
                                                                     .hello = std::move(hello)},
                                                                    deadline));
    return ConformanceConnection{std::move(connection.channel), std::move(connection.hello_reply)};
  }

  std::optional<absl::StatusOr<std::unique_ptr<Channel>>> ConnectWithoutHello(
      Server& server, Deadline deadline) override {
    absl::StatusOr<GrpcConnection> connection = ConnectGrpc(
        {.address = server.address(), .paths = Paths(), .hello_method = 0, .hello = std::nullopt},
        deadline);
    if (!connection.ok()) return connection.status();
    return std::move(connection->channel);
  }

  // HTTP/2's flow control window, which gRPC widens as it measures, and a part being read ahead.
  size_t parts_buffered_ahead() const override { return 20; }
};

INSTANTIATE_TEST_SUITE_P(Grpc, CarrierConformance,
                         ::testing::Values(CarrierParam{
                             "grpc", [] { return std::make_unique<GrpcUnderTest>(); }}),
                         CarrierName);

}  // namespace
}  // namespace reprise::transport
