#include "transport/conformance.h"
#include "transport/ucx/testing/test_address.h"
#include "transport/ucx/ucx_transport.h"

namespace reprise::transport {
namespace {

class UcxUnderTest final : public CarrierUnderTest {
 public:
  explicit UcxUnderTest(bool same_host) : same_host_(same_host) {}

  absl::StatusOr<std::unique_ptr<Server>> StartServer(Service& service) override {
    return UcxServer::Create(
        {.listen = TestAddress(), .service = &service, .same_host = same_host_});
  }

  absl::StatusOr<ConformanceConnection> Connect(Server& server, std::string hello,
                                                Deadline deadline) override {
    REPRISE_ASSIGN_OR_RETURN(UcxConnection connection, ConnectUcx({.address = server.address(),
                                                                   .hello = std::move(hello),
                                                                   .same_host = same_host_},
                                                                  deadline));
    return ConformanceConnection{std::move(connection.channel), std::move(connection.hello_reply)};
  }

 private:
  const bool same_host_;
};

INSTANTIATE_TEST_SUITE_P(
    Ucx, CarrierConformance,
    ::testing::Values(
        CarrierParam{"ucx", [] { return std::make_unique<UcxUnderTest>(/*same_host=*/false); }},
        CarrierParam{"ucx_same_host",
                     [] { return std::make_unique<UcxUnderTest>(/*same_host=*/true); }}),
    CarrierName);

}  // namespace
}  // namespace reprise::transport
