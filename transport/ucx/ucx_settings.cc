#include "transport/ucx/ucx_settings.h"

#include <filesystem>
#include <system_error>

namespace reprise::transport {
namespace {

bool HasRdmaDevice() {
  std::error_code error;
  const std::filesystem::directory_iterator devices("/sys/class/infiniband", error);
  return !error && devices != std::filesystem::directory_iterator();
}

}  // namespace

std::vector<UcxSetting> UcxSettings() {
  std::vector<UcxSetting> settings = {
      // The sender writes into the receiver's slots; nobody may read the sender's memory.
      {"UCX_RNDV_SCHEME", "RNDV_SCHEME", "put_zcopy"},
      // UCX 1.13's emulated put over TCP aborts the process now and then (an assertion in tcp_ep.c
      // about acknowledgements); without it bulk goes as large active messages.
      {"UCX_TCP_PUT_ENABLE", "PUT_ENABLE", "n"},
      // Large TCP fragments win back what peer error handling costs on TCP.
      {"UCX_TCP_RX_SEG_SIZE", "RX_SEG_SIZE", "1M"},
      // A restarted store gets its port back while old connections linger in TIME_WAIT.
      {"UCX_TCP_CM_REUSEADDR", "", "y"},
  };
  // Shared memory has no peer failure detection in this UCX and would never be chosen. Leaving it
  // out saves its segments and its polling.
  if (!HasRdmaDevice()) settings.push_back({"UCX_TLS", "TLS", "tcp"});
  return settings;
}

}  // namespace reprise::transport
