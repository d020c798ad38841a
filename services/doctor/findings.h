// What is right, slow or wrong with a machine for Reprise, and what to run to mend it. Pure.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "services/doctor/machine_facts.h"

namespace reprise::doctor {

enum class Verdict : uint8_t {
  kGood,
  kAbsent,  // not there, and nothing needs it
  kSlower,  // works, at less than the machine could do
  kBroken,  // something of Reprise does not work
};

// "ok", "none", "slow", "FAIL".
std::string_view NameOf(Verdict verdict);

struct Finding {
  std::string subject;  // "io_uring"
  Verdict verdict = Verdict::kGood;
  std::string says{};    // what is the case, with numbers
  std::string remedy{};  // what to run or set; empty when nothing is to be done
};

// One for each subject, in the order in which they are worth reading.
std::vector<Finding> Examine(const MachineFacts& machine);

}  // namespace reprise::doctor
