// What both ends of the protocol must agree on: the methods of reprise.proto as the carriers need
// them (numbers on UCX, paths on gRPC), and the versions spoken.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace reprise {

// gRPC paths indexed by Method, for example [5] = "/reprise.v1.Store/Fetch"; empty where no method
// has that number. Derived from the descriptor of reprise.proto, so that a method is declared once.
std::vector<std::string> GrpcPaths();

// Versions of the protocol, lowest to highest.
struct VersionRange {
  uint32_t lowest = 0;
  uint32_t highest = 0;
};

// What this build speaks, client and store alike.
inline constexpr VersionRange kProtocolVersions{.lowest = 1, .highest = 1};

// The highest version that both speak; nullopt when there is none. Neither range is empty.
std::optional<uint32_t> HighestCommonVersion(VersionRange ours, VersionRange theirs);

}  // namespace reprise
