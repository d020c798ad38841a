// How a client reaches a store: the seam between what the SDK does and the network it does it
// over.
//
// Client::Connect uses the connector of network_connector.h; tests give CreateClient one over
// loopback or faulty.
#pragma once

#include <functional>
#include <memory>

#include "client/reprise.h"
#include "client/view.h"
#include "common/clock.h"
#include "common/status.h"
#include "transport/transport.h"

namespace reprise::client {

class Connector {
 public:
  virtual ~Connector() = default;

  // Opens a session and its data path. Called from one thread at a time; blocks until `deadline` at
  // most. Channels may outlive one another but not the connector. Errors as Client::Connect.
  virtual absl::StatusOr<std::unique_ptr<transport::Channel>> Open(Deadline deadline) = 0;
};

// How to reach a node; never null. Called once for each address, on any thread.
using ConnectorOf = std::function<std::unique_ptr<Connector>(const Node& node)>;

// A client of the stores that `membership` names, options.address notwithstanding, with a session
// open to one of them at least. Blocks for options.connect_timeout at most. `clock` times the
// back-off between sessions only, and must outlive the client. Errors as Client::Connect.
absl::StatusOr<std::unique_ptr<Client>> CreateClient(std::unique_ptr<Membership> membership,
                                                     ConnectorOf connector_of,
                                                     const ClientOptions& options,
                                                     const Clock& clock = Clock::Steady());

// Of one store.
absl::StatusOr<std::unique_ptr<Client>> CreateClient(std::unique_ptr<Connector> connector,
                                                     const ClientOptions& options,
                                                     const Clock& clock = Clock::Steady());

}  // namespace reprise::client
