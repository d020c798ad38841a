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
  // While handlers hold more received bulk than this, no further request is read. What was being
  // read may exceed it.
  size_t max_received_bytes = 256 * kMiB;
  Duration session_idle = std::chrono::minutes(10);
  // What session_idle is measured with. Must outlive the server.
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
