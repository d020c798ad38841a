#include "services/store/version.h"

#include <stdio.h>

#include "chunk/container.h"
#include "services/cli/commands.h"
#include "services/cli/json_line.h"
#include "services/store/sessions.h"

namespace reprise::cli {

absl::StatusOr<int> Version(bool json) {
  const std::string software(store::SoftwareVersion());
  if (json) {
    JsonLine()
        .Text("software", software)
        .Number("protocol", store::kHighestVersion)
        .Number("container", kContainerVersion)
        .Print();
  } else {
    printf("reprise %s, protocol %u, container %u\n", software.c_str(), store::kHighestVersion,
           kContainerVersion);
  }
  return kExitOk;
}

}  // namespace reprise::cli
