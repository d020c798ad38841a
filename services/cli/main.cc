// The `reprise` executable: parses, runs, and turns an error into one line.

#include <algorithm>
#include <string>

#include <stdio.h>
#include <stdlib.h>

#include "services/cli/command_line.h"
#include "services/cli/commands.h"

int main(int argc, char** argv) {
  // gRPC writes what goes wrong to standard error too; here the status says it. What the user sets
  // wins.
  setenv("GRPC_VERBOSITY", "NONE", 0);
  const reprise::cli::ParsedCommand command = reprise::cli::ParseCommandLine(argc, argv);
  if (!command.run) return command.exit_code;
  const absl::StatusOr<int> exit_code = command.run();
  if (exit_code.ok()) {
    // Output that did not reach its reader is an error too.
    if (fflush(stdout) == 0 && ferror(stdout) == 0) return *exit_code;
    fprintf(stderr, "reprise: cannot write to standard output\n");
    return reprise::cli::kExitError;
  }
  std::string message(exit_code.status().message());
  std::replace(message.begin(), message.end(), '\n', ' ');
  fprintf(stderr, "reprise: %s\n", message.c_str());
  return reprise::cli::kExitError;
}
