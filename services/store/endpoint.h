// "host:port" as flags and configuration files name where to listen.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "common/status.h"

namespace reprise::store {

struct Endpoint {
  std::string host;
  uint16_t port = 0;
};

// "127.0.0.1:7070", "localhost:0", "[::1]:7070"; the host comes without brackets. INVALID_ARGUMENT,
// naming `what` and quoting `text`, otherwise.
absl::StatusOr<Endpoint> ParseEndpoint(std::string_view text, std::string_view what);

// The reverse, with brackets around an IPv6 host.
std::string FormatEndpoint(const Endpoint& endpoint);

// True for the hosts that mean every interface: "0.0.0.0" and "::".
bool IsWildcard(std::string_view host);

}  // namespace reprise::store
