// What an encoded tile adds to each plane.

#include <algorithm>
#include <array>
#include <span>
#include <vector>

#include "codec/progressive/tile_encoder.h"
#include "codec/progressive/tile_format.h"

namespace reprise::progressive {
namespace {

void Append(std::vector<uint8_t>& bytes, const void* values, size_t size) {
  const auto* begin = static_cast<const uint8_t*>(values);
  bytes.insert(bytes.end(), begin, begin + size);
}

// The smallest, the width in bits (0, 4, 8 or 16) of what the others have above it, and that.
void AppendNumbers(std::span<const int32_t> numbers, std::vector<uint8_t>& bytes) {
  const int32_t least = *std::ranges::min_element(numbers);
  const int32_t range = *std::ranges::max_element(numbers) - least;
  const uint8_t width = range == 0 ? 0 : (range < 16 ? 4 : (range < 256 ? 8 : 16));
  const auto smallest = static_cast<int16_t>(least);
  Append(bytes, &smallest, sizeof(smallest));
  bytes.push_back(width);
  if (width == 0) return;
  const auto above = [&](size_t i) {
    return i < numbers.size() ? static_cast<uint32_t>(numbers[i] - least) : 0U;
  };
  for (size_t i = 0; i < numbers.size(); i += width == 4 ? 2 : 1) {
    const uint32_t value = width == 4 ? above(i) | above(i + 1) << 4 : above(i);
    bytes.push_back(static_cast<uint8_t>(value));
    if (width == 16) bytes.push_back(static_cast<uint8_t>(value >> 8));
  }
}

}  // namespace

void TileEncoder::AppendPlane(uint32_t plane, std::vector<uint8_t>& bytes) {
  if (plane == 0) {
    if (source_.token_scales) AppendTokenScales(bytes);
    AppendOctaves(bytes);
    AppendMeans(bytes);
  }
  AppendSymbols(plane, bytes);
  Append(bytes, bits_[plane].bytes.data(), bits_[plane].size);
}

void TileEncoder::AppendTokenScales(std::vector<uint8_t>& bytes) const {
  bytes.push_back(static_cast<uint8_t>(smallest_exponent_));
  for (uint32_t token = 0; token < rows_ * kLanes; token += 2) {
    bytes.push_back(static_cast<uint8_t>(token_offsets_[token] | token_offsets_[token + 1] << 4));
  }
}

void TileEncoder::AppendOctaves(std::vector<uint8_t>& bytes) const {
  std::array<int32_t, kTileChannels> numbers{};
  uint32_t count = 0;
  for (const Group& group : groups()) {
    for (uint32_t k = 0; k < group.channels; k += Together(group)) {
      numbers[count++] = channels_[PositionInTile(group) + k].octaves;
    }
  }
  AppendNumbers(std::span(numbers).first(count), bytes);
}

void TileEncoder::AppendMeans(std::vector<uint8_t>& bytes) const {
  const uint32_t channels = source_.tile->channels;
  std::array<int32_t, kTileChannels> numbers{};
  const std::span all(numbers.data(), channels);
  for (uint32_t i = 0; i < channels; ++i) {
    all[i] = static_cast<int32_t>(channels_[i].stored_class);
  }
  AppendNumbers(all, bytes);
  for (uint32_t i = 0; i < channels; ++i) all[i] = channels_[i].mean_index;
  AppendNumbers(all, bytes);
}

void TileEncoder::AppendSymbols(uint32_t plane, std::vector<uint8_t>& bytes) {
  coded_.clear();
  for (uint32_t position = 0; position < source_.tile->channels; ++position) {
    const ClassCode& code = channels_[position].code;
    if (code.entry != plane) continue;
    coded_.push_back({.table = &base_tables_[code.table], .symbols = symbols_[position].data()});
  }
  if (coded_.empty()) return;
  const uint32_t count = plane == 0 ? StreamCount(rows_) : 1;
  std::array<StreamWriter, kStreams> all = OpenStreams(count);
  const std::span streams(all.data(), count);
  kernels_.encode_symbols(coded_, streams, rows_);
  AppendStreams(streams, bytes);
  AppendEscapes(plane, bytes);
}

void TileEncoder::AppendTail(std::vector<uint8_t>& bytes) {
  const uint32_t count = TailStreamCount(rows_);
  std::array<StreamWriter, kStreams> all = OpenStreams(count);
  const std::span streams(all.data(), count);
  kernels_.encode_tail(std::span(tails_).first(source_.tile->channels), streams, rows_);
  bytes.push_back(static_cast<uint8_t>(unrotated_tail_));
  AppendStreams(streams, bytes);
  AppendEscapes(kLossyPlanes, bytes);
}

void TileEncoder::AppendEscapes(uint32_t plane, std::vector<uint8_t>& bytes) const {
  const Output& escapes = escapes_[plane];
  const auto count = static_cast<uint32_t>(escapes.size / 2);
  Append(bytes, &count, sizeof(count));
  Append(bytes, escapes.bytes.data(), escapes.size);
}

std::array<StreamWriter, kStreams> TileEncoder::OpenStreams(uint32_t count) {
  std::array<StreamWriter, kStreams> streams;
  for (uint32_t s = 0; s < count; ++s) {
    streams[s].states.fill(kStateFloor);
    streams[s].begin = words_.data() + s * (kStreamWords / count);
    streams[s].words = streams[s].begin;
  }
  return streams;
}

void TileEncoder::AppendStreams(std::span<const StreamWriter> streams,
                                std::vector<uint8_t>& bytes) const {
  for (const StreamWriter& stream : streams) {
    const auto count = static_cast<uint32_t>(stream.words - stream.begin);
    Append(bytes, &count, sizeof(count));
  }
  for (const StreamWriter& stream : streams) {
    Append(bytes, stream.states.data(), sizeof(stream.states));
    kernels_.reverse_words(stream.begin, stream.words);
    Append(bytes, stream.begin,
           static_cast<size_t>(stream.words - stream.begin) * sizeof(uint16_t));
  }
}

}  // namespace reprise::progressive
