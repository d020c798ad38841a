// The server's end of the gRPC carrier.
//
// Any gRPC client can call it: the calls are ordinary unary or server-streaming calls of the paths
// it was given. A client says who it is with the metadata "reprise-hello-bin" on each call; the
// service's Hello runs once for each (connection, hello) and its session is kept until the
// connection's holding call ends (our own channels make one) or until it was not used for
// `session_idle`. The standard health check (grpc.health.v1) is answered with SERVING.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "common/clock.h"
#include "common/limits.h"
#include "common/status.h"
#include "transport/transport.h"

namespace reprise::transport {

struct GrpcServerOptions {
  // "host:port"; port 0 takes a free one.
  std::string listen{};
  // gRPC paths by MethodId (proto/methods.h); empty for a number that is no method.
  std::vector<std::string> paths{};
  // The method whose request is a hello and whose reply the service's Hello gives.
  MethodId hello_method = 0;
  // Threads that move bytes and run handlers, each with its own calls.
  size_t threads = 2;
  // Bulk that handlers hold, and requests being read, each counted as the largest there is; no
  // further request is read meanwhile, but always one. Calls without a hello have room for two
  // beside it, so that strangers do not keep sessions waiting.
  size_t max_received_bytes = 256 * kMiB;
  // A call whose turn to be read has come must have sent its request within this, or ends with
  // DEADLINE_EXCEEDED: it keeps others from being read.
  Duration read_timeout = std::chrono::seconds(20);
  Duration session_idle = std::chrono::minutes(10);
  // What both are measured with. Must outlive the server.
  const Clock* clock = &Clock::Steady();
};

class GrpcServerCore;

// Thread-safe. Must not be destroyed on one of its own threads, that is inside a handler.
class GrpcServer final : public Server {
 public:
  // `service` must outlive the server. UNAVAILABLE when the address cannot be listened on (it is in
  // use, or not this machine's), INVALID_ARGUMENT for unusable options.
  static absl::StatusOr<std::unique_ptr<GrpcServer>> Create(GrpcServerOptions options,
                                                            Service& service);
  // Gives clients half a second to take the news before their connections are closed.
  ~GrpcServer() override;

  std::string address() const override;

 private:
  explicit GrpcServer(std::unique_ptr<GrpcServerCore> core);

  const std::unique_ptr<GrpcServerCore> core_;
};

}  // namespace reprise::transport
