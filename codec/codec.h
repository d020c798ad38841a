// From tensors to containers and back.
//
// A codec turns one piece's K and V into segments and back; which one made a piece is in its
// header. `raw` has one plane, bytes as they are. `progressive` (docs/codec.md) has five planes
// that each halve the error and one that makes the piece exact; its levels add them to K and V in
// turn. Functions are pure and thread-safe;
// a PieceDecoder is used by one thread at a time.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "chunk/container.h"
#include "chunk/keys.h"
#include "chunk/namespace.h"
#include "codec/profile.h"
#include "codec/tensor_view.h"
#include "common/bytes.h"
#include "common/status.h"

namespace reprise {

inline constexpr uint32_t kProgressiveLevels = 8;

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
// rows. INVALID_ARGUMENT otherwise. What `codec` cannot code (state, opaque bytes, fp32) becomes
// raw. `profile` is the one that the namespace names, CheckProfile; null for none. Raw needs none.
// A raw piece is written into `memory`, whatever it holds: fresh memory costs as much as the work.
absl::StatusOr<std::vector<std::byte>> EncodePiece(const Namespace& name_space,
                                                   const PieceIdentity& identity,
                                                   const TensorView& key, const TensorView& value,
                                                   CodecId codec = CodecId::kRaw,
                                                   const Profile* profile = nullptr,
                                                   std::vector<std::byte> memory = {});

// Decodes one piece, or some layers of it, at some level, into the caller's tensors.
class PieceDecoder {
 public:
  // Checks that the piece fits the destination: dtype, shape, codec known. INVALID_ARGUMENT or
  // UNIMPLEMENTED otherwise, DATA_LOSS for codec parameters that no encoder makes. `meta` and the
  // memory of the views must outlive the decoder.
  static absl::StatusOr<std::unique_ptr<PieceDecoder>> Create(const PieceMeta& meta,
                                                              const TensorView& key,
                                                              const TensorView& value);
  virtual ~PieceDecoder() = default;

  // Takes one verified segment, in any order. Raw ones are written to the destination at once, of
  // others the bytes are kept. DATA_LOSS when the segment does not fit its shape.
  virtual absl::Status Take(uint32_t segment, ByteSpan bytes) = 0;

  // Writes what has been taken: each layer at the last level that it has all planes of; layers of
  // which nothing was taken are left alone. DATA_LOSS for bytes that no encoder makes; the
  // destination's elements are then undefined. Nothing outside the views is ever written.
  virtual absl::Status Finish() = 0;
};

// Wraps plain bytes (at most kMaxPieceBodyBytes, at least 1) as an opaque piece, for `reprise put`.
// The container's body is the file. INVALID_ARGUMENT outside those sizes.
absl::StatusOr<std::vector<std::byte>> EncodeFile(const Key& key,
                                                  const Digest& namespace_fingerprint,
                                                  ByteSpan file);

}  // namespace reprise
