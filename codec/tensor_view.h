// A tensor of KV in somebody's memory and layout. A plain value that borrows the memory.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "chunk/namespace.h"

namespace reprise {

// K, V or a latent of one piece, in somebody's memory and layout: element (layer, token, head, dim)
// is at data + layer * stride_bytes[0] + token * stride_bytes[1] + head * stride_bytes[2] + dim *
// DtypeBytes(dtype). The last axis is contiguous; the others may have any stride, also negative, as
// long as elements do not overlap.
struct TensorView {
  std::byte* data = nullptr;
  Dtype dtype = Dtype::kOpaque;
  std::array<uint32_t, 4> shape{};        // layers, tokens, KV heads, dims
  std::array<int64_t, 3> stride_bytes{};  // of layer, token, head

  bool present() const { return data != nullptr; }
  // The view of layers, tokens and heads in the given half-open ranges, which must lie within the
  // shape.
  TensorView Sub(uint32_t layer_begin, uint32_t layer_end, uint32_t token_begin, uint32_t token_end,
                 uint32_t head_begin, uint32_t head_end) const;
};

}  // namespace reprise
