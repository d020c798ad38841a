// The arithmetic that tile encoder and tile decoder share. Pure functions and constants.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>

#include "chunk/namespace.h"
#include "codec/progressive/float16.h"
#include "codec/progressive/format.h"
#include "codec/progressive/kernels.h"
#include "codec/progressive/tables.h"
#include "codec/progressive/tail.h"

namespace reprise::progressive {

inline constexpr uint32_t kRunChannels = 16;
inline constexpr uint32_t kGroupRows = 2 * kRunChannels;

// One channel of a tile.
template <typename Value>
struct alignas(64) ChannelOf : std::array<Value, kTileTokens> {};

// Means are stored in units of this many steps.
inline constexpr float kMeanStep = 0.5F;
inline constexpr float kMeanIndexLimit = 32000;
inline constexpr uint32_t kStoredClassMaximum = kClassMaximum + kClassBias;

// What a token's mean square is multiplied by before its power of two is chosen: V in steps 0.3
// octaves finer than the nearest.
inline constexpr float kTokenBias = 0.66F;

// The base step: V in units of a token's own deviation; K as it is, but times the power of two that
// brings it within these multiples of its deviation. docs/codec.md has the measurements.
inline constexpr float kTokenStep = 1.0F;
inline constexpr float kKeyStep = 2.0F;
inline constexpr float kFinestStep = 16;
inline constexpr float kCoarsestStep = 1.2F;
inline constexpr float kMeanWeight = 0.3F;
inline constexpr float kSmallestMean = 0x1p-10F;  // squared, in steps
inline constexpr float kLargestMean = 0x1p100F;
inline constexpr float kSmallestDeviation = 0x1p-60F;

// `exponent` is at most 126 in magnitude.
inline float PowerOfTwo(int32_t exponent) {
  return std::bit_cast<float>(static_cast<uint32_t>(exponent + 127) << 23);
}

// Of `plane`; a quotient would be the same, and take longer.
inline float HalfCell(float step, uint32_t plane) {
  return step * PowerOfTwo(-static_cast<int32_t>(plane + 1));
}

// Half a cell of `plane`, shrunk: what 2 * cell + 1 is multiplied by.
inline float ScaleOf(float step, uint32_t stored_class, uint32_t plane) {
  const int32_t class_at_level = static_cast<int32_t>(stored_class) - kClassBias +
                                 static_cast<int32_t>(plane) * kClassesPerOctave;
  return HalfCell(step, plane) * Shrink(class_at_level);
}

// The lossless plane starts from the last lossy plane's cell. Where nothing is rotated a cell holds
// exactly the numbers from one multiple of a power of two to the next (UnrotatedStep), so it starts
// from the end nearest to zero and what is left are raw bits. A rotated value has a bell of errors
// around the reconstruction, so it starts from that.
inline Placement TailPlacement(float step, uint32_t stored_class, float mean,
                               const float* token_scales, bool rotated) {
  const uint32_t plane = kLossyPlanes - 1;
  return {.scale = rotated ? ScaleOf(step, stored_class, plane) : HalfCell(step, plane),
          .mean = mean,
          .token_scales = token_scales,
          .to_end = !rotated};
}

// The power of two at or below `value`, which is positive and finite.
inline float PowerOfTwoBelow(float value) {
  int exponent = 0;
  std::frexp(value, &exponent);
  return std::ldexp(1.0F, exponent - 1);
}

// Tokens of V differ in size, and attention reads the small ones too: each has a power of two that
// its deviations from the channels' means are measured in. Stored are the smallest exponent and
// what the others have above it, 4 bits each.
inline constexpr int32_t kTokenExponentLimit = 100;
inline constexpr uint32_t kTokenExponentRange = 15;

struct TokenScales {
  alignas(64) std::array<float, kTileTokens> scales{};
  alignas(64) std::array<float, kTileTokens> factors{};  // 1 / scales

  void Set(uint32_t token, int32_t exponent) {
    scales[token] = PowerOfTwo(exponent);
    factors[token] = PowerOfTwo(-exponent);
  }
};

// Tiles with larger magnitudes, as bits, are not coded: reconstructions of bf16 must stay finite.
inline uint32_t LargestCoded(Dtype dtype) { return dtype == Dtype::kBf16 ? 0x7E00 : 0x7BFF; }

// A channel's step.
inline float FinerStep(float step, int32_t octaves) { return step * PowerOfTwo(-octaves); }

// `token_scales` are powers of two.
inline void FillTailFormat(Dtype dtype, float step, const float* token_scales, TailFormat* format) {
  const float last_step = step / static_cast<float>(1U << (kLossyPlanes - 1));
  format->mantissa_bits = dtype == Dtype::kBf16 ? 7 : 10;
  for (uint32_t token = 0; token < kTileTokens; ++token) {
    const float token_step = token_scales == nullptr ? last_step : last_step * token_scales[token];
    const uint32_t magnitude = dtype == Dtype::kBf16 ? Bf16Of(token_step) : Fp16Of(token_step);
    format->step_exponents[token] = static_cast<uint16_t>(magnitude >> format->mantissa_bits);
  }
}

// One for each step that a tile's channels have.
class TailFormats {
 public:
  void Clear() { filled_.fill(false); }
  const TailFormat& For(Dtype dtype, float step, int32_t octaves, const float* token_scales) {
    const auto index = static_cast<uint32_t>(octaves + kOctaveLimit + 1);
    if (!filled_[index]) {
      FillTailFormat(dtype, FinerStep(step, octaves), token_scales, &formats_[index]);
      filled_[index] = true;
    }
    return formats_[index];
  }

 private:
  static constexpr size_t kCount = 2 * (kOctaveLimit + 1);
  std::array<bool, kCount> filled_{};
  std::array<TailFormat, kCount> formats_;
};

}  // namespace reprise::progressive
