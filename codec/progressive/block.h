// One block of the progressive codec: up to some thousand tokens of one layer's K or V, coded into
// one segment per plane, and back.
//
// Both classes keep scratch memory from call to call (about 2 MiB), so that coding allocates
// nothing once warm. Not thread-safe: one object per thread; different blocks are independent.
// Borrowed bytes and views are used only during a call.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "codec/progressive/byte_reader.h"
#include "codec/progressive/format.h"
#include "codec/progressive/kernels.h"
#include "codec/progressive/rope_angles.h"
#include "codec/progressive/tile_decoder.h"
#include "codec/progressive/tile_encoder.h"
#include "codec/progressive/tiling.h"
#include "codec/tensor_view.h"
#include "common/bytes.h"
#include "common/status.h"

namespace reprise::progressive {

// What does not change from block to block of one tensor (K or V) of a piece.
struct BlockShape {
  Dtype dtype = Dtype::kBf16;  // kBf16 or kFp16
  uint32_t heads = 0;
  uint32_t dims = 0;
  RopeShape rope;
  std::vector<uint64_t> rope_rates;  // rope.dims / 2, from TurnsOf
  bool token_scales = false;         // V: steps follow each token's size; needs no rope

  friend bool operator==(const BlockShape&, const BlockShape&) = default;
};

// Where an encoder departs from the base step, from a profile. Without `channels` the encoder
// decides itself, from their means.
struct StepChoice {
  int32_t octaves = 0;               // finer, all channels, -kOctaveLimit - 1 to kOctaveLimit
  std::span<const int8_t> channels;  // of heads x dims, in memory order: finer still, same limits;
                                     // the two of a rope pair alike
};

// One encoded block: the segment of each plane, and how far each lossy level is off.
struct EncodedBlock {
  std::array<std::vector<uint8_t>, kPlanes> planes;
  std::array<double, kLossyPlanes> squared_error{};
  double squared_norm = 0;

  size_t bytes() const;
};

class BlockEncoder {
 public:
  explicit BlockEncoder(BlockShape shape, const Kernels& kernels = BestKernels());

  // Codes `view`, one layer [1, tokens, heads, dims], whose first token stands at `first_position`
  // of its sequence. A block that the transform cannot hold (numbers that are not finite, values
  // far from the step) or would not shrink is stored as it is.
  void Encode(const TensorView& view, uint64_t first_position, EncodedBlock* block,
              const StepChoice& choice = {});

 private:
  [[nodiscard]] bool EncodeTiles(const TensorView& view, uint64_t first_position, uint32_t sinks,
                                 EncodedBlock* block, const StepChoice& choice);
  // Memory order becomes coding order.
  void SetOctaves(std::span<const int8_t> channels);
  std::span<const int8_t> OctavesOf(const Tile& tile) const;
  // The base plane's cell, from the first tile.
  float ChooseStep() const;

  const BlockShape shape_;
  const Tiling tiling_;
  TileEncoder encoder_;
  RopeTable rope_;
  std::vector<int8_t> octaves_;  // of the channels in coding order
};

class BlockDecoder {
 public:
  explicit BlockDecoder(BlockShape shape, const Kernels& kernels = BestKernels());

  // Decodes planes 0 to planes.size() - 1 (1 to kPlanes of them) of the block into `view`, one
  // layer [1, tokens, heads, dims]. DATA_LOSS, saying what is wrong, for bytes that no encoder
  // makes; the view's elements are then undefined. Nothing outside of the view is ever written.
  absl::Status Decode(std::span<const ByteSpan> planes, uint64_t first_position,
                      const TensorView& view);

 private:
  // Of readers behind the mode, one for each plane.
  absl::Status StoreRaw(ByteReader& reader, const TensorView& view) const;
  absl::Status DecodeTiles(std::span<ByteReader> readers, uint64_t first_position,
                           const TensorView& view);

  const BlockShape shape_;
  const Tiling tiling_;
  TileDecoder decoder_;
  RopeTable rope_;
};

}  // namespace reprise::progressive
