#include "codec/progressive/kernels.h"

#include "codec/progressive/avx512_kernels.h"

namespace reprise::progressive {
namespace {

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
      return nullptr;
    case InstructionSet::kAvx512:
      return HasAvx512() ? &Avx512Kernels() : nullptr;
  }
  return nullptr;
}

const Kernels& BestKernels() {
  static const Kernels& best = HasAvx512() ? Avx512Kernels() : ScalarKernels();
  return best;
}

}  // namespace reprise::progressive
