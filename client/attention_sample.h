// K and V with the statistics of attention layers, for tests of levels: finite numbers with a mean
// and a deviation for each channel, and what was lost of them.
//
// Not thread-safe.
#pragma once

#include <cstdint>
#include <vector>

#include "chunk/container.h"
#include "chunk/namespace.h"
#include "client/reprise.h"

namespace reprise::client {

// `chunks` chunks of 3 layers with 2 KV heads of 64, rotated, in 2 pieces a chunk.
class AttentionSample {
 public:
  // `dtype` is bf16 or fp16. All zero until filled.
  AttentionSample(Dtype dtype, uint32_t chunks);

  const Namespace& name_space() const { return name_space_; }
  std::vector<GroupViews> views() { return {{.key = key_.view(), .value = value_.view()}}; }
  void Fill(uint32_t seed);

  bool operator==(const AttentionSample& other) const {
    return key_.bits == other.key_.bits && value_.bits == other.value_.bits;
  }
  // The relative L2 error of chunk `chunk`'s K and V, of the worst layer each, if `exact` is what
  // they were.
  Distortion LostOf(const AttentionSample& exact, uint32_t chunk) const;

 private:
  struct Tensor {
    Dtype dtype;
    uint32_t tokens;
    std::vector<uint16_t> bits;  // [layers, tokens, heads, dims]

    TensorView view();
    float Lost(const Tensor& exact, uint32_t begin, uint32_t end) const;
  };

  Namespace name_space_;
  Tensor key_;
  Tensor value_;
};

}  // namespace reprise::client
