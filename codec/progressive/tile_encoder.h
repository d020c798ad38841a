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
    std::span<const int8_t> octaves;  // of the tile's channels; empty: by their means
  };

  // Loads and undoes the rope. False when there are numbers that are not finite, or hardly so.
  [[nodiscard]] bool Load(const Source& source);
  // The root mean square distance of the loaded values from their channels' means.
  float Deviation() const;
  // Quantizes what is loaded; `step` is positive and finite. False when values lie too far from it.
  [[nodiscard]] bool Quantize(float step);

  // What the tile adds to each plane.
  void AppendPlane(uint32_t plane, std::vector<uint8_t>& bytes);
  void AppendTail(std::vector<uint8_t>& bytes);

  // Measured on every fourth row of each channel, padding included.
  void AddErrors(std::array<double, kLossyPlanes>& squared_error, double& squared_norm) const;

 private:
  struct Channel {
    uint32_t stored_class = 0;
    ClassCode code;
    int32_t mean_index = 0;
    float mean = 0;  // as measured; from Quantize on, as it is stored
    int32_t octaves = 0;
    float step = 0;
  };
  using Floats = ChannelOf<float>;

  void GatherGroup(uint32_t group_in_tile);
  // Means and deviation; false when a number is not finite, or hardly so.
  [[nodiscard]] bool MeasureGroup(const Group& group);
  // A channel of the group, or the rope pair that begins there, rope undone, into `values_`.
  // Returns the largest magnitude, as bits.
  uint16_t LoadValues(const Group& group, uint32_t channel);
  void ChooseOctaves();
  [[nodiscard]] bool StoreMean(uint32_t position);
  void MeasureTokens();
  void Begin();
  // False when values lie too far from the step; says in `uncodable_` when the tail of those that
  // are not rotated does not go with `unrotated_tail_`.
  [[nodiscard]] bool QuantizeGroup(const Group& group);
  // Leaves in `floats` what the lossless plane starts from, rope still undone.
  [[nodiscard]] bool QuantizeChannel(uint32_t position, bool rotated, Floats& floats);
  // Into symbols and bits.
  void SplitCells(uint32_t position);
  void AddChannelErrors(uint32_t position, const float* values);
  void AppendTokenScales(std::vector<uint8_t>& bytes) const;
  void AppendOctaves(std::vector<uint8_t>& bytes) const;
  void AppendMeans(std::vector<uint8_t>& bytes) const;
  void AppendSymbols(uint32_t plane, std::vector<uint8_t>& bytes);
  void AppendEscapes(uint32_t plane, std::vector<uint8_t>& bytes) const;
  void AppendStreams(std::span<const StreamWriter> streams, std::vector<uint8_t>& bytes) const;
  std::array<StreamWriter, kStreams> OpenStreams(uint32_t count);
  std::span<const Group> groups() const { return GroupsOf(*source_.tiling, *source_.tile); }
  uint32_t PositionInTile(const Group& group) const {
    return group.position - groups().front().position;
  }
  const float* token_scales() const {
    return source_.token_scales ? token_scales_.scales.data() : nullptr;
  }
  const float* token_factors() const {
    return source_.token_scales ? token_scales_.factors.data() : nullptr;
  }
  // How far a channel's cells are shifted to be those of `plane`.
  static uint32_t ShiftOf(uint32_t plane) { return kLossyPlanes - 1 - plane; }

  static constexpr uint32_t kMeasuredRows = 4;
  // One word per value at most, and a row that is never used.
  static constexpr size_t kStreamWords = size_t{kTileChannels} * kTileTokens + kStreams * kLanes;

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
  ErrorSums errors_;

  double deviation_squares_ = 0;
  TailFormats tail_formats_;
  TailKind unrotated_tail_ = TailKind::kAligned;
  bool uncodable_ = false;

  std::vector<uint16_t> exact_rows_;  // kGroupRows for each group
  std::array<const uint16_t*, kTileChannels> exact_{};
  std::array<Floats, 2> values_{};
  ChannelOf<int16_t> cells_{};
  ChannelOf<uint16_t> guess_{};
  std::vector<ChannelOf<uint8_t>> symbols_;
  std::vector<TailBits> tails_;

  // What is appended to, plane by plane: its first `size` bytes.
  struct Output {
    std::vector<uint8_t> bytes;
    size_t size = 0;

    // Where the next goes, with room for what a channel may add.
    uint8_t* Room();
  };
  std::array<Output, kLossyPlanes> bits_;
  std::array<Output, kPlanes> escapes_;
  std::vector<CodedSymbols> coded_;
  std::vector<uint16_t> words_;
};

}  // namespace reprise::progressive
