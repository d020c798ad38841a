#include "codec/progressive/tile_decoder.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "codec/progressive/scalar_rans.h"
#include "codec/progressive/tail.h"
#include "codec/progressive/tile_format.h"

namespace reprise::progressive {
namespace {

// What a channel's step may read past a stream's end before that is noticed.
constexpr size_t kSlackWords = 2 * size_t{kTileTokens};
// No value takes more than one.
constexpr size_t kMaximumWords = size_t{kTileChannels} * kTileTokens;

// What AppendNumbers of the encoder makes.
bool ReadNumbers(ByteReader& reader, std::span<int32_t> numbers) {
  const int32_t smallest = reader.Read<int16_t>();
  const uint32_t width = reader.Read<uint8_t>();
  if (width != 0 && width != 4 && width != 8 && width != 16) return false;
  const uint8_t* bytes = reader.Take((numbers.size() * width + 7) / 8);
  if (!reader.ok()) return false;
  for (size_t i = 0; i < numbers.size(); ++i) {
    uint32_t above = 0;
    if (width == 0) {
    } else if (width == 4) {
      above = bytes[i / 2] >> i % 2 * 4 & 15;
    } else if (width == 8) {
      above = bytes[i];
    } else {
      above = LoadWord(bytes, static_cast<uint32_t>(i));
    }
    numbers[i] = smallest + static_cast<int32_t>(above);
  }
  return true;
}

// Two runs that lie side by side are stored as one.
uint32_t StoredRuns(const Group& group) {
  const Run& first = group.runs[0];
  const Run& second = group.runs[1];
  return second.count == 0 ||
                 (first.count == kRunChannels && second.dim == first.dim + kRunChannels)
             ? 1
             : 2;
}

}  // namespace

TileDecoder::TileDecoder(const Kernels& kernels, Dtype dtype)
    : kernels_(kernels), dtype_(dtype), group_rows_(kGroupRows * kTileStride) {
  for (uint32_t table = 0; table < kTables; ++table) {
    base_tables_[table] = MakeSlotTable(BaseFrequencies(table));
  }
}

bool TileDecoder::Decode(const Target& target, std::span<const ByteSpan> planes) {
  target_ = target;
  rows_ = RowCount(target.tokens);
  lossless_ = planes.size() == kPlanes;
  level_ = static_cast<uint32_t>(std::min<size_t>(planes.size(), kLossyPlanes)) - 1;
  for (uint32_t plane = 0; plane <= level_; ++plane) {
    ByteReader reader(planes[plane]);
    if (plane == 0 && target.token_scales && !ReadTokenScales(reader)) return false;
    if (plane == 0 && !(ReadOctaves(reader) && ReadMeans(reader))) return false;
    if (!ReadPlane(plane, reader) || reader.left() != 0) return false;
  }
  if (lossless_) {
    ByteReader reader(planes.back());
    if (!ReadTail(reader) || reader.left() != 0) return false;
  }
  for (const Group& group : groups()) {
    if (!DecodeGroup(group)) return false;
  }
  return std::ranges::all_of(std::span(coded_).first(level_ + 1), IsUsedUp) &&
         (!lossless_ || IsUsedUp(coded_.back()));
}

bool TileDecoder::ReadTokenScales(ByteReader& reader) {
  const auto smallest = std::bit_cast<int8_t>(reader.Read<uint8_t>());
  const uint8_t* offsets = reader.Take(rows_ * kLanes / 2);
  if (!reader.ok() || std::abs(smallest) > kTokenExponentLimit) return false;
  for (uint32_t token = 0; token < rows_ * kLanes; ++token) {
    token_scales_.Set(token, smallest + (offsets[token / 2] >> token % 2 * 4 & 15));
  }
  return true;
}

bool TileDecoder::ReadOctaves(ByteReader& reader) {
  std::array<int32_t, kTileChannels> numbers{};
  if (!ReadNumbers(reader, std::span(numbers).first(UnitCount(groups())))) return false;
  uint32_t unit = 0;
  uint32_t position = 0;
  for (const Group& group : groups()) {
    for (uint32_t k = 0; k < group.channels; ++k, ++position) {
      const int32_t octaves = numbers[unit];
      if (octaves < -kOctaveLimit - 1 || octaves > kOctaveLimit) return false;
      channels_[position].octaves = octaves;
      channels_[position].step = FinerStep(target_.step, octaves);
      if (k % Together(group) == Together(group) - 1) ++unit;
    }
  }
  return true;
}

bool TileDecoder::ReadMeans(ByteReader& reader) {
  const uint32_t count = target_.tile->channels;
  std::array<int32_t, kTileChannels> classes{};
  std::array<int32_t, kTileChannels> means{};
  if (!ReadNumbers(reader, std::span(classes).first(count)) ||
      !ReadNumbers(reader, std::span(means).first(count))) {
    return false;
  }
  for (uint32_t position = 0; position < count; ++position) {
    Channel& channel = channels_[position];
    if (classes[position] < 0 || classes[position] > static_cast<int32_t>(kStoredClassMaximum)) {
      return false;
    }
    channel.stored_class = static_cast<uint32_t>(classes[position]);
    channel.code = CodeOf(channel.stored_class);
    channel.mean = static_cast<float>(means[position]) * (channel.step * kMeanStep);
    channel.plane_count = 0;
  }
  return true;
}

bool TileDecoder::ReadPlane(uint32_t plane, ByteReader& reader) {
  const std::span channels = std::span(channels_).first(target_.tile->channels);
  Coded& coded = coded_[plane];
  coded.count = 0;
  coded.escapes = {};
  if (std::ranges::any_of(channels, [&](const Channel& c) { return c.code.entry == plane; }) &&
      !Open(reader, plane == 0 ? StreamCount(rows_) : 1, coded)) {
    return false;
  }
  const size_t row_bytes = rows_ * sizeof(uint32_t);
  for (Channel& channel : channels) {
    const uint32_t bits = plane == 0 ? channel.code.extra : (channel.code.entry < plane ? 1 : 0);
    for (uint32_t bit = 0; bit < bits; ++bit) {
      channel.planes[channel.plane_count++] = reader.Take(row_bytes);
    }
  }
  return reader.ok();
}

bool TileDecoder::ReadTail(ByteReader& reader) {
  tail_formats_.Clear();
  const auto kind = reader.Read<uint8_t>();
  if (kind != static_cast<uint8_t>(TailKind::kAligned) &&
      kind != static_cast<uint8_t>(TailKind::kLoose)) {
    return false;
  }
  unrotated_tail_ = static_cast<TailKind>(kind);
  return Open(reader, TailStreamCount(rows_), coded_.back());
}

bool TileDecoder::Open(ByteReader& reader, uint32_t streams, Coded& coded) {
  std::array<uint32_t, kStreams> counts{};
  size_t total = 0;
  for (uint32_t s = 0; s < streams; ++s) {
    counts[s] = reader.Read<uint32_t>();
    total += counts[s];
  }
  if (!reader.ok() || total > kMaximumWords) return false;
  // Grows to the largest that was seen, and stays.
  if (coded.words.size() < total + streams * kSlackWords) {
    coded.words.resize(total + streams * kSlackWords);
  }
  coded.count = streams;
  uint16_t* at = coded.words.data();
  for (uint32_t s = 0; s < streams; ++s) {
    StreamReader& stream = coded.all[s];
    const uint8_t* states = reader.Take(sizeof(stream.states));
    const uint8_t* bytes = reader.Take(counts[s] * sizeof(uint16_t));
    if (!reader.ok()) return false;
    std::memcpy(stream.states.data(), states, sizeof(stream.states));
    std::memcpy(at, bytes, counts[s] * sizeof(uint16_t));
    stream.words = at;
    stream.end = at + counts[s];
    at += counts[s] + kSlackWords;
  }
  const auto escapes = reader.Read<uint32_t>();
  if (escapes > kTileChannels * kTileTokens) return false;
  coded.escapes = {reader.Take(2 * size_t{escapes}), escapes};
  return reader.ok();
}

bool TileDecoder::Use(Coded& coded, uint32_t escapes) {
  if (escapes > coded.escapes.left) return false;
  coded.escapes.bytes += 2 * size_t{escapes};
  coded.escapes.left -= escapes;
  return std::ranges::none_of(coded.streams(),
                              [](const StreamReader& s) { return s.words > s.end; });
}

bool TileDecoder::IsUsedUp(const Coded& coded) {
  return coded.escapes.left == 0 &&
         std::ranges::all_of(std::span(coded.all).first(coded.count),
                             [](const StreamReader& s) { return s.words == s.end; });
}

bool TileDecoder::DecodeChannel(uint32_t position, bool rotated, float* values) {
  const Channel& channel = channels_[position];
  if (channel.code.entry > level_) {
    std::fill(values, values + rows_ * kLanes, channel.mean);
    return true;
  }
  const Placement placement =
      lossless_
          ? TailPlacement(channel.step, channel.stored_class, channel.mean, token_scales(), rotated)
          : Placement{.scale = ScaleOf(channel.step, channel.stored_class, level_),
                      .mean = channel.mean,
                      .token_scales = token_scales()};
  Coded& coded = coded_[channel.code.entry];
  kernels_.decode_symbols(base_tables_[channel.code.table], coded.streams(), rows_,
                          symbols_.data());
  const uint32_t used = kernels_.reconstruct(
      symbols_.data(), coded.escapes.bytes, coded.escapes.left,
      std::span(channel.planes).first(channel.plane_count), rows_, placement, values);
  return Use(coded, used);
}

// Inlined, because GCC takes what only prefetches for a function without effect, and drops calls.
[[gnu::always_inline]] inline void TileDecoder::Prefetch(const Group& group, uint32_t channel,
                                                         uint32_t count) const {
  constexpr int kToWrite = 1;
  const int64_t stride = target_.view->stride_bytes[1];
  const uint32_t first = channel * target_.tokens / group.channels;
  const uint32_t end = (channel + count) * target_.tokens / group.channels;
  for (uint32_t r = 0; r < StoredRuns(group); ++r) {
    const std::byte* run = AddressOf(group, r);
    for (uint32_t token = first; token < end; ++token) {
      __builtin_prefetch(run + token * stride, kToWrite);
    }
  }
}

bool TileDecoder::DecodeGroup(const Group& group) {
  const uint32_t base = group.position - groups().front().position;
  const auto round = dtype_ == Dtype::kBf16 ? kernels_.round_bf16 : kernels_.round_fp16;
  const TailCode& code = TailCodeOf(group.rotated ? TailKind::kTurned : unrotated_tail_);
  const uint32_t together = Together(group);
  for (uint32_t k = 0; k < group.channels; k += together) {
    Prefetch(group, k, together);
    for (uint32_t i = 0; i < together; ++i) {
      if (!DecodeChannel(base + k + i, group.rotated, pair_values_[i].data())) return false;
    }
    if (group.rotated) {
      kernels_.rotate(pair_values_[0].data(), pair_values_[1].data(),
                      target_.rope->cosine(group.first_pair + k / 2),
                      target_.rope->sine(group.first_pair + k / 2), rows_);
    }
    for (uint32_t i = 0; i < together; ++i) {
      uint16_t* row = group_rows_.data() + group.rows[k + i] * kTileStride;
      round(pair_values_[i].data(), rows_, row);
      if (!lossless_) continue;
      Coded& tail = coded_.back();
      const TailFormat& format =
          tail_formats_.For(dtype_, target_.step, channels_[base + k + i].octaves, token_scales());
      const uint32_t used = kernels_.decode_tail(format, code, tail.streams(), tail.escapes.bytes,
                                                 tail.escapes.left, rows_, row);
      if (!Use(tail, used)) return false;
    }
  }
  StoreGroup(group);
  return true;
}

std::byte* TileDecoder::AddressOf(const Group& group, uint32_t run) const {
  const TensorView& view = *target_.view;
  return view.data + target_.first_token * view.stride_bytes[1] +
         group.head * view.stride_bytes[2] + 2 * int64_t{group.runs[run].dim};
}

void TileDecoder::StoreGroup(const Group& group) const {
  const uint32_t runs = StoredRuns(group);
  for (uint32_t r = 0; r < runs; ++r) {
    const uint32_t count = runs == 1 ? group.channels : group.runs[r].count;
    kernels_.scatter(group_rows_.data() + r * kRunChannels * kTileStride, count, target_.tokens,
                     AddressOf(group, r), target_.view->stride_bytes[1]);
  }
}

}  // namespace reprise::progressive
