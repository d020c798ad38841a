// Accepts connections on one socket address.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include <ucp/api/ucp.h>

#include "common/status.h"
#include "transport/ucx/socket_address.h"
#include "transport/ucx/ucx_resources.h"

namespace reprise::transport {

struct ConnectionRequest {
  ucp_conn_request_h request = nullptr;
  std::string peer;
};

// Created before and destroyed on the thread of the worker's loop. Callbacks come on that thread.
class Listener {
 public:
  // False turns the connection away.
  using OnConnection = std::function<bool(ConnectionRequest)>;

  // UNAVAILABLE when the address cannot be listened on.
  static absl::StatusOr<std::unique_ptr<Listener>> Create(UcxWorker& worker,
                                                          const SocketAddress& address,
                                                          OnConnection on_connection);
  ~Listener();
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;

  // As bound, the port never 0.
  const SocketAddress& address() const { return address_; }

 private:
  explicit Listener(OnConnection on_connection) : on_connection_(std::move(on_connection)) {}
  static void OnRequest(ucp_conn_request_h request, void* listener);

  const OnConnection on_connection_;
  ucp_listener_h listener_ = nullptr;
  SocketAddress address_;
};

}  // namespace reprise::transport
