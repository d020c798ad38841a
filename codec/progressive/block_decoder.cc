#include <array>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"

#include "codec/progressive/block.h"
#include "codec/progressive/block_format.h"
#include "codec/progressive/byte_reader.h"

namespace reprise::progressive {

BlockDecoder::BlockDecoder(BlockShape shape, const Kernels& kernels)
    : shape_(std::move(shape)),
      tiling_(Tiling::Of(shape_.heads, shape_.dims, shape_.rope)),
      decoder_(kernels, shape_.dtype) {}

absl::Status BlockDecoder::Decode(std::span<const ByteSpan> planes, uint64_t first_position,
                                  const TensorView& view) {
  std::array<ByteReader, kPlanes> all;
  for (size_t plane = 0; plane < planes.size(); ++plane) all[plane] = ByteReader(planes[plane]);
  const std::span readers = std::span(all).first(planes.size());
  const auto mode = readers[0].Read<uint8_t>();
  for (size_t plane = 1; plane < readers.size(); ++plane) {
    if (readers[plane].Read<uint8_t>() != mode) {
      return absl::DataLossError(absl::StrCat("plane ", plane, " does not go with plane 0"));
    }
  }
  if (mode == kModeRaw) return StoreRaw(readers[0], view);
  if (mode != kModeCoded) {
    return absl::DataLossError(absl::StrCat("a block begins with the unknown mode ", int{mode}));
  }
  return DecodeTiles(readers, first_position, view);
}

absl::Status BlockDecoder::StoreRaw(ByteReader& reader, const TensorView& view) const {
  const uint32_t tokens = view.shape[1];
  const size_t size = RawBytes(shape_, tokens);
  const size_t given = reader.left();
  const uint8_t* bytes = reader.Take(size);
  if (bytes == nullptr || reader.left() != 0) {
    return absl::DataLossError(
        absl::StrCat("a raw block has ", given, " bytes where its shape takes ", size));
  }
  StoreTokens(bytes, 0, tokens, view);
  return absl::OkStatus();
}

absl::Status BlockDecoder::DecodeTiles(std::span<ByteReader> readers, uint64_t first_position,
                                       const TensorView& view) {
  const uint32_t tokens = view.shape[1];
  const auto step = readers[0].Read<float>();
  if (!(step > 0) || !std::isfinite(step)) {
    return absl::DataLossError(absl::StrCat("a block has the step ", step));
  }
  const uint32_t sinks = SinkCount(first_position, tokens);
  const uint8_t* sink_bytes = readers[0].Take(RawBytes(shape_, sinks));
  const size_t tile_count = SpanCount(tokens) * tiling_.tiles.size();
  std::array<ByteReader, kPlanes> lengths;
  for (size_t plane = 0; plane < readers.size(); ++plane) {
    const size_t size = tile_count * sizeof(uint32_t);
    const uint8_t* bytes = readers[plane].Take(size);
    if (bytes == nullptr) {
      return absl::DataLossError(absl::StrCat("plane ", plane, " ends before its tiles"));
    }
    lengths[plane] = ByteReader({reinterpret_cast<const std::byte*>(bytes), size});
  }
  for (uint32_t first = 0; first < tokens; first += kTileTokens) {
    rope_.Fill(shape_.rope_rates, first_position + first);
    for (const Tile& tile : tiling_.tiles) {
      std::array<ByteSpan, kPlanes> parts;
      for (size_t plane = 0; plane < readers.size(); ++plane) {
        const auto length = lengths[plane].Read<uint32_t>();
        const uint8_t* bytes = readers[plane].Take(length);
        if (bytes == nullptr) {
          return absl::DataLossError(absl::StrCat("a tile of plane ", plane, " has ", length,
                                                  " bytes, more than are left"));
        }
        parts[plane] = {reinterpret_cast<const std::byte*>(bytes), length};
      }
      const TileDecoder::Target target = {.view = &view,
                                          .tiling = &tiling_,
                                          .tile = &tile,
                                          .rope = &rope_,
                                          .first_token = first,
                                          .tokens = std::min(kTileTokens, tokens - first),
                                          .step = step,
                                          .token_scales = shape_.token_scales};
      if (!decoder_.Decode(target, std::span(parts).first(readers.size()))) {
        return absl::DataLossError(
            absl::StrCat("the tile of tokens ", first, " on is not what an encoder makes"));
      }
    }
  }
  for (size_t plane = 0; plane < readers.size(); ++plane) {
    if (readers[plane].left() != 0) {
      return absl::DataLossError(absl::StrCat("plane ", plane, " has ", readers[plane].left(),
                                              " bytes behind its last tile"));
    }
  }
  StoreTokens(sink_bytes, 0, sinks, view);
  return absl::OkStatus();
}

}  // namespace reprise::progressive
