// How K was rotated by its position, in numbers alone, so that whoever has the namespace can undo
// it and two engines that rotate alike say so alike.
//
// Pair i of a head, at position p, is turned by the angle p * f[i] and made m times as long, where
// theta, the scaling kind and its parameters give f and m; docs/keys.md has the formulas. Plain
// values, not thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "common/status.h"

namespace reprise {

// Which of the d rotated channels form pair i: 2i and 2i + 1, or i and i + d / 2. The rotated
// channels are the first of a head; of a latent, whose rotated part follows what is not, the last.
enum class RopePairing : uint8_t { kNone = 0, kInterleaved = 1, kHalves = 2 };

// Which rule changes the frequencies from theta^(-2i / d), and what its parameters are, in order.
enum class RopeScaling : uint8_t {
  kNone = 0,     // no parameters
  kLinear = 1,   // factor
  kLlama3 = 2,   // factor, low frequency factor, high frequency factor, original context
  kYarn = 3,     // factor, original context, beta fast, beta slow, attention factor (0: the paper's
                 // 0.1 ln(factor) + 1), 1 where the ramp's ends are rounded to whole pairs or 0
  kPerPair = 4,  // attention factor, then a divisor of each pair's frequency (longrope and others)
};

struct Rope {
  RopePairing pairing = RopePairing::kNone;
  uint32_t rotated_dims = 0;
  double theta = 0;
  RopeScaling scaling = RopeScaling::kNone;
  std::vector<double> scaling_parameters{};

  friend bool operator==(const Rope&, const Rope&) = default;
};

// How many parameters `scaling` has when `rotated_dims` channels are rotated; 0 for an unknown
// kind.
size_t RopeParameterCount(RopeScaling scaling, uint32_t rotated_dims);

// INVALID_ARGUMENT, its message beginning with the field ("rope.theta is ..."), when the rope makes
// no sense for heads of `key_dim` channels, and when it is a second spelling of another (parameters
// without rope, a factor of 1, the same divisor for every pair, -0.0).
absl::Status ValidateRope(const Rope& rope, uint32_t key_dim);

}  // namespace reprise
