// Pieces that were written once and must decode for ever (codec/testdata): how a container is kept
// in the tree, and what its tensors hash to.
//
// Test code only. Functions are pure and thread-safe.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "codec/progressive/kernels.h"
#include "codec/tensor_view.h"
#include "common/bytes.h"
#include "common/status.h"

namespace reprise {

// A container without its long runs of zeros, most of which are padding: extents (u32 offset, u32
// length, bytes) in order, and a last one of length 0 at the container's end.
std::vector<std::byte> WithoutZeros(ByteSpan container);
// The reverse; INVALID_ARGUMENT for bytes that WithoutZeros does not make.
absl::StatusOr<std::vector<std::byte>> WithZeros(ByteSpan extents);

// SHA-256, hexadecimal, of K and of V as contiguous little-endian arrays [layers, tokens, heads,
// dims]; "-" where there is none.
struct TensorHashes {
  std::string key;
  std::string value;

  friend bool operator==(const TensorHashes&, const TensorHashes&) = default;
};
TensorHashes HashesOf(ByteSpan key, ByteSpan value);

// A dense tensor in memory of its own.
struct DenseTensor {
  DenseTensor(Dtype dtype, const std::array<uint32_t, 4>& shape);

  std::vector<std::byte> bytes;
  TensorView view;  // of `bytes`; absent when the shape has no dims
};

// What a whole container, or one that was cut at some byte of its body, decodes to: segments of
// planes up to `level` that are there to their last byte are verified and taken. `kernels` are what
// progressive pieces are decoded with.
absl::StatusOr<TensorHashes> DecodedHashes(ByteSpan container, uint32_t level,
                                           const progressive::Kernels& kernels);

}  // namespace reprise
