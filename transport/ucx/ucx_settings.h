// The UCX settings that Reprise needs, in one place, so that the carrier and the yardstick
// (ucx_perftest, run by `./dev bench wire`) use the same ones.
//
// A setting that the user has put into the environment (UCX_<NAME>) always wins.
#pragma once

#include <string>
#include <vector>

namespace reprise::transport {

struct UcxSetting {
  std::string name;  // without the "UCX_" in front of the environment variable
  std::string value;
};

// What to set on this machine, in the order to set it. Depends only on whether an RDMA device
// exists.
std::vector<UcxSetting> UcxSettings();

}  // namespace reprise::transport
