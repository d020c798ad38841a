// Where the tests of this carrier listen: a free port of 127.0.0.1, or of the IPv4 address in the
// environment variable REPRISE_UCX_TEST_HOST. An RDMA device has no loopback address, so that
// tests/rdma names the device's own.
//
// Thread-safe as long as nobody changes the environment.
#pragma once

#include <cstdlib>
#include <string>

namespace reprise::transport {

inline std::string TestAddress() {
  const char* const host = std::getenv("REPRISE_UCX_TEST_HOST");
  return std::string(host != nullptr ? host : "127.0.0.1") + ":0";
}

}  // namespace reprise::transport
