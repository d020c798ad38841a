#include "common/host_port.h"

#include <charconv>

#include "absl/strings/str_cat.h"

namespace reprise {

absl::StatusOr<HostPort> ParseHostPort(std::string_view text, std::string_view what) {
  const auto refuse = [&] {
    return absl::InvalidArgumentError(
        absl::StrCat(std::string(what), " \"", std::string(text),
                     "\" is not an address: write HOST:PORT, such as 127.0.0.1:7070"));
  };
  const size_t colon = text.rfind(':');
  if (colon == std::string_view::npos || colon == 0) return refuse();
  std::string_view host = text.substr(0, colon);
  const std::string_view port_text = text.substr(colon + 1);
  if (host.front() == '[' && host.back() == ']' && host.size() > 2) {
    host = host.substr(1, host.size() - 2);
  } else if (host.find_first_of(":[]") != std::string_view::npos) {
    return refuse();
  }
  for (const char c : host) {
    if (c <= ' ' || c == '/' || c > '~') return refuse();
  }
  HostPort address{std::string(host), 0};
  const char* end = port_text.data() + port_text.size();
  const auto [rest, error] = std::from_chars(port_text.data(), end, address.port);
  if (error != std::errc{} || rest != end) return refuse();
  return address;
}

std::string FormatHostPort(const HostPort& address) {
  return IsIpv6(address.host) ? absl::StrCat("[", address.host, "]:", address.port)
                              : absl::StrCat(address.host, ":", address.port);
}

bool IsIpv6(std::string_view host) { return host.find(':') != std::string_view::npos; }

bool IsWildcard(std::string_view host) { return host == "0.0.0.0" || host == "::"; }

}  // namespace reprise
