#include <algorithm>

#include "absl/status/status.h"
#include <stdio.h>

#include "common/log.h"
#include "services/cli/commands.h"
#include "services/cli/connection.h"
#include "services/cli/json_line.h"
#include "services/doctor/findings.h"

namespace reprise::cli {
namespace {

using doctor::Finding;
using doctor::Verdict;

// Whether a client on this machine reaches the store, over one carrier.
Finding TryStore(StoreFlags store, const std::string& carrier) {
  store.carrier = carrier;
  Finding finding{.subject = "store, " + carrier};
  const TimePoint begin = Clock::Steady().Now();
  const absl::StatusOr<Connection> connection = Connect(store);
  if (connection.ok()) {
    const auto took =
        std::chrono::duration_cast<std::chrono::microseconds>(Clock::Steady().Now() - begin);
    finding.says = store.address + ": session opened in " + std::to_string(took.count()) + " us";
    return finding;
  }
  finding.verdict = carrier == "grpc" ? Verdict::kBroken : Verdict::kSlower;
  finding.says = std::string(connection.status().message());
  finding.remedy = carrier == "grpc" ? "start it (reprise store), or give the right --store"
                                     : "open the port of its --data address to this machine";
  return finding;
}

void Print(const Finding& finding) {
  printf("%-4s  %-12s  %s\n", std::string(NameOf(finding.verdict)).c_str(), finding.subject.c_str(),
         finding.says.c_str());
  if (!finding.remedy.empty()) printf("      %-12s  mend: %s\n", "", finding.remedy.c_str());
}

}  // namespace

absl::StatusOr<int> Doctor(const DoctorFlags& flags) {
  // What goes wrong is in the findings.
  SetLogLevel(LogLevel::kOff);
  std::vector<Finding> findings = doctor::Examine(doctor::ReadMachine(flags.disk));
  if (flags.try_store) {
    findings.push_back(TryStore(flags.store, "grpc"));
    findings.push_back(TryStore(flags.store, "ucx"));
  }
  for (const Finding& finding : findings) {
    if (flags.store.json) {
      JsonLine()
          .Text("subject", finding.subject)
          .Text("verdict", NameOf(finding.verdict))
          .Text("says", finding.says)
          .Text("mend", finding.remedy)
          .Print();
    } else {
      Print(finding);
    }
  }
  const bool broken = std::any_of(findings.begin(), findings.end(), [](const Finding& finding) {
    return finding.verdict == Verdict::kBroken;
  });
  return broken ? kExitError : kExitOk;
}

}  // namespace reprise::cli
