// What a tile's count of rANS streams costs: ticks and bytes of its symbols in one, two and four.
//
// Kernels are written for one stream and for as many as the format has; with other counts they keep
// states in memory between rows, and say little about streams.
#pragma once

#include <cstdint>
#include <vector>

#include "codec/progressive/kernels.h"

namespace reprise::bench {

struct StreamCost {
  uint32_t streams = 0;
  double decode_ticks = 0;  // per 32 values, the best of many runs
  double encode_ticks = 0;
  double bits_per_value = 0;  // words, states and counts
};

// Of a whole tile, 256 x 256 symbols as the middle table expects them. Empty when what is decoded
// is not what was encoded.
std::vector<StreamCost> StreamCosts(const progressive::Kernels& kernels);

}  // namespace reprise::bench
