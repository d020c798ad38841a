#include "codec/progressive/kernels.h"

#include <cpuid.h>

#include "codec/progressive/avx2_kernels.h"
#include "codec/progressive/avx512_kernels.h"

namespace reprise::progressive {
namespace {

// Not all compilers know F16C by name.
bool HasF16c() {
  unsigned eax = 0;
  unsigned ebx = 0;
  unsigned ecx = 0;
  unsigned edx = 0;
  return __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
}

bool HasAvx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2") &&
         __builtin_cpu_supports("popcnt") && HasF16c();
}

bool HasAvx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512vbmi2");
}

}  // namespace

const Kernels* KernelsOf(InstructionSet set) {
  switch (set) {
    case InstructionSet::kScalar:
      return &ScalarKernels();
    case InstructionSet::kAvx2:
      return HasAvx2() ? &Avx2Kernels() : nullptr;
    case InstructionSet::kAvx512:
      return HasAvx512() ? &Avx512Kernels() : nullptr;
  }
  return nullptr;
}

const Kernels& BestKernels() {
  static const Kernels& best = HasAvx512() ? Avx512Kernels()
                               : HasAvx2() ? Avx2Kernels()
                                           : ScalarKernels();
  return best;
}

}  // namespace reprise::progressive
