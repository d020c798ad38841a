// Reaches a store over the network: OpenSession on gRPC, then a data path on UCX or gRPC.
#pragma once

#include <string>
#include <utility>

#include "client/connector.h"
#include "client/reprise.h"
#include "common/clock.h"
#include "common/status.h"
#include "transport/transport.h"

namespace reprise::client {

class NetworkConnector final : public Connector {
 public:
  // `address` instead of options.address.
  NetworkConnector(const ClientOptions& options, std::string address)
      : options_(options), address_(std::move(address)) {}

  // With Carrier::kAuto, a UCX data path that does not come up within half of the time left is
  // given up for gRPC; which carrier it became, and why, is logged when it differs from the time
  // before.
  absl::StatusOr<std::unique_ptr<transport::Channel>> Open(Deadline deadline) override;

 private:
  struct Ticket {
    std::string token;
    std::string data_address;  // of the UCX data path; empty: there is none
    bool same_host = false;    // bulk may be read there by clients on the store's host
  };

  absl::StatusOr<Ticket> OpenSession(Deadline deadline) const;
  absl::StatusOr<std::unique_ptr<transport::Channel>> OpenUcx(const Ticket& ticket,
                                                              Deadline deadline) const;
  absl::StatusOr<std::unique_ptr<transport::Channel>> OpenGrpc(const Ticket& ticket,
                                                               Deadline deadline) const;
  void LogCarrier(const std::string& carrier, const std::string& why);

  const ClientOptions options_;
  const std::string address_;
  std::string logged_;  // carrier and reason that were logged last
};

}  // namespace reprise::client
