// From tensors to containers and back.
//
// A codec turns one piece's K and V into segments and back; which one made a piece is in its
// header. Only `raw` exists today: one plane, bytes as they are. Functions are pure and
// thread-safe.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "chunk/container.h"
#include "chunk/keys.h"
#include "chunk/namespace.h"
#include "common/bytes.h"
#include "common/status.h"

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

// What the encoder must know of a piece besides its tensors.
struct PieceIdentity {
  Key key;
  Digest namespace_fingerprint;
  PieceSlot slot;
  uint64_t token_begin = 0;  // position of the chunk's first token in its sequence
};

// What the tensors of a layer group are, for so many chunks: [layers, rows, KV heads, dims]. The
// second axis has a row for each token, but in a state group one for each chunk: the state after
// the chunk's last token. State and opaque groups have one tensor of bytes, as `key`; a value shape
// whose dims are 0 says that the group has no V.
struct GroupShape {
  Dtype dtype = Dtype::kOpaque;
  uint32_t chunk_rows = 0;  // rows of one chunk
  std::array<uint64_t, 4> key{};
  std::array<uint64_t, 4> value{};
};
GroupShape ShapeOf(const Namespace& name_space, const LayerGroup& group, uint32_t chunk_count);

// Encodes one piece into a container of its own. `key` (and `value`, unless the group has none) are
// the slot's layers and heads of what ShapeOf(name_space, group, 1) says, with 1 to chunk_rows
// rows. INVALID_ARGUMENT otherwise.
absl::StatusOr<std::vector<std::byte>> EncodePiece(const Namespace& name_space,
                                                   const PieceIdentity& identity,
                                                   const TensorView& key, const TensorView& value);

// Checks once, before any segment is decoded, that the piece fits the destination: dtype, shape,
// codec known. INVALID_ARGUMENT or UNIMPLEMENTED otherwise.
absl::Status CheckDestination(const PieceMeta& meta, const TensorView& key,
                              const TensorView& value);

// Writes one verified segment into the destination, which has passed CheckDestination. DATA_LOSS
// when the segment's length does not fit its shape. Writes nothing outside the views. Different
// segments may be decoded concurrently.
absl::Status DecodeSegment(const PieceMeta& meta, uint32_t segment, ByteSpan bytes,
                           const TensorView& key, const TensorView& value);

// Wraps plain bytes (at most kMaxPieceBodyBytes, at least 1) as an opaque piece, for `reprise put`.
// The container's body is the file. INVALID_ARGUMENT outside those sizes.
absl::StatusOr<std::vector<std::byte>> EncodeFile(const Key& key,
                                                  const Digest& namespace_fingerprint,
                                                  ByteSpan file);

}  // namespace reprise
