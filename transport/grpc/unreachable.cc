#include "transport/grpc/unreachable.h"

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <memory>

#include "absl/strings/str_cat.h"

#include "common/host_port.h"

namespace reprise::transport {
namespace {

constexpr std::chrono::milliseconds kConnectTimeout{1'000};

// 0 when somebody takes the connection, else the errno of what failed.
int TryToConnect(const addrinfo& info, Deadline deadline) {
  const int fd = socket(info.ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return errno;
  int error = connect(fd, info.ai_addr, info.ai_addrlen) == 0 ? 0 : errno;
  if (error == EINPROGRESS) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
        deadline.RemainingAt(Clock::Steady().Now()));
    const auto timeout_ms = static_cast<int>(std::min(left, kConnectTimeout).count());
    pollfd writable{fd, POLLOUT, 0};
    socklen_t size = sizeof(error);
    if (poll(&writable, 1, timeout_ms) != 1) {
      error = ETIMEDOUT;
    } else if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0) {
      error = errno;
    }
  }
  close(fd);
  return error;
}

}  // namespace

std::string WhyUnreachable(const std::string& address, Deadline deadline) {
  const absl::StatusOr<HostPort> parsed = ParseHostPort(address, "the address");
  if (!parsed.ok()) return std::string(parsed.status().message());
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* raw = nullptr;
  const int unknown =
      getaddrinfo(parsed->host.c_str(), std::to_string(parsed->port).c_str(), &hints, &raw);
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> found(raw, freeaddrinfo);
  if (unknown != 0) {
    return absl::StrCat("the host name is not known (", gai_strerror(unknown), ")");
  }
  const int error = TryToConnect(*found, deadline);
  if (error == 0) {
    return "what listens there does not answer as a store does; is it the store's --listen "
           "address?";
  }
  if (error == ECONNREFUSED) return "nobody listens there; is a store running?";
  return strerror(error);
}

}  // namespace reprise::transport
