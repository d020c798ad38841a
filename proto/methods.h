// The methods of reprise.proto as the carriers need them: numbers on UCX, paths on gRPC.
#pragma once

#include <string>
#include <vector>

namespace reprise {

// gRPC paths indexed by Method, for example [5] = "/reprise.v1.Store/Fetch"; empty where no method
// has that number. Derived from the descriptor of reprise.proto, so that a method is declared once.
std::vector<std::string> GrpcPaths();

}  // namespace reprise
