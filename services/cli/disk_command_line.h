// The options of the commands that look into a store's disk, without a store.
#pragma once

#include <CLI/CLI.hpp>

#include "services/cli/commands.h"

namespace reprise::cli {

void AddFsck(CLI::App& app, FsckFlags& flags);
void AddDu(CLI::App& app, DuFlags& flags);

}  // namespace reprise::cli
