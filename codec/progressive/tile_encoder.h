// Encodes one tile, plane by plane. Internal to the block encoder; keeps its scratch memory (about
// 1.5 MiB) from tile to tile. Not thread-safe.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "codec/progressive/format.h"
#include "codec/progressive/kernels.h"
#include "codec/progressive/rope_angles.h"
#include "codec/progressive/tables.h"
#include "codec/progressive/tile_format.h"
#include "codec/progressive/tiling.h"
#include "codec/tensor_view.h"

namespace reprise::progressive {

class TileEncoder {
 public:
  TileEncoder(const Kernels& kernels, Dtype dtype);

  struct Source {
    const TensorView* view = nullptr;  // one layer
    const Tiling* tiling = nullptr;
    const Tile* tile = nullptr;
    const RopeTable* rope = nullptr;  // of the span's positions
    uint32_t first_token = 0;         // of the span, in the view
    uint32_t tokens = 0;              // 1 to kTileTokens
    uint32_t sinks = 0;               // leading tokens that are stored elsewhere
    bool token_scales = false;
  };

  // Loads and undoes the rope. False when there are numbers that are not finite.
  [[nodiscard]] bool Load(const Source& source);
  // The root mean square distance of the loaded values from their channels' means.
  float Deviation() const;
  // Quantizes what is loaded; `step` is positive and finite. False when values lie too far from it.
  [[nodiscard]] bool Quantize(float step);

  // What the tile adds to each plane.
  void AppendPlane(uint32_t plane, std::vector<uint8_t>& bytes);
  void AppendTail(std::vector<uint8_t>& bytes);

  // Of the loaded tile, padding included.
  void AddErrors(std::array<double, kLossyPlanes>& squared_error, double& squared_norm) const;

 private:
  struct Channel {
    uint32_t stored_class = 0;
    ClassCode code;
    int32_t mean_index = 0;
    float mean = 0;  // as it is stored
  };

  [[nodiscard]] bool LoadGroup(const Group& group);
  [[nodiscard]] bool StoreMean(uint32_t position);
  [[nodiscard]] bool Classify(uint32_t position);
  void MeasureTokens();
  void GuessGroup(const Group& group);
  void AppendTokenScales(std::vector<uint8_t>& bytes) const;
  void AppendMeans(std::vector<uint8_t>& bytes) const;
  void AppendSymbols(uint32_t plane, std::vector<uint8_t>& bytes);
  void AppendBits(uint32_t shift, uint32_t position, std::vector<uint8_t>& bytes) const;
  void AppendStreams(std::span<const StreamWriter> streams, std::vector<uint8_t>& bytes) const;
  std::array<StreamWriter, kStreams> OpenStreams();
  // How far a channel's cells are shifted to be those of `plane`.
  static uint32_t ShiftOf(uint32_t plane) { return kLossyPlanes - 1 - plane; }

  // Two words per value at most: a symbol takes at most 7 bits, raw bits of the tail at most 10.
  static constexpr size_t kStreamWords = 2 * size_t{kTileChannels} * kTileTokens;

  const Kernels& kernels_;
  const Dtype dtype_;
  std::array<SymbolTable, kTables> base_tables_;

  Source source_;
  float step_ = 0;
  uint32_t rows_ = 0;
  std::array<Channel, kTileChannels> channels_;
  int32_t smallest_exponent_ = 0;
  std::array<uint8_t, kTileTokens> token_offsets_{};
  TokenScales token_scales_;

  using Floats = std::array<float, kTileTokens>;
  std::vector<Floats> values_;
  std::vector<std::array<int32_t, kTileTokens>> cells_;
  std::vector<std::array<uint16_t, kTileTokens>> exact_;
  std::vector<std::array<uint16_t, kTileTokens>> guess_;
  std::vector<std::array<uint8_t, kTileTokens>> symbols_;
  std::vector<TailSymbols> tails_;
  std::vector<uint16_t> group_rows_;
  std::vector<Floats> group_values_;
  std::vector<uint8_t> escapes_;
  std::vector<uint16_t> words_;
};

}  // namespace reprise::progressive
