// From argv to a command that is ready to run.
#pragma once

#include <functional>

#include "common/status.h"

namespace reprise::cli {

struct ParsedCommand {
  // Empty when there is nothing to run: help was printed, or the usage was wrong and said so on
  // standard error.
  std::function<absl::StatusOr<int>()> run;
  int exit_code = 0;  // when `run` is empty
};

// Blocks only to print.
ParsedCommand ParseCommandLine(int argc, const char* const* argv);

}  // namespace reprise::cli
