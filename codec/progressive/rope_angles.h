// Cosines and sines of rotary positions, the same on every machine: angles are fixed-point
// fractions of a turn, and no call of the mathematics library is involved.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace reprise::progressive {

// What a pair turns per position, in units of 2^-64 of a turn, from radians per position (finite,
// from 0 to below 2 pi). Only an encoder computes it; a decoder reads it from the piece.
uint64_t TurnsOf(double radians_per_position);

struct SineCosine {
  float sine;
  float cosine;
};

// Of `turns` * 2^-64 of a turn. Exact to about 1e-7.
SineCosine SineCosineOf(uint64_t turns);

// For each pair kTileTokens cosines and as many sines, of positions first_position on.
class RopeTable {
 public:
  // Fills the table for `rates` (one per pair, from TurnsOf); does nothing when it holds just that
  // already, as from layer to layer, and keeps its memory from call to call.
  void Fill(std::span<const uint64_t> rates, uint64_t first_position);

  const float* cosine(uint32_t pair) const;
  const float* sine(uint32_t pair) const;

 private:
  std::vector<uint64_t> rates_;
  uint64_t first_position_ = 0;
  std::vector<float> values_;
};

}  // namespace reprise::progressive
