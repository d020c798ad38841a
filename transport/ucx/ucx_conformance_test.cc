#include "transport/conformance.h"
#include "transport/ucx/ucx_transport.h"

namespace reprise::transport {
namespace {

class UcxUnderTest final : public CarrierUnderTest {
 public:
  explicit UcxUnderTest(size_t io_threads) : io_threads_(io_threads) {}

  absl::StatusOr<std::unique_ptr<Server>> StartServer(Service& service) override {
    return UcxServer::Create(
        {.listen = "127.0.0.1:0", .service = &service, .io_threads = io_threads_});
  }

  absl::StatusOr<ConformanceConnection> Connect(Server& server, std::string hello,
                                                Deadline deadline) override {
    REPRISE_ASSIGN_OR_RETURN(
        UcxConnection connection,
        ConnectUcx({.address = server.address(), .hello = std::move(hello)}, deadline));
    return ConformanceConnection{std::move(connection.channel), std::move(connection.hello_reply)};
  }

 private:
  const size_t io_threads_;
};

INSTANTIATE_TEST_SUITE_P(
    Ucx, CarrierConformance,
    ::testing::Values(CarrierParam{"ucx", [] { return std::make_unique<UcxUnderTest>(1); }},
                      CarrierParam{"ucx_two_io_threads",
                                   [] { return std::make_unique<UcxUnderTest>(2); }}),
    CarrierName);

}  // namespace
}  // namespace reprise::transport
