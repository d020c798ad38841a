#include "codec/progressive/tile_decoder.h"

#include <algorithm>
#include <cstring>

#include "codec/progressive/scalar_rans.h"
#include "codec/progressive/tail.h"
#include "codec/progressive/tile_format.h"

namespace reprise::progressive {
namespace {

// What a channel's step may read past a stream's end before that is noticed.
constexpr size_t kSlackWords = 2 * size_t{kTileTokens};
constexpr size_t kStreamWords = 2 * size_t{kTileChannels} * kTileTokens;

}  // namespace

TileDecoder::TileDecoder(const Kernels& kernels, Dtype dtype)
    : kernels_(kernels),
      dtype_(dtype),
      symbols_(kTileChannels),
      values_(2),
      group_rows_(kGroupRows * kTileStride),
      words_(kStreamWords + kStreams * kSlackWords),
      tail_words_(kStreamWords + kStreams * kSlackWords) {
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
    if (plane == 0 && !ReadMeans(reader)) return false;
    if (!ReadPlane(plane, reader) || reader.left() != 0) return false;
  }
  if (lossless_) {
    ByteReader reader(planes.back());
    if (!ReadTail(reader) || reader.left() != 0) return false;
  }
  for (uint32_t g = 0; g < target.tile->group_count; ++g) {
    if (!DecodeGroup(target.tiling->groups[target.tile->first_group + g])) return false;
  }
  const bool escapes_used = std::ranges::all_of(std::span(escapes_).first(level_ + 1),
                                                [](const Escapes& e) { return e.left == 0; });
  if (!lossless_) return escapes_used;
  return escapes_used && tail_escapes_.left == 0 &&
         std::ranges::all_of(std::span(tail_streams_).first(StreamCount(rows_)),
                             [](const StreamReader& s) { return s.words == s.end; });
}

bool TileDecoder::ReadTokenScales(ByteReader& reader) {
  const int32_t smallest = reader.Read<int8_t>();
  const uint8_t* offsets = reader.Take(rows_ * kLanes / 2);
  if (!reader.ok() || std::abs(smallest) > kTokenExponentLimit) return false;
  for (uint32_t token = 0; token < rows_ * kLanes; ++token) {
    token_scales_.Set(token, smallest + (offsets[token / 2] >> token % 2 * 4 & 15));
  }
  return true;
}

bool TileDecoder::ReadMeans(ByteReader& reader) {
  const uint32_t count = target_.tile->channels;
  const uint8_t* classes = reader.Take(count);
  const auto width = reader.Read<uint8_t>();
  if (!reader.ok() || (width != 1 && width != 2)) return false;
  const uint8_t* means = reader.Take(size_t{count} * width);
  if (!reader.ok()) return false;
  const float mean_step = target_.step * kMeanStep;
  for (uint32_t position = 0; position < count; ++position) {
    Channel& channel = channels_[position];
    channel.stored_class = classes[position];
    if (channel.stored_class > kStoredClassMaximum) return false;
    channel.code = CodeOf(channel.stored_class);
    const int32_t index = width == 1 ? static_cast<int8_t>(means[position])
                                     : static_cast<int16_t>(LoadWord(means, position));
    channel.mean = static_cast<float>(index) * mean_step;
    channel.plane_count = 0;
  }
  return true;
}

bool TileDecoder::ReadPlane(uint32_t plane, ByteReader& reader) {
  const std::span channels = std::span(channels_).first(target_.tile->channels);
  escapes_[plane] = {};
  if (std::ranges::any_of(channels, [&](const Channel& c) { return c.code.entry == plane; })) {
    std::array<StreamReader, kStreams> all;
    const std::span streams(all.data(), plane == 0 ? StreamCount(rows_) : 1);
    if (!OpenStreams(reader, streams, words_)) return false;
    for (uint32_t position = 0; position < channels.size(); ++position) {
      const ClassCode& code = channels[position].code;
      if (code.entry != plane) continue;
      kernels_.decode_symbols(base_tables_[code.table], streams, rows_, symbols_[position].data());
      for (const StreamReader& stream : streams) {
        if (stream.words > stream.end) return false;
      }
    }
    for (const StreamReader& stream : streams) {
      if (stream.words != stream.end) return false;
    }
    const auto escapes = reader.Read<uint32_t>();
    if (escapes > kTileChannels * kTileTokens) return false;
    escapes_[plane] = {reader.Take(2 * size_t{escapes}), escapes};
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
  FillTailFormat(dtype_, target_.step, token_scales_, &tail_format_);
  for (uint32_t context = 0; context < kTailContexts; ++context) {
    Frequencies frequencies;
    const uint8_t* bytes = reader.Take(frequencies.size());
    if (bytes == nullptr) return false;
    std::memcpy(frequencies.data(), bytes, frequencies.size());
    if (!IsComplete(frequencies)) return false;
    tail_tables_.Set(context, frequencies);
  }
  const std::span streams = std::span(tail_streams_).first(StreamCount(rows_));
  if (!OpenStreams(reader, streams, tail_words_)) return false;
  const auto escapes = reader.Read<uint32_t>();
  if (escapes > kTileChannels * kTileTokens) return false;
  tail_escapes_ = {reader.Take(2 * size_t{escapes}), escapes};
  return reader.ok();
}

bool TileDecoder::OpenStreams(ByteReader& reader, std::span<StreamReader> streams,
                              std::vector<uint16_t>& words) {
  std::array<uint32_t, kStreams> counts{};
  size_t total = 0;
  for (size_t s = 0; s < streams.size(); ++s) {
    counts[s] = reader.Read<uint32_t>();
    total += counts[s];
  }
  if (!reader.ok() || total > kStreamWords) return false;
  uint16_t* at = words.data();
  for (size_t s = 0; s < streams.size(); ++s) {
    StreamReader& stream = streams[s];
    const uint8_t* states = reader.Take(sizeof(stream.states));
    const uint8_t* bytes = reader.Take(counts[s] * sizeof(uint16_t));
    if (!reader.ok()) return false;
    std::memcpy(stream.states.data(), states, sizeof(stream.states));
    std::memcpy(at, bytes, counts[s] * sizeof(uint16_t));
    stream.words = at;
    stream.end = at + counts[s];
    at += counts[s] + kSlackWords;
  }
  return true;
}

bool TileDecoder::ReconstructChannel(uint32_t position, bool rotated, float* values) {
  const Channel& channel = channels_[position];
  if (channel.code.entry > level_) {
    std::fill(values, values + rows_ * kLanes, channel.mean);
    return true;
  }
  const float scale = lossless_ ? TailScaleOf(target_.step, channel.stored_class, rotated)
                                : ScaleOf(target_.step, channel.stored_class, level_);
  Escapes& escapes = escapes_[channel.code.entry];
  const uint32_t used =
      kernels_.reconstruct(symbols_[position].data(), escapes.bytes, escapes.left,
                           std::span(channel.planes).first(channel.plane_count), rows_, scale,
                           token_scales_.scales.data(), channel.mean, values);
  if (used > escapes.left) return false;
  if (lossless_ && !rotated)
    kernels_.towards_zero(values, scale, token_scales_.scales.data(), rows_);
  escapes.bytes += 2 * size_t{used};
  escapes.left -= used;
  return true;
}

bool TileDecoder::DecodeGroup(const Group& group) {
  const uint32_t base = group.position - target_.tiling->groups[target_.tile->first_group].position;
  const auto round = dtype_ == Dtype::kBf16 ? kernels_.round_bf16 : kernels_.round_fp16;
  const std::span streams = std::span(tail_streams_).first(StreamCount(rows_));
  const uint32_t together = group.rotated ? 2 : 1;
  for (uint32_t k = 0; k < group.channels; k += together) {
    for (uint32_t i = 0; i < together; ++i) {
      if (!ReconstructChannel(base + k + i, group.rotated, values_[i].data())) return false;
    }
    if (group.rotated) {
      kernels_.rotate(values_[0].data(), values_[1].data(),
                      target_.rope->cosine(group.first_pair + k / 2),
                      target_.rope->sine(group.first_pair + k / 2), rows_);
    }
    for (uint32_t i = 0; i < together; ++i) {
      uint16_t* row = group_rows_.data() + group.rows[k + i] * kTileStride;
      round(values_[i].data(), rows_, row);
      if (!lossless_) continue;
      const uint32_t used = kernels_.decode_tail(
          tail_format_, tail_tables_, streams, tail_escapes_.bytes, tail_escapes_.left, rows_, row);
      if (used > tail_escapes_.left) return false;
      tail_escapes_.bytes += 2 * size_t{used};
      tail_escapes_.left -= used;
      for (const StreamReader& stream : streams) {
        if (stream.words > stream.end) return false;
      }
    }
  }
  StoreGroup(group);
  return true;
}

void TileDecoder::StoreGroup(const Group& group) const {
  const TensorView& view = *target_.view;
  std::byte* head =
      view.data + target_.first_token * view.stride_bytes[1] + group.head * view.stride_bytes[2];
  const bool one_run =
      group.runs[0].count == kRunChannels && group.runs[1].dim == group.runs[0].dim + kRunChannels;
  for (uint32_t r = 0; r < (one_run ? 1 : group.runs.size()); ++r) {
    const uint32_t count = one_run ? group.channels : group.runs[r].count;
    if (count == 0) continue;
    kernels_.scatter(group_rows_.data() + r * kRunChannels * kTileStride, count, target_.tokens,
                     head + 2 * int64_t{group.runs[r].dim}, view.stride_bytes[1]);
  }
}

}  // namespace reprise::progressive
