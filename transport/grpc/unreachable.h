// Why nobody could be reached at an address, in words: gRPC says only that it failed.
#pragma once

#include <string>

#include "common/clock.h"

namespace reprise::transport {

// Asks the system after a failure: whether the name of "host:port" is known, and whether anybody
// takes connections there. Thread-safe. Blocks for a second at most and not beyond `deadline`,
// beside looking up the name, which gRPC has just done.
std::string WhyUnreachable(const std::string& address, Deadline deadline);

}  // namespace reprise::transport
