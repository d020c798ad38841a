// The data path carrier: UCX active messages, bulk by rendezvous into registered slots.
//
// On RDMA hardware bulk is written by the network card; elsewhere TCP carries it. Frames are
// described in frame.h. The UCX settings are in ucx_settings.h; what the user sets in the
// environment wins. One thread of a process drives all its channels and servers (io_loop.h): it
// makes the calls to services and observers, and channels and servers must not be created or
// destroyed on it.
//
// UCX itself trusts whoever can open a connection to its port: the checks of this carrier begin
// with well-formed UCX traffic. The port belongs on a trusted network.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "common/bytes.h"
#include "common/clock.h"
#include "common/limits.h"
#include "common/status.h"
#include "transport/transport.h"

namespace reprise::transport {

class ChannelCore;
class IoLoop;
class ServerCore;

// Heap that a server or a channel uses at most for bulk too small for rendezvous that came when no
// receive memory was free. More of it ends its calls with RESOURCE_EXHAUSTED. A channel's is for 16
// such parts of each call that it may have open.
inline constexpr size_t kMaxParkedCopyBytes = 16 * kMiB;
inline constexpr size_t kMaxChannelParkedCopyBytes = 64 * kMiB;

// What happened since the carrier's start, for metrics.
struct UcxStatistics {
  uint64_t protocol_violations = 0;  // endpoints closed for a malformed frame
  uint64_t unknown_calls = 0;        // replies to requests never made; ignored
  uint64_t unknown_senders = 0;      // frames from nobody known, in the whole process; ignored
  uint64_t refused_requests = 0;     // over the window of open calls
  uint64_t refused_endpoints = 0;    // over the limit of endpoints
  uint64_t parked_parts = 0;         // bulk that had to wait for a receive slot
  uint64_t free_receive_bytes = 0;   // receive memory in nobody's hands; may lag
  uint64_t same_host_bytes = 0;      // of bulk that a client read from its server's memory
};

struct UcxServerOptions {
  // "host:port", IPv4 (see socket_address.h); port 0 takes a free one.
  std::string listen;
  // Must outlive the server.
  Service* service = nullptr;
  // Registered memory for requests' bulk: a multiple of kMaxPartBytes, at least two of them. One
  // session uses at most half of it.
  size_t receive_bytes = 64 * kMiB;
  // Lets clients of this user id on this host read large bulk from this process's memory, of which
  // they may then read all.
  bool same_host = false;
  // Must outlive the server.
  const Clock* clock = &Clock::Steady();
};

class UcxServer final : public Server {
 public:
  // INVALID_ARGUMENT for a malformed address or bad sizes, UNAVAILABLE when the address cannot be
  // listened on (in use, not of this machine), RESOURCE_EXHAUSTED for want of memory. May ask a
  // name server for the host.
  static absl::StatusOr<std::unique_ptr<UcxServer>> Create(UcxServerOptions options);
  ~UcxServer() override;
  UcxServer(const UcxServer&) = delete;
  UcxServer& operator=(const UcxServer&) = delete;

  std::string address() const override;
  absl::StatusOr<std::unique_ptr<Registration>> RegisterMemory(ByteSpan memory) override;

  UcxStatistics statistics() const;
  // UcxStatistics::same_host_bytes, for callers that may outlive the server. Thread-safe.
  std::function<uint64_t()> same_host_bytes() const;

 private:
  UcxServer(std::shared_ptr<IoLoop> loop, std::shared_ptr<ServerCore> core, std::string address);

  const std::shared_ptr<IoLoop> loop_;
  const std::shared_ptr<ServerCore> core_;
  const std::string address_;
};

class UcxChannel final : public Channel {
 public:
  // Made by ConnectUcx.
  UcxChannel(std::shared_ptr<IoLoop> loop, std::shared_ptr<ChannelCore> core);
  ~UcxChannel() override;
  UcxChannel(const UcxChannel&) = delete;
  UcxChannel& operator=(const UcxChannel&) = delete;

  std::shared_ptr<Call> Start(CallRequest request, std::shared_ptr<CallObserver> observer) override;
  bool alive() const override;
  std::string_view carrier() const override { return "ucx"; }
  absl::StatusOr<std::unique_ptr<Registration>> RegisterMemory(ByteSpan memory) override;

  UcxStatistics statistics() const;

 private:
  const std::shared_ptr<IoLoop> loop_;
  const std::shared_ptr<ChannelCore> core_;
};

struct UcxConnectOptions {
  // "host:port" of a UcxServer.
  std::string address;
  // The service's hello message.
  std::string hello;
  // Registered memory for parts on their way in or unreleased: a multiple of kMaxPartBytes, at
  // least two of them.
  size_t receive_bytes = 64 * kMiB;
  // The server is known to have been told same_host: if it is on this host, read large bulk from
  // its memory. Where that is not possible, and for any other server, bulk is sent as ever; a
  // server of an earlier version refuses to talk.
  bool same_host = false;
  // Must outlive the channel.
  const Clock* clock = &Clock::Steady();
};

struct UcxConnection {
  std::unique_ptr<UcxChannel> channel;
  std::string hello_reply;
};

// Connects and says hello; blocks until `deadline` at most, except that resolving a host's name may
// take longer. INVALID_ARGUMENT for a malformed address or bad sizes, UNAVAILABLE when nobody
// answers there, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED for want of memory, or what the service
// refused the hello with.
absl::StatusOr<UcxConnection> ConnectUcx(UcxConnectOptions options, Deadline deadline);

}  // namespace reprise::transport
