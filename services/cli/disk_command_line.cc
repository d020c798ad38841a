#include "services/cli/disk_command_line.h"

namespace reprise::cli {

void AddFsck(CLI::App& app, FsckFlags& flags) {
  CLI::App& command =
      *app.add_subcommand("fsck", "Check every byte of a store's disk; the store must be stopped");
  command.add_option("DIR", flags.directory, "What the store was given as --disk")->required();
  command.add_flag("--repair", flags.repair, "Forget what is damaged; rebuild a lost index");
  command.add_flag("--json", flags.json, "Print JSON");
  command.footer(
      "Examples:\n  reprise fsck /var/lib/reprise\n  reprise fsck /var/lib/reprise --repair\n"
      "What is damaged goes to standard error, a line for each of the first 20; exit code 1 when\n"
      "anything is, unless it was repaired. Without --repair nothing is changed.");
}

void AddDu(CLI::App& app, DuFlags& flags) {
  CLI::App& command = *app.add_subcommand("du", "Show where the bytes of a store's disk are");
  command.add_option("DIR", flags.directory, "What the store was given as --disk")->required();
  command.add_flag("--json", flags.json, "Print JSON");
  command.footer("Example:\n  reprise du /var/lib/reprise\nThe store may be running.");
}

}  // namespace reprise::cli
