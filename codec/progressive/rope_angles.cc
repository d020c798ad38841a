#include "codec/progressive/rope_angles.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "codec/progressive/format.h"

namespace reprise::progressive {
namespace {

// Taylor series around 0 for an angle of at most an eighth of a turn, in Horner's order.
double SmallSine(double x) {
  const double s = x * x;
  return x * (1 + s * (-1.0 / 6 + s * (1.0 / 120 + s * (-1.0 / 5040 + s * (1.0 / 362880)))));
}

double SmallCosine(double x) {
  const double s = x * x;
  return 1 + s * (-0.5 + s * (1.0 / 24 + s * (-1.0 / 720 + s * (1.0 / 40320))));
}

}  // namespace

uint64_t TurnsOf(double radians_per_position) {
  const double turns = radians_per_position / (2 * std::numbers::pi);
  return static_cast<uint64_t>(std::ldexp(turns, 64));
}

SineCosine SineCosineOf(uint64_t turns) {
  // The nearest quarter turn, and the signed rest of at most an eighth.
  const uint64_t quarter = (turns + (uint64_t{1} << 61)) >> 62;
  const auto rest = static_cast<int64_t>(turns - (quarter << 62));
  const double x = static_cast<double>(rest) * (2 * std::numbers::pi * 0x1p-64);
  const auto sine = static_cast<float>(SmallSine(x));
  const auto cosine = static_cast<float>(SmallCosine(x));
  switch (quarter & 3) {
    case 0:
      return {sine, cosine};
    case 1:
      return {cosine, -sine};
    case 2:
      return {-sine, -cosine};
    default:
      return {-cosine, sine};
  }
}

void RopeTable::Fill(std::span<const uint64_t> rates, uint64_t first_position) {
  if (first_position == first_position_ && std::ranges::equal(rates, rates_)) return;
  rates_.assign(rates.begin(), rates.end());
  first_position_ = first_position;
  values_.resize(rates.size() * 2 * kTileTokens);
  float* at = values_.data();
  for (const uint64_t rate : rates) {
    uint64_t turns = rate * first_position;
    for (uint32_t i = 0; i < kTileTokens; ++i, turns += rate) {
      const SineCosine value = SineCosineOf(turns);
      at[i] = value.cosine;
      at[kTileTokens + i] = value.sine;
    }
    at += 2 * kTileTokens;
  }
}

const float* RopeTable::cosine(uint32_t pair) const {
  return values_.data() + size_t{pair} * 2 * kTileTokens;
}

const float* RopeTable::sine(uint32_t pair) const { return cosine(pair) + kTileTokens; }

}  // namespace reprise::progressive
