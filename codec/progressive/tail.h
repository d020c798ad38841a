// How the lossless plane names a value: what scalar and vector kernels share.
//
// A value's bits are mapped to a 16-bit integer that grows with the value, with the exponents far
// below the step folded away. Coded is the distance from the last lossy reconstruction, in units
// that depend on how fine the numbers are there, and then the rest as raw bits. Near zero numbers
// get finer and finer, and the value itself is coded, not a distance. All of it is modulo 2^16.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include "codec/progressive/format.h"

namespace reprise::progressive {

// By the guess's exponent against the step's: below it; so far above that a unit, a quarter of the
// step, is a representable number or more; one octave more; beyond.
enum TailContext : uint8_t { kTailNear, kTailFine, kTailHalf, kTailWhole };
inline constexpr uint32_t kTailContexts = 4;

// Exponents below the step that still have symbols of their own near zero.
inline constexpr uint32_t kTailOctaves = 6;

// What the lossless plane of one tensor shares.
struct TailFormat {
  uint32_t mantissa_bits = 0;  // 7 or 10
  // Per token, the exponent field of the last plane's step in the tensor's dtype.
  alignas(64) std::array<uint16_t, kTileTokens> step_exponents{};
};

// A prefix code per context; the code of a symbol lies in the lowest bits.
struct TailCode {
  // By context * kTailSlots + the next 6 bits: symbol, length << 8.
  alignas(64) std::array<uint16_t, kTailContexts * kTailSlots> by_slot{};
  // The same for lookups of 16 entries at a time, in two tables of two contexts: symbol | length <<
  // 4, exclusive or what lies 16 entries before.
  alignas(64) std::array<uint8_t, kTailContexts * kTailSlots> changes_by_slot{};
  // By context * kTailSymbols + symbol: code, length << 8. A symbol without a code has the
  // escape's, where the context has an escape, or kNoCode.
  alignas(64) std::array<uint16_t, kTailContexts * kTailSymbols> by_symbol{};
};
inline constexpr uint16_t kNoCode = 0xFFFF;

// What split_tail returns when a symbol has no code in a context without an escape.
inline constexpr uint32_t kUncodable = UINT32_MAX;

// What the tail codes of one channel: 0 to 16 bits per value, lowest first.
struct TailBits {
  alignas(64) std::array<uint16_t, kTileTokens> bits{};
  alignas(64) std::array<uint8_t, kTileTokens> lengths{};
};

// `above`: the guess's exponent minus the step's.
inline TailContext TailContextOf(uint32_t mantissa_bits, int32_t above) {
  if (above < 0) return kTailNear;
  const int32_t spare = static_cast<int32_t>(mantissa_bits) - above;
  if (spare >= 2) return kTailFine;
  return spare == 1 ? kTailHalf : kTailWhole;
}

inline uint32_t LowBitsOf(uint32_t mantissa_bits, int32_t above) {
  if (above < 0) return mantissa_bits;
  return static_cast<uint32_t>(std::max(static_cast<int32_t>(mantissa_bits) - 2 - above, 0));
}

// Smaller magnitudes are coded as escapes.
inline uint32_t MagnitudeFloor(uint32_t mantissa_bits, uint32_t step_exponent) {
  return (step_exponent - std::min(step_exponent, kTailOctaves)) << mantissa_bits;
}

// The codes (tail_codes.cc): of values that were turned, whose errors have a bell around the guess;
// of others, which lie between their cell's ends, from the one nearest to zero; and of others
// where cells are not exactly the numbers between two multiples of a power of two.
enum class TailKind : uint8_t { kTurned, kAligned, kLoose };
const TailCode& TailCodeOf(TailKind kind);

}  // namespace reprise::progressive
