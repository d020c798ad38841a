// The network devices that UCX can use on this machine, for people who look for the reason why
// bytes travel as they do.
//
// Opens each of UCX's components and closes it again; blocks for as long as drivers take. Not for
// the data path. Thread-safe.
#pragma once

#include <string>
#include <vector>

#include "common/status.h"

namespace reprise::transport {

struct UcxDevice {
  std::string transport{};  // "tcp", "rc_verbs", "rc_mlx5", ...
  std::string device{};     // "eth0", "mlx5_0:1", ...
  bool rdma = false;        // a network card moves the bytes, past the kernel
};

// Network devices, sorted, each transport and device once. UNAVAILABLE when UCX cannot list its
// components.
absl::StatusOr<std::vector<UcxDevice>> ListUcxDevices();

}  // namespace reprise::transport
