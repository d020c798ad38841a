// bf16 and fp16 as bits, and float: the conversions of the progressive codec, defined in integers
// so that they are the same on every machine. Pure functions.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

namespace reprise::progressive {

inline float FloatOfBf16(uint16_t bits) {
  return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
}

// To the nearest, ties to even; beyond the largest finite number: that number. Not for NaN.
inline uint16_t Bf16Of(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  const uint32_t rounded = std::min((bits & 0x7FFFFFFF) + 0x7FFF + (bits >> 16 & 1), 0x7F7FFFFFU);
  return static_cast<uint16_t>((rounded | (bits & 0x80000000)) >> 16);
}

// To the nearest, ties away from zero; for magnitudes below 2^127.
inline uint16_t NearestBf16(float value) {
  return static_cast<uint16_t>((std::bit_cast<uint32_t>(value) + 0x8000) >> 16);
}

inline float FloatOfFp16(uint16_t bits) {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000) << 16;
  const uint32_t magnitude = bits & 0x7FFF;
  if (magnitude >= 0x7C00) return std::bit_cast<float>(sign | magnitude << 13 | 0x7F800000);
  if (magnitude < 0x400) {
    const float value = static_cast<float>(magnitude) * 0x1p-24F;
    return sign != 0 ? -value : value;
  }
  return std::bit_cast<float>(sign | ((magnitude << 13) + (112U << 23)));
}

// As Bf16Of.
inline uint16_t Fp16Of(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  const uint32_t sign = bits >> 16 & 0x8000;
  const uint32_t magnitude = std::min(bits & 0x7FFFFFFF, std::bit_cast<uint32_t>(65504.0F));
  if (magnitude < 0x38800000) {
    // Denormal: adding 0.5 leaves the rounded multiple of 2^-24 in the low bits.
    const float shifted = std::bit_cast<float>(magnitude) + 0.5F;
    return static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(shifted) - 0x3F000000));
  }
  const uint32_t rounded = magnitude - (112U << 23) + 0xFFF + (magnitude >> 13 & 1);
  return static_cast<uint16_t>(sign | rounded >> 13);
}

}  // namespace reprise::progressive
