// The raw codec: one plane, values as they are.
//
// A segment holds consecutive tokens of one layer's K, V, latent or opaque bytes: token-major, then
// head, then dim, as many tokens as fit in kMaxPartBytes. Pure functions, thread-safe.
#pragma once

#include <cstdint>
#include <vector>

#include "chunk/container.h"
#include "chunk/namespace.h"
#include "codec/codec.h"
#include "common/bytes.h"

namespace reprise {

// Bytes of one token in one layer. With the limits of common/limits.h at most 16 MiB.
uint64_t RawRowBytes(uint32_t heads, uint32_t dim, Dtype dtype);

// Half-open range of tokens within the chunk.
struct TokenRange {
  uint32_t begin = 0;
  uint32_t end = 0;
};

// The tokens of the `block`th segment of `token_count` tokens of `row_bytes` each (1 to
// kMaxPartBytes); empty when there is no such block.
TokenRange RawBlock(uint32_t block, uint32_t token_count, uint64_t row_bytes);

// The directory of a piece with this header (its shape fields are read), offsets and checksums
// unset. Rows must not be longer than kMaxPartBytes.
std::vector<Segment> RawSegments(const PieceHeader& header);

// The tokens that a segment of a raw piece holds; empty when the segment lies outside the piece.
TokenRange RawTokens(const Segment& segment, uint32_t token_count, uint64_t row_bytes);

// Copies the values of `rows`, a view of exactly one layer, to `packed` or back. `packed` is as
// long as the rows.
void GatherRows(const TensorView& rows, MutableByteSpan packed);
void ScatterRows(ByteSpan packed, const TensorView& rows);

}  // namespace reprise
