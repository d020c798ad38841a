// The carrier inside one process: no sockets, the same contract.
//
// For tests, and for a store embedded in the process that uses it. Everything is delivered on one
// thread that the server owns, so callbacks never come from inside Start, Send or Cancel (except
// that a channel whose server is gone ends calls at once). Bulk is copied into the transport's own
// buffers, as on a real carrier: what the sender attached is released when it is delivered, not
// when the receiver has finished with it.
#pragma once

#include <memory>
#include <string>

#include "common/status.h"
#include "transport/transport.h"

namespace reprise::transport {

class LoopbackHub;

struct LoopbackConnection {
  std::unique_ptr<Channel> channel;
  std::string hello_reply;
};

// Thread-safe. Neither it nor its channels may be destroyed on its own thread (inside a callback or
// handler).
class LoopbackServer final : public Server {
 public:
  // `service` must outlive the server.
  static std::unique_ptr<LoopbackServer> Create(Service& service);
  ~LoopbackServer() override;

  // Says hello first; what the service refuses it with is returned. Channels may outlive the
  // server; they are then no longer alive.
  absl::StatusOr<LoopbackConnection> Connect(std::string_view hello);

  // A channel whose requests carry no session, for what may come before Hello.
  std::unique_ptr<Channel> ConnectWithoutHello();

  // "loopback:N", N counting the servers of this process.
  std::string address() const override;

 private:
  explicit LoopbackServer(Service& service);

  const std::string address_;
  std::shared_ptr<LoopbackHub> hub_;
};

}  // namespace reprise::transport
