// The UCX settings that Reprise needs, in one place, so that the carrier and the yardstick
// (ucx_perftest, run by `./dev bench wire`) use the same ones.
//
// A setting that the user has put into the environment (UCX_<NAME>) always wins.
#pragma once

#include <string>
#include <vector>

namespace reprise::transport {

struct UcxSetting {
  std::string variable;  // in the environment, for example "UCX_TCP_RX_SEG_SIZE"
  // The name that ucp_config_modify takes: without the transport's prefix, which UCX 1.13 does not
  // recognize there. Empty: UCX reads this one from the environment only. Everything else stays out
  // of the environment, because an engine in this process may use UCX for itself.
  std::string key;
  std::string value;
};

// What to set on this machine, in the order to set it. Depends only on whether an RDMA device
// exists.
std::vector<UcxSetting> UcxSettings();

}  // namespace reprise::transport
