// Decodes one tile from its part of each plane. Internal to the block decoder; keeps its scratch
// memory from tile to tile. Not thread-safe.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "codec/progressive/byte_reader.h"
#include "codec/progressive/format.h"
#include "codec/progressive/kernels.h"
#include "codec/progressive/rope_angles.h"
#include "codec/progressive/tables.h"
#include "codec/progressive/tile_format.h"
#include "codec/progressive/tiling.h"
#include "codec/tensor_view.h"

namespace reprise::progressive {

class TileDecoder {
 public:
  TileDecoder(const Kernels& kernels, Dtype dtype);

  struct Target {
    const TensorView* view = nullptr;  // one layer
    const Tiling* tiling = nullptr;
    const Tile* tile = nullptr;
    const RopeTable* rope = nullptr;
    uint32_t first_token = 0;
    uint32_t tokens = 0;
    float step = 0;
    bool token_scales = false;
  };

  // `planes`: the tile's bytes of planes 0 to planes.size() - 1. False, leaving the tile's elements
  // undefined, when they are not what an encoder makes.
  [[nodiscard]] bool Decode(const Target& target, std::span<const ByteSpan> planes);

 private:
  struct Channel {
    uint32_t stored_class = 0;
    ClassCode code;
    float mean = 0;
    int32_t octaves = 0;
    float step = 0;
    // Raw bits behind the symbol, most significant first: at most 6 extra and 4 planes.
    std::array<const uint8_t*, 10> planes{};
    uint32_t plane_count = 0;
  };

  struct Escapes {
    const uint8_t* bytes = nullptr;
    uint32_t left = 0;
  };

  std::span<const Group> groups() const { return GroupsOf(*target_.tiling, *target_.tile); }
  const float* token_scales() const {
    return target_.token_scales ? token_scales_.scales.data() : nullptr;
  }
  [[nodiscard]] bool ReadTokenScales(ByteReader& reader);
  [[nodiscard]] bool ReadOctaves(ByteReader& reader);
  [[nodiscard]] bool ReadMeans(ByteReader& reader);
  [[nodiscard]] bool ReadPlane(uint32_t plane, ByteReader& reader);
  [[nodiscard]] bool ReadTail(ByteReader& reader);
  // What codes one plane's symbols, or the tail: streams, and escapes behind them.
  struct Coded {
    std::array<StreamReader, kStreams> all;
    uint32_t count = 0;  // of streams
    Escapes escapes;
    std::vector<uint16_t> words;  // with slack behind each stream

    std::span<StreamReader> streams() { return std::span(all).first(count); }
  };
  [[nodiscard]] static bool Open(ByteReader& reader, uint32_t streams, Coded& coded);
  // False when more was read than there is.
  [[nodiscard]] static bool Use(Coded& coded, uint32_t escapes);
  static bool IsUsedUp(const Coded& coded);
  [[nodiscard]] bool DecodeGroup(const Group& group);
  std::byte* AddressOf(const Group& group, uint32_t run) const;
  // Asks for what StoreGroup will write, a share of the tokens with each of the group's channels:
  // the lines arrive while the channels are decoded.
  void Prefetch(const Group& group, uint32_t channel, uint32_t count) const;
  void StoreGroup(const Group& group) const;
  [[nodiscard]] bool DecodeChannel(uint32_t position, bool rotated, float* values);

  const Kernels& kernels_;
  const Dtype dtype_;
  std::array<SlotTable, kTables> base_tables_;

  Target target_;
  uint32_t rows_ = 0;
  uint32_t level_ = 0;  // last lossy plane at hand
  bool lossless_ = false;
  std::array<Channel, kTileChannels> channels_;
  std::array<Coded, kPlanes> coded_;

  TokenScales token_scales_;
  TailFormats tail_formats_;
  TailKind unrotated_tail_ = TailKind::kAligned;

  ChannelOf<uint8_t> symbols_{};
  std::array<ChannelOf<float>, 2> pair_values_{};
  std::vector<uint16_t> group_rows_;
};

}  // namespace reprise::progressive
