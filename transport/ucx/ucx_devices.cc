#include "transport/ucx/ucx_devices.h"

#include <algorithm>
#include <memory>
#include <string_view>
#include <tuple>

#include <uct/api/uct.h>

#include "transport/ucx/ucx_resources.h"

namespace reprise::transport {
namespace {

bool IsRdma(std::string_view transport) {
  return transport.starts_with("rc") || transport.starts_with("dc") || transport.starts_with("ud");
}

void AddDevicesOf(uct_component_h component, const char* domain, std::vector<UcxDevice>& devices) {
  uct_md_config_t* config = nullptr;
  if (uct_md_config_read(component, nullptr, nullptr, &config) != UCS_OK) return;
  uct_md_h md = nullptr;
  const ucs_status_t opened = uct_md_open(component, domain, config, &md);
  uct_config_release(config);
  // What cannot be opened here cannot be used either.
  if (opened != UCS_OK) return;
  uct_tl_resource_desc_t* resources = nullptr;
  unsigned count = 0;
  if (uct_md_query_tl_resources(md, &resources, &count) == UCS_OK) {
    for (unsigned i = 0; i < count; ++i) {
      if (resources[i].dev_type != UCT_DEVICE_TYPE_NET) continue;
      devices.push_back({.transport = resources[i].tl_name,
                         .device = resources[i].dev_name,
                         .rdma = IsRdma(resources[i].tl_name)});
    }
    uct_release_tl_resource_list(resources);
  }
  uct_md_close(md);
}

void AddDevicesOf(uct_component_h component, std::vector<UcxDevice>& devices) {
  uct_component_attr_t attributes{};
  attributes.field_mask = UCT_COMPONENT_ATTR_FIELD_MD_RESOURCE_COUNT;
  if (uct_component_query(component, &attributes) != UCS_OK) return;
  std::vector<uct_md_resource_desc_t> domains(attributes.md_resource_count);
  attributes.field_mask = UCT_COMPONENT_ATTR_FIELD_MD_RESOURCES;
  attributes.md_resources = domains.data();
  if (uct_component_query(component, &attributes) != UCS_OK) return;
  for (const uct_md_resource_desc_t& domain : domains) {
    AddDevicesOf(component, domain.md_name, devices);
  }
}

}  // namespace

absl::StatusOr<std::vector<UcxDevice>> ListUcxDevices() {
  uct_component_h* components = nullptr;
  unsigned count = 0;
  if (const ucs_status_t status = uct_query_components(&components, &count); status != UCS_OK) {
    return StatusFromUcs(status, "list UCX's components");
  }
  std::vector<UcxDevice> devices;
  for (unsigned i = 0; i < count; ++i) AddDevicesOf(components[i], devices);
  uct_release_component_list(components);
  const auto name = [](const UcxDevice& device) {
    return std::tie(device.transport, device.device);
  };
  std::sort(devices.begin(), devices.end(),
            [&](const UcxDevice& a, const UcxDevice& b) { return name(a) < name(b); });
  devices.erase(
      std::unique(devices.begin(), devices.end(),
                  [&](const UcxDevice& a, const UcxDevice& b) { return name(a) == name(b); }),
      devices.end());
  return devices;
}

}  // namespace reprise::transport
