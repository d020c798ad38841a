// Where a coder's time goes, kernel by kernel: a set of kernels that times another set.
//
// One set of clocks per process; one thread at a time.
#pragma once

#include <cstdint>
#include <vector>

#include "codec/progressive/kernels.h"

namespace reprise::bench {

struct Stage {
  const char* name;
  uint64_t ticks = 0;  // of the time stamp counter, without what reading it costs
  uint64_t calls = 0;
};

// Forgets what was measured. `kernels` must outlive the use of what is returned.
progressive::Kernels TimedKernels(const progressive::Kernels& kernels);

// Those that were called, since the last TimedKernels.
std::vector<Stage> MeasuredStages();

uint64_t Ticks();

}  // namespace reprise::bench
