// What an embedded stream costs: bits of each lossy plane as stored, beside those of coding the
// same cells at once, at the plane's own step.
//
// The single-rate coder has our transform, steps, classes and side information, so it reconstructs
// the same values. Cells have the entropy of a static table for each class, made from the cells
// themselves and not counted: less than any coder with static tables takes. One thread at a time in
// a process.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <unordered_map>

#include "codec/progressive/block.h"

namespace reprise::bench {

class EmbeddingCost {
 public:
  // Adds a block that `view` was encoded to; all have the same tables.
  void Add(const progressive::BlockShape& shape, const TensorView& view, uint64_t position,
           const progressive::EncodedBlock& block);

  uint64_t values() const { return values_; }
  // Of planes 0 to `plane`, which is lossy.
  double EmbeddedBits(uint32_t plane) const;
  double SingleRateBits(uint32_t plane) const;

 private:
  friend struct CountingKernels;
  using Cells = std::unordered_map<int32_t, uint64_t>;
  struct Plane {
    uint64_t stored_bits = 0;
    uint64_t side_bits = 0;
    std::map<int32_t, Cells> by_class;  // in quarter octaves of the plane's step
  };

  uint64_t values_ = 0;
  std::array<Plane, progressive::kLossyPlanes> planes_;
};

}  // namespace reprise::bench
