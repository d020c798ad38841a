// The codec parameters in a progressive piece's header: what a decoder must know beside the shape.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "chunk/rope.h"
#include "codec/progressive/tiling.h"
#include "common/bytes.h"
#include "common/status.h"

namespace reprise::progressive {

struct Parameters {
  RopeShape rope;                    // of K
  std::vector<uint64_t> rope_rates;  // rope.dims / 2
  uint32_t block_tokens = 0;         // tokens of a segment, but for the last
};

// What undoes `rope` on heads of `key_dim` channels; no rope for kinds whose angles this build does
// not compute, which only costs bits. `latent`: the rotated channels are the last.
Parameters ParametersFor(const Rope& rope, uint32_t key_dim, bool latent);

std::vector<std::byte> Serialize(const Parameters& parameters);
// UNIMPLEMENTED for another version of the format, DATA_LOSS for what cannot be.
absl::StatusOr<Parameters> ParseParameters(ByteSpan bytes, uint32_t key_dim);

}  // namespace reprise::progressive
