// The client's end of the gRPC carrier.
//
// A channel is one HTTP/2 connection of its own, served by one thread of its own. With a hello, it
// holds one call open for as long as it lives: when that call ends, the connection is lost, and the
// server knows as soon that the client is gone. Without a hello it carries what may come before:
// OpenSession.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/clock.h"
#include "common/status.h"
#include "transport/transport.h"

namespace reprise::transport {

struct GrpcChannelOptions {
  // "host:port".
  std::string address{};
  // gRPC paths by MethodId (proto/methods.h); empty for a number that is no method.
  std::vector<std::string> paths{};
  // The method that says hello, and its message of at most 1 KiB; none for a channel without a
  // session.
  MethodId hello_method = 0;
  std::optional<std::string> hello{};
};

struct GrpcConnection {
  std::unique_ptr<Channel> channel;
  // Empty without a hello.
  std::string hello_reply;
};

// Connects and says hello; blocks until `deadline` at most. UNAVAILABLE when nobody answers at the
// address, DEADLINE_EXCEEDED, INVALID_ARGUMENT for unusable options, or what the service refused
// the hello with.
//
// The channel must not be destroyed on its own thread, that is inside an observer. Without a hello
// alive() stays true: there is no session to lose, and gRPC connects again by itself.
absl::StatusOr<GrpcConnection> ConnectGrpc(GrpcChannelOptions options, Deadline deadline);

}  // namespace reprise::transport
