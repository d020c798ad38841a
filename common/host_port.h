// "host:port", as flags, configuration files and peers name where to listen or connect. Pure
// functions.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "common/status.h"

namespace reprise {

struct HostPort {
  std::string host;
  uint16_t port = 0;
};

// "127.0.0.1:7070", "localhost:0", "[::1]:7070"; the host comes without brackets. INVALID_ARGUMENT,
// naming `what` and quoting `text`, otherwise.
absl::StatusOr<HostPort> ParseHostPort(std::string_view text, std::string_view what);

// The reverse, with brackets around an IPv6 host.
std::string FormatHostPort(const HostPort& address);

// True for an IPv6 literal, such as the host of "[::1]:7070"; names may still resolve to either.
bool IsIpv6(std::string_view host);

// True for the hosts that mean every interface: "0.0.0.0" and "::".
bool IsWildcard(std::string_view host);

}  // namespace reprise
