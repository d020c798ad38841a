// `./dev crash CYCLES`: prints what was done, what was found, and how long restarts took.

#include <algorithm>
#include <cstdlib>
#include <string>

#include <stdio.h>

#include "services/cli/reprise_process.h"
#include "tests/crash/crash_run.h"

int main(int argc, char** argv) {
  using reprise::crash::CrashOptions;
  using reprise::crash::CrashReport;
  const int cycles = argc > 1 ? std::atoi(argv[1]) : 0;
  if (argc > 3 || cycles < 2) {
    fprintf(stderr, "usage: %s CYCLES [SEED], with 2 cycles or more\n", argv[0]);
    return 2;
  }
  const reprise::cli::ScratchDir scratch;
  CrashOptions options;
  options.cycles = static_cast<uint32_t>(cycles);
  options.seed = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 1;
  options.directory = scratch.Path("disk");
  CrashReport report = reprise::crash::RunCrashes(options);
  std::sort(report.restarts.begin(), report.restarts.end());
  const auto restart_ms = [&](size_t index) -> int64_t {
    return report.restarts.empty() ? 0 : report.restarts[index].count();
  };
  for (const std::string& problem : report.problems) printf("%s\n", problem.c_str());
  printf(
      "%u cycles, %llu publishes of which %llu durable; after restarts %llu pieces read, %llu of "
      "them durable: %llu wrong, %llu lost; restart to first answer: median %lld ms, longest %lld "
      "ms\n",
      report.cycles, static_cast<unsigned long long>(report.publishes),
      static_cast<unsigned long long>(report.durable_publishes),
      static_cast<unsigned long long>(report.pieces_read),
      static_cast<unsigned long long>(report.durable_read),
      static_cast<unsigned long long>(report.wrong), static_cast<unsigned long long>(report.lost),
      static_cast<long long>(restart_ms(report.restarts.size() / 2)),
      static_cast<long long>(restart_ms(report.restarts.size() - 1)));
  const bool good = report.problems.empty() && report.cycles == options.cycles;
  return good ? 0 : 1;
}
