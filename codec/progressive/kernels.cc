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

void TailTables::Set(uint32_t context, const Frequencies& frequencies) {
  const SlotTable table = MakeSlotTable(frequencies);
  for (uint32_t slot = 0; slot < kSlots; ++slot) {
    packed[context * kSlots + slot] = table.symbol[slot] |
                                      static_cast<uint32_t>(table.frequency[slot]) << 8 |
                                      static_cast<uint32_t>(table.bias[slot]) << 16;
  }
}

void TailSymbolTables::Set(uint32_t context, const Frequencies& frequencies) {
  const SymbolTable table = MakeSymbolTable(frequencies);
  for (uint32_t symbol = 0; symbol < kTailSymbols; ++symbol) {
    packed[context * kTailSymbols + symbol] =
        table.frequency[symbol] | static_cast<uint32_t>(table.first[symbol]) << 8;
  }
}

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
