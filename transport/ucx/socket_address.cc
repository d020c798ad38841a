#include "transport/ucx/socket_address.h"

#include <netdb.h>

#include <array>
#include <cstring>
#include <memory>

#include "absl/strings/str_cat.h"
#include <arpa/inet.h>

#include "common/host_port.h"

namespace reprise::transport {

SocketAddress SocketAddress::From(const sockaddr_storage& storage) {
  SocketAddress result;
  if (storage.ss_family == AF_INET) {
    std::memcpy(&result.address, &storage, sizeof(result.address));
  }
  return result;
}

std::string SocketAddress::ToString() const {
  std::array<char, INET_ADDRSTRLEN> host{};
  inet_ntop(AF_INET, &address.sin_addr, host.data(), host.size());
  return absl::StrCat(host.data(), ":", ntohs(address.sin_port));
}

absl::StatusOr<std::vector<SocketAddress>> ResolveAddress(std::string_view host_and_port) {
  REPRISE_ASSIGN_OR_RETURN(const HostPort parsed, ParseHostPort(host_and_port, "address"));
  if (IsIpv6(parsed.host)) {
    return absl::InvalidArgumentError(
        absl::StrCat("address \"", std::string(host_and_port),
                     "\" is IPv6, which UCX cannot use here; give an IPv4 address or a name"));
  }
  addrinfo hints{};
  hints.ai_family = AF_INET;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* raw = nullptr;
  const int error =
      getaddrinfo(parsed.host.c_str(), std::to_string(parsed.port).c_str(), &hints, &raw);
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> found(raw, freeaddrinfo);
  if (error != 0) {
    return absl::UnavailableError(
        absl::StrCat("cannot resolve host '", parsed.host, "': ", gai_strerror(error)));
  }
  std::vector<SocketAddress> addresses;
  for (const addrinfo* info = found.get(); info != nullptr; info = info->ai_next) {
    if (info->ai_addrlen != sizeof(sockaddr_in)) continue;
    std::memcpy(&addresses.emplace_back().address, info->ai_addr, sizeof(sockaddr_in));
  }
  if (addresses.empty()) {
    return absl::UnavailableError(absl::StrCat("host '", parsed.host, "' has no IPv4 address"));
  }
  return addresses;
}

}  // namespace reprise::transport
