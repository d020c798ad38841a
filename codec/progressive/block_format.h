// What block encoder and block decoder share: how a segment begins, and tokens as they are.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "codec/progressive/block.h"
#include "codec/progressive/format.h"

namespace reprise::progressive {

// The first byte of every segment. Raw: plane 0 holds the values as they are, the other planes
// nothing more.
inline constexpr uint8_t kModeRaw = 0;
inline constexpr uint8_t kModeCoded = 1;

inline uint32_t SinkCount(uint64_t first_position, uint32_t tokens) {
  return first_position == 0 ? std::min(kSinkTokens, tokens) : 0;
}

inline size_t TokenBytes(const BlockShape& shape) { return size_t{2} * shape.heads * shape.dims; }
inline size_t RawBytes(const BlockShape& shape, uint32_t tokens) {
  return TokenBytes(shape) * tokens;
}

// Tokens [begin, end) of `view` as they are: token-major, then head, then dim.
inline void AppendTokens(const TensorView& view, uint32_t begin, uint32_t end,
                         std::vector<uint8_t>& bytes) {
  const size_t head_bytes = size_t{2} * view.shape[3];
  for (uint32_t token = begin; token < end; ++token) {
    for (uint32_t head = 0; head < view.shape[2]; ++head) {
      const auto* from = reinterpret_cast<const uint8_t*>(view.data + token * view.stride_bytes[1] +
                                                          head * view.stride_bytes[2]);
      bytes.insert(bytes.end(), from, from + head_bytes);
    }
  }
}

// The reverse; `bytes` has exactly those tokens.
inline void StoreTokens(const uint8_t* bytes, uint32_t begin, uint32_t end,
                        const TensorView& view) {
  const size_t head_bytes = size_t{2} * view.shape[3];
  for (uint32_t token = begin; token < end; ++token) {
    for (uint32_t head = 0; head < view.shape[2]; ++head, bytes += head_bytes) {
      std::memcpy(view.data + token * view.stride_bytes[1] + head * view.stride_bytes[2], bytes,
                  head_bytes);
    }
  }
}

}  // namespace reprise::progressive
