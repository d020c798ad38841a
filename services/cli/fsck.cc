// `reprise fsck`: whether what a store keeps on a disk is intact.

#include <unistd.h>

#include <stdio.h>

#include "services/cli/commands.h"
#include "services/cli/json_line.h"
#include "storage/nvme/nvme_check.h"

namespace reprise::cli {
namespace {

using storage::NvmeCheckReport;

void ShowProgress(uint64_t checked, uint64_t pieces) {
  fprintf(stderr, "\rchecked %llu of %llu pieces", static_cast<unsigned long long>(checked),
          static_cast<unsigned long long>(pieces));
}

void PrintJson(const NvmeCheckReport& report) {
  JsonLine()
      .Number("pieces", report.pieces)
      .Number("bytes", report.bytes)
      .Number("damaged", report.damaged)
      .Number("forgotten", report.forgotten)
      .Bool("index_rebuilt", report.index_rebuilt)
      .Print();
}

void PrintLine(const FsckFlags& flags, const NvmeCheckReport& report) {
  printf("%s: %llu pieces, %llu bytes checked, %llu damaged", flags.directory.c_str(),
         static_cast<unsigned long long>(report.pieces),
         static_cast<unsigned long long>(report.bytes),
         static_cast<unsigned long long>(report.damaged));
  if (report.index_rebuilt) printf(", index rebuilt");
  if (report.forgotten > 0) {
    printf(", %llu forgotten", static_cast<unsigned long long>(report.forgotten));
  } else if (report.damaged > 0) {
    printf("; --repair forgets them");
  }
  printf("\n");
}

}  // namespace

absl::StatusOr<int> Fsck(const FsckFlags& flags) {
  const bool shows_progress = !flags.json && isatty(STDERR_FILENO) != 0;
  storage::NvmeCheckOptions options{.directory = flags.directory, .repair = flags.repair};
  if (shows_progress) options.progress = ShowProgress;
  const absl::StatusOr<NvmeCheckReport> report = storage::CheckNvme(options);
  if (shows_progress) fprintf(stderr, "\r\033[K");
  if (!report.ok()) return report.status();
  for (const std::string& problem : report->problems) fprintf(stderr, "%s\n", problem.c_str());
  if (report->damaged > report->problems.size()) {
    fprintf(stderr, "and more, which are not named here\n");
  }
  if (flags.json) {
    PrintJson(*report);
  } else {
    PrintLine(flags, *report);
  }
  return report->damaged == report->forgotten ? kExitOk : kExitError;
}

}  // namespace reprise::cli
