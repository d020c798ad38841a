#include "codec/raw/raw.h"

#include <algorithm>
#include <cassert>
#include <cstring>

#include "common/limits.h"

namespace reprise {
namespace {

// Calls copy(address, bytes) for each contiguous run of `rows`, in the order of the format. Runs
// are as long as the strides allow: the whole view when it is packed, one head's values at worst.
template <typename Copy>
void ForEachRun(const TensorView& rows, Copy copy) {
  uint32_t tokens = rows.shape[1];
  uint32_t heads = rows.shape[2];
  size_t run_bytes = rows.shape[3] * DtypeBytes(rows.dtype);
  const int64_t token_stride = rows.stride_bytes[1];
  const int64_t head_stride = rows.stride_bytes[2];
  if (heads == 1 || head_stride == static_cast<int64_t>(run_bytes)) {
    run_bytes *= heads;
    heads = 1;
    if (tokens == 1 || token_stride == static_cast<int64_t>(run_bytes)) {
      run_bytes *= tokens;
      tokens = 1;
    }
  }
  for (uint32_t token = 0; token < tokens; ++token) {
    for (uint32_t head = 0; head < heads; ++head) {
      copy(rows.data + token * token_stride + head * head_stride, run_bytes);
    }
  }
}

uint64_t ViewBytes(const TensorView& rows) {
  return rows.shape[1] * RawRowBytes(rows.shape[2], rows.shape[3], rows.dtype);
}

}  // namespace

uint64_t RawRowBytes(uint32_t heads, uint32_t dim, Dtype dtype) {
  return uint64_t{heads} * dim * DtypeBytes(dtype);
}

TokenRange RawBlock(uint32_t block, uint32_t token_count, uint64_t row_bytes) {
  const uint64_t tokens_per_block = kMaxPartBytes / row_bytes;
  const uint64_t begin = block * tokens_per_block;
  if (begin >= token_count) return {};
  return {.begin = static_cast<uint32_t>(begin),
          .end = static_cast<uint32_t>(std::min<uint64_t>(begin + tokens_per_block, token_count))};
}

std::vector<Segment> RawSegments(const PieceHeader& header) {
  const bool opaque = IsOpaque(header.group_kind);
  const uint32_t layers = header.slot.layer_end - header.slot.layer_begin;
  const uint32_t heads = header.slot.head_end - header.slot.head_begin;
  std::vector<Segment> segments;
  const auto append = [&](TensorPart part, uint32_t layer, uint32_t dim) {
    const uint64_t row_bytes = RawRowBytes(heads, dim, header.dtype);
    for (uint32_t block = 0;; ++block) {
      const TokenRange tokens = RawBlock(block, header.token_count, row_bytes);
      const uint32_t count = tokens.end - tokens.begin;
      if (count == 0) return;
      segments.push_back({.part = part,
                          .layer = layer,
                          .token_begin = opaque ? block : tokens.begin,
                          .token_count = opaque ? 0 : count,
                          .length = static_cast<uint32_t>(count * row_bytes)});
    }
  };
  for (uint32_t layer = 0; layer < layers; ++layer) {
    append(opaque ? TensorPart::kOpaque : TensorPart::kKey, layer, header.key_dim);
    if (header.value_dim != 0) append(TensorPart::kValue, layer, header.value_dim);
  }
  return segments;
}

TokenRange RawTokens(const Segment& segment, uint32_t token_count, uint64_t row_bytes) {
  // In opaque segments token_begin numbers the block (docs/container.md).
  if (segment.part == TensorPart::kOpaque) {
    return RawBlock(segment.token_begin, token_count, row_bytes);
  }
  if (segment.token_begin > token_count ||
      segment.token_count > token_count - segment.token_begin) {
    return {};
  }
  return {.begin = segment.token_begin, .end = segment.token_begin + segment.token_count};
}

void GatherRows(const TensorView& rows, MutableByteSpan packed) {
  assert(rows.shape[0] == 1 && packed.size() == ViewBytes(rows));
  std::byte* to = packed.data();
  ForEachRun(rows, [&](const std::byte* from, size_t bytes) {
    std::memcpy(to, from, bytes);
    to += bytes;
  });
}

void ScatterRows(ByteSpan packed, const TensorView& rows) {
  assert(rows.shape[0] == 1 && packed.size() == ViewBytes(rows));
  const std::byte* from = packed.data();
  ForEachRun(rows, [&](std::byte* to, size_t bytes) {
    std::memcpy(to, from, bytes);
    from += bytes;
  });
}

}  // namespace reprise
