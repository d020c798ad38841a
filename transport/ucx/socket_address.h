// "host:port" text and the IPv4 socket addresses behind it.
//
// IPv4 only: UCX 1.13 writes beyond a heap block when it accepts a connection over IPv6 while its
// TCP devices have IPv4 addresses too. Over IPv6 there is the gRPC carrier.
#pragma once

#include <sys/socket.h>

#include <string>
#include <string_view>
#include <vector>

#include <netinet/in.h>

#include "common/status.h"

namespace reprise::transport {

struct SocketAddress {
  sockaddr_in address{};

  // From what UCX reports.
  static SocketAddress From(const sockaddr_storage& storage);

  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&address); }
  static constexpr socklen_t size() { return sizeof(sockaddr_in); }
  // Numeric "host:port".
  std::string ToString() const;
};

// The addresses of "host:port", at least one. May ask a name server and so block, unless the host
// is numeric or in the hosts file. INVALID_ARGUMENT for malformed text and for IPv6 hosts,
// UNAVAILABLE when the name has no IPv4 address.
absl::StatusOr<std::vector<SocketAddress>> ResolveAddress(std::string_view host_and_port);

}  // namespace reprise::transport
