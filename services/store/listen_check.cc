#include "services/store/listen_check.h"

#include <errno.h>
#include <netdb.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

#include "common/host_port.h"

namespace reprise::store {
namespace {

struct Asked {
  HostPort address;
  const char* flag;
  const char* advice;
  int family = AF_UNSPEC;
};

using AddressList = std::unique_ptr<addrinfo, decltype(&freeaddrinfo)>;

// 0, or the errno of what failed.
int TryToBind(const addrinfo& info) {
  const int fd = socket(info.ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return errno;
  const int yes = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
  const int failed = bind(fd, info.ai_addr, info.ai_addrlen) == 0 ? 0 : errno;
  close(fd);
  return failed;
}

std::string Reason(int error, uint16_t port) {
  switch (error) {
    case EADDRINUSE:
      return "another process has the port";
    case EADDRNOTAVAIL:
      return "the address is not one of this machine's";
    case EACCES:
    case EPERM:
      return port > 0 && port < 1024 ? "permission denied; ports below 1024 are for root"
                                     : "permission denied";
    default:
      return strerror(error);
  }
}

absl::Status CannotListen(const Asked& asked, std::string_view reason) {
  return absl::UnavailableError(absl::StrCat("cannot listen on ", FormatHostPort(asked.address),
                                             " (", asked.flag, "): ", std::string(reason), "; ",
                                             asked.advice));
}

absl::Status Check(const Asked& asked) {
  addrinfo hints{};
  hints.ai_family = asked.family;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE;
  addrinfo* raw = nullptr;
  const int unknown = getaddrinfo(asked.address.host.c_str(),
                                  std::to_string(asked.address.port).c_str(), &hints, &raw);
  const AddressList found(raw, freeaddrinfo);
  if (unknown != 0) {
    return CannotListen(asked,
                        absl::StrCat("the host name is not known (", gai_strerror(unknown), ")"));
  }
  int error = 0;
  for (const addrinfo* info = found.get(); info != nullptr; info = info->ai_next) {
    error = TryToBind(*info);
    // A name may stand for several addresses; one that works will do.
    if (error == 0) return absl::OkStatus();
  }
  return CannotListen(asked, Reason(error, asked.address.port));
}

bool Same(const HostPort& a, const HostPort& b) {
  return a.port != 0 && a.port == b.port && a.host == b.host;
}

}  // namespace

absl::Status CheckAddresses(const StoreConfig& config) {
  std::vector<Asked> all;
  const auto ask = [&all](std::string_view text, std::string_view what, const char* flag,
                          const char* advice, int family = AF_UNSPEC) -> absl::Status {
    if (text.empty() || text == kOff) return absl::OkStatus();
    REPRISE_ASSIGN_OR_RETURN(HostPort address, ParseHostPort(text, what));
    all.push_back({std::move(address), flag, advice, family});
    return absl::OkStatus();
  };
  REPRISE_RETURN_IF_ERROR(ask(config.listen, "the listen address", "--listen", "give another"));
  // UCX uses IPv4 only; what it says of an IPv6 literal is clearer than that there is no such host.
  const bool is_ipv6 = config.data.starts_with('[');
  REPRISE_RETURN_IF_ERROR(ask(config.data, "the data address", "--data",
                              "give another, or --data off", is_ipv6 ? AF_UNSPEC : AF_INET));
  REPRISE_RETURN_IF_ERROR(
      ask(config.metrics, "the metrics address", "--metrics", "give another, or --metrics off"));
  for (size_t i = 0; i < all.size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      if (!Same(all[i].address, all[j].address)) continue;
      return absl::InvalidArgumentError(absl::StrCat(all[j].flag, " and ", all[i].flag,
                                                     " are both ", FormatHostPort(all[i].address),
                                                     "; ", all[i].advice));
    }
  }
  for (const Asked& asked : all) REPRISE_RETURN_IF_ERROR(Check(asked));
  return absl::OkStatus();
}

}  // namespace reprise::store
