#include "services/store/version.h"

#include <stdio.h>

#include "chunk/container.h"
#include "proto/methods.h"
#include "services/cli/commands.h"
#include "services/cli/json_line.h"

namespace reprise::cli {

absl::StatusOr<int> Version(bool json) {
  const std::string software(store::SoftwareVersion());
  if (json) {
    JsonLine()
        .Text("software", software)
        .Number("protocol", kProtocolVersions.highest)
        .Number("container", kContainerVersion)
        .Print();
  } else {
    printf("reprise %s, protocol %u, container %u\n", software.c_str(), kProtocolVersions.highest,
           kContainerVersion);
  }
  return kExitOk;
}

}  // namespace reprise::cli
