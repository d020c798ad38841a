// How the lossless plane names a value: the arithmetic that scalar and vector kernels share.
//
// A value's bits are mapped to an integer that grows with the value, with the exponents far below
// the step folded away. Coded is the distance from the last lossy reconstruction, in units that
// depend on how fine the numbers are there (the context), and then the rest as raw bits. Near zero
// (context 0) numbers get finer and finer, and the value itself is coded, not a distance.
#pragma once

#include <algorithm>
#include <cstdint>

#include "codec/progressive/format.h"
#include "codec/progressive/kernels.h"

namespace reprise::progressive {

// Exponents below the step that still have symbols of their own near zero.
inline constexpr uint32_t kTailOctaves = 5;

struct TailContext {
  uint32_t context;
  uint32_t low_bits;
};

inline uint32_t LowBitsOf(const TailFormat& format, uint32_t context) {
  // A unit is a quarter of the step, or a whole octave near zero.
  const uint32_t taken = context == 0 ? 0 : context + 1;
  return format.mantissa_bits > taken ? format.mantissa_bits - taken : 0;
}

inline TailContext ContextOf(const TailFormat& format, uint32_t step_exponent,
                             uint32_t guess_magnitude) {
  const uint32_t exponent = guess_magnitude >> format.mantissa_bits;
  const uint32_t context =
      exponent < step_exponent ? 0 : std::min(exponent - step_exponent, kTailContexts - 2) + 1;
  return {context, LowBitsOf(format, context)};
}

// Smaller magnitudes are coded as escapes.
inline uint32_t MagnitudeFloor(const TailFormat& format, uint32_t step_exponent) {
  return (step_exponent - std::min(step_exponent, kTailOctaves)) << format.mantissa_bits;
}

}  // namespace reprise::progressive
