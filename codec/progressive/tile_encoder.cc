#include "codec/progressive/tile_encoder.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "codec/progressive/tail.h"
#include "codec/progressive/tile_format.h"

namespace reprise::progressive {
namespace {

void Append(std::vector<uint8_t>& bytes, const void* values, size_t size) {
  const auto* begin = static_cast<const uint8_t*>(values);
  bytes.insert(bytes.end(), begin, begin + size);
}

// The stored class of a mean square in units of the step's square; more than kStoredClassMaximum
// when it is too large for one.
uint32_t StoredClass(float mean_square) {
  // Twice the logarithm to base 2, rounded: four classes per octave of the deviation.
  constexpr float kQuarterOctave = 1.18920712F;
  constexpr float kRootOfTwo = 1.41421356F;
  if (!(mean_square > 0)) return 0;
  int exponent = 0;
  const float mantissa = 2 * std::frexp(mean_square * kQuarterOctave, &exponent);
  const int32_t value = 2 * (exponent - 1) + (mantissa >= kRootOfTwo ? 1 : 0);
  constexpr int32_t kSmallest =
      kClassFloor - static_cast<int32_t>(kLossyPlanes - 1) * kClassesPerOctave;
  if (value < kSmallest) return 0;
  return static_cast<uint32_t>(std::min(value, kClassMaximum + 1) + kClassBias);
}

// Of the power of two nearest to the root of a mean square.
int32_t NearestExponent(float mean_square) {
  if (!(mean_square > 0)) return -kTokenExponentLimit;
  int exponent = 0;
  std::frexp(mean_square * 2, &exponent);
  // The square lies in [2^(exponent - 2), 2^(exponent - 1)); even exponents round down.
  const int32_t half = (exponent - 1) >> 1;
  return std::clamp(half, -kTokenExponentLimit, kTokenExponentLimit);
}

bool IsFinite(const uint16_t* bits, uint32_t count, uint32_t infinity) {
  uint32_t infinite = 0;
  for (uint32_t i = 0; i < count; ++i) {
    infinite |= static_cast<uint32_t>((bits[i] & infinity) == infinity);
  }
  return infinite == 0;
}

}  // namespace

TileEncoder::TileEncoder(const Kernels& kernels, Dtype dtype)
    : kernels_(kernels),
      dtype_(dtype),
      values_(kTileChannels),
      cells_(kTileChannels),
      exact_(kTileChannels),
      guess_(kTileChannels),
      symbols_(kTileChannels),
      tails_(kTileChannels),
      group_rows_(kGroupRows * kTileStride),
      group_values_(2),
      escapes_(2 * size_t{kTileChannels} * kTileTokens),
      words_(kStreamWords) {
  for (uint32_t table = 0; table < kTables; ++table) {
    base_tables_[table] = MakeSymbolTable(BaseFrequencies(table));
  }
}

bool TileEncoder::Load(const Source& source) {
  source_ = source;
  rows_ = RowCount(source.tokens);
  for (uint32_t g = 0; g < source.tile->group_count; ++g) {
    if (!LoadGroup(source.tiling->groups[source.tile->first_group + g])) return false;
  }
  return true;
}

float TileEncoder::Deviation() const {
  static const TokenScales ones;
  const float count = static_cast<float>(rows_ * kLanes);
  double squares = 0;
  for (uint32_t position = 0; position < source_.tile->channels; ++position) {
    const float* values = values_[position].data();
    const float mean = kernels_.sum(values, rows_) / count;
    squares += kernels_.sum_of_squares(values, mean, ones.factors.data(), rows_);
  }
  return static_cast<float>(std::sqrt(squares / (source_.tile->channels * double{count})));
}

bool TileEncoder::Quantize(float step) {
  step_ = step;
  for (uint32_t position = 0; position < source_.tile->channels; ++position) {
    if (!StoreMean(position)) return false;
  }
  if (source_.token_scales) MeasureTokens();
  for (uint32_t position = 0; position < source_.tile->channels; ++position) {
    if (!Classify(position)) return false;
  }
  for (uint32_t g = 0; g < source_.tile->group_count; ++g) {
    GuessGroup(source_.tiling->groups[source_.tile->first_group + g]);
  }
  return true;
}

bool TileEncoder::LoadGroup(const Group& group) {
  const TensorView& view = *source_.view;
  for (uint32_t r = 0; r < group.runs.size(); ++r) {
    const Run& run = group.runs[r];
    if (run.count == 0) continue;
    const std::byte* first = view.data + source_.first_token * view.stride_bytes[1] +
                             group.head * view.stride_bytes[2] + 2 * int64_t{run.dim};
    kernels_.gather(first, view.stride_bytes[1], run.count, source_.tokens,
                    group_rows_.data() + r * kRunChannels * kTileStride);
  }
  const uint32_t base = group.position - source_.tiling->groups[source_.tile->first_group].position;
  for (uint32_t k = 0; k < group.channels; ++k) {
    uint16_t* row = group_rows_.data() + group.rows[k] * kTileStride;
    // What stands for the sinks and behind the last token costs little: a neighbour's value.
    const uint32_t first = std::min(source_.sinks, source_.tokens - 1);
    std::fill(row, row + first, row[first]);
    std::fill(row + source_.tokens, row + rows_ * kLanes, row[source_.tokens - 1]);
    if (!IsFinite(row, rows_ * kLanes, InfinityOf(dtype_))) return false;
    std::memcpy(exact_[base + k].data(), row, rows_ * kLanes * sizeof(*row));
    const auto widen = dtype_ == Dtype::kBf16 ? kernels_.widen_bf16 : kernels_.widen_fp16;
    widen(row, rows_, values_[base + k].data());
  }
  if (group.rotated) {
    for (uint32_t pair = 0; pair < group.channels / 2; ++pair) {
      kernels_.rotate(values_[base + 2 * pair + 1].data(), values_[base + 2 * pair].data(),
                      source_.rope->cosine(group.first_pair + pair),
                      source_.rope->sine(group.first_pair + pair), rows_);
    }
  }
  return true;
}

bool TileEncoder::StoreMean(uint32_t position) {
  Channel& channel = channels_[position];
  const float count = static_cast<float>(rows_ * kLanes);
  const float mean_step = step_ * kMeanStep;
  const float mean = kernels_.sum(values_[position].data(), rows_) / count / mean_step;
  if (!(std::abs(mean) < kMeanIndexLimit)) return false;
  channel.mean_index = static_cast<int32_t>(std::nearbyint(mean));
  channel.mean = static_cast<float>(channel.mean_index) * mean_step;
  return true;
}

void TileEncoder::MeasureTokens() {
  alignas(64) std::array<float, kTileTokens> squares{};
  for (uint32_t position = 0; position < source_.tile->channels; ++position) {
    kernels_.add_squares(values_[position].data(), channels_[position].mean, rows_, squares.data());
  }
  std::array<int32_t, kTileTokens> exponents{};
  int32_t largest = -kTokenExponentLimit;
  const float count = static_cast<float>(source_.tile->channels);
  for (uint32_t token = 0; token < rows_ * kLanes; ++token) {
    exponents[token] = NearestExponent(squares[token] / count);
    largest = std::max(largest, exponents[token]);
  }
  const auto first = exponents.begin();
  smallest_exponent_ = std::max(*std::min_element(first, first + rows_ * kLanes),
                                largest - static_cast<int32_t>(kTokenExponentRange));
  for (uint32_t token = 0; token < rows_ * kLanes; ++token) {
    const int32_t exponent = std::max(exponents[token], smallest_exponent_);
    token_offsets_[token] = static_cast<uint8_t>(exponent - smallest_exponent_);
    token_scales_.Set(token, exponent);
  }
}

bool TileEncoder::Classify(uint32_t position) {
  Channel& channel = channels_[position];
  const float* values = values_[position].data();
  const float count = static_cast<float>(rows_ * kLanes);
  const float* factors = token_scales_.factors.data();
  const float mean_square = kernels_.sum_of_squares(values, channel.mean, factors, rows_) / count;
  channel.stored_class = StoredClass(mean_square / (step_ * step_));
  if (channel.stored_class > kStoredClassMaximum) return false;
  channel.code = CodeOf(channel.stored_class);
  if (channel.code.entry < kLossyPlanes) {
    const float inverse = static_cast<float>(1U << (kLossyPlanes - 1)) / step_;
    kernels_.quantize(values, channel.mean, factors, inverse, rows_, cells_[position].data());
  }
  return true;
}

void TileEncoder::GuessGroup(const Group& group) {
  const uint32_t base = group.position - source_.tiling->groups[source_.tile->first_group].position;
  const auto round = dtype_ == Dtype::kBf16 ? kernels_.round_bf16 : kernels_.round_fp16;
  const uint32_t together = group.rotated ? 2 : 1;
  for (uint32_t k = 0; k < group.channels; k += together) {
    for (uint32_t i = 0; i < together; ++i) {
      const Channel& channel = channels_[base + k + i];
      float* values = group_values_[i].data();
      if (channel.code.entry < kLossyPlanes) {
        const float scale = TailScaleOf(step_, channel.stored_class, group.rotated);
        const float* token_scales = token_scales_.scales.data();
        kernels_.dequantize(cells_[base + k + i].data(), 0, scale, token_scales, channel.mean,
                            rows_, values);
        if (!group.rotated) kernels_.towards_zero(values, scale, token_scales, rows_);
      } else {
        std::fill(values, values + rows_ * kLanes, channel.mean);
      }
    }
    if (group.rotated) {
      kernels_.rotate(group_values_[0].data(), group_values_[1].data(),
                      source_.rope->cosine(group.first_pair + k / 2),
                      source_.rope->sine(group.first_pair + k / 2), rows_);
    }
    for (uint32_t i = 0; i < together; ++i) {
      round(group_values_[i].data(), rows_, guess_[base + k + i].data());
    }
  }
}

void TileEncoder::AddErrors(std::array<double, kLossyPlanes>& squared_error,
                            double& squared_norm) const {
  static const TokenScales ones;
  for (uint32_t position = 0; position < source_.tile->channels; ++position) {
    const Channel& channel = channels_[position];
    const float* values = values_[position].data();
    squared_norm += kernels_.sum_of_squares(values, 0, ones.factors.data(), rows_);
    const double unentered =
        kernels_.sum_of_squares(values, channel.mean, ones.factors.data(), rows_);
    for (uint32_t plane = 0; plane < kLossyPlanes; ++plane) {
      squared_error[plane] +=
          plane < channel.code.entry
              ? unentered
              : double{kernels_.squared_error(values, cells_[position].data(), ShiftOf(plane),
                                              ScaleOf(step_, channel.stored_class, plane),
                                              token_scales_.scales.data(), channel.mean, rows_)};
    }
  }
}

void TileEncoder::AppendPlane(uint32_t plane, std::vector<uint8_t>& bytes) {
  const uint32_t channels = source_.tile->channels;
  if (plane == 0) {
    if (source_.token_scales) AppendTokenScales(bytes);
    AppendMeans(bytes);
  }
  AppendSymbols(plane, bytes);
  for (uint32_t position = 0; position < channels; ++position) {
    const ClassCode& code = channels_[position].code;
    if (plane == 0) {
      for (uint32_t bit = code.extra; bit-- > 0;) {
        AppendBits(ShiftOf(0) + bit, position, bytes);
      }
    } else if (code.entry < plane) {
      AppendBits(ShiftOf(plane), position, bytes);
    }
  }
}

void TileEncoder::AppendTokenScales(std::vector<uint8_t>& bytes) const {
  bytes.push_back(static_cast<uint8_t>(smallest_exponent_));
  for (uint32_t token = 0; token < rows_ * kLanes; token += 2) {
    bytes.push_back(static_cast<uint8_t>(token_offsets_[token] | token_offsets_[token + 1] << 4));
  }
}

void TileEncoder::AppendMeans(std::vector<uint8_t>& bytes) const {
  const uint32_t channels = source_.tile->channels;
  bool wide = false;
  for (uint32_t position = 0; position < channels; ++position) {
    const int32_t index = channels_[position].mean_index;
    wide = wide || index < INT8_MIN || index > INT8_MAX;
    bytes.push_back(static_cast<uint8_t>(channels_[position].stored_class));
  }
  bytes.push_back(wide ? 2 : 1);
  for (uint32_t position = 0; position < channels; ++position) {
    const auto index = static_cast<uint32_t>(channels_[position].mean_index);
    bytes.push_back(static_cast<uint8_t>(index));
    if (wide) bytes.push_back(static_cast<uint8_t>(index >> 8));
  }
}

void TileEncoder::AppendSymbols(uint32_t plane, std::vector<uint8_t>& bytes) {
  uint32_t entering = 0;
  uint32_t escapes = 0;
  for (uint32_t position = 0; position < source_.tile->channels; ++position) {
    const ClassCode& code = channels_[position].code;
    if (code.entry != plane) continue;
    ++entering;
    escapes += kernels_.split_symbols(cells_[position].data(), ShiftOf(plane) + code.extra,
                                      BaseReach(code.table), rows_, symbols_[position].data(),
                                      escapes_.data() + 2 * size_t{escapes});
  }
  if (entering == 0) return;
  std::array<StreamWriter, kStreams> all = OpenStreams();
  const std::span streams(all.data(), plane == 0 ? StreamCount(rows_) : 1);
  for (uint32_t position = source_.tile->channels; position-- > 0;) {
    const ClassCode& code = channels_[position].code;
    if (code.entry != plane) continue;
    kernels_.encode_symbols(base_tables_[code.table], streams, rows_, symbols_[position].data());
  }
  AppendStreams(streams, bytes);
  Append(bytes, &escapes, sizeof(escapes));
  Append(bytes, escapes_.data(), 2 * size_t{escapes});
}

void TileEncoder::AppendBits(uint32_t shift, uint32_t position, std::vector<uint8_t>& bytes) const {
  const size_t at = bytes.size();
  bytes.resize(at + rows_ * sizeof(uint32_t));
  kernels_.split_plane(cells_[position].data(), shift, rows_, bytes.data() + at);
}

void TileEncoder::AppendTail(std::vector<uint8_t>& bytes) {
  const uint32_t channels = source_.tile->channels;
  TailFormat format;
  FillTailFormat(dtype_, step_, token_scales_, &format);
  std::array<std::array<uint32_t, 16>, kTailContexts> counts{};
  uint32_t escapes = 0;
  for (uint32_t position = 0; position < channels; ++position) {
    TailSymbols& tail = tails_[position];
    escapes += kernels_.split_tail(format, guess_[position].data(), exact_[position].data(), rows_,
                                   &tail, escapes_.data() + 2 * size_t{escapes});
    for (uint32_t i = 0; i < rows_ * kLanes; ++i) ++counts[tail.context[i]][tail.symbol[i]];
  }
  TailSymbolTables tables;
  for (uint32_t context = 0; context < kTailContexts; ++context) {
    const Frequencies frequencies = FitFrequencies(counts[context]);
    tables.Set(context, frequencies);
    Append(bytes, frequencies.data(), frequencies.size());
  }
  std::array<StreamWriter, kStreams> all = OpenStreams();
  const std::span streams(all.data(), StreamCount(rows_));
  for (uint32_t position = channels; position-- > 0;) {
    kernels_.encode_tail(format, tables, streams, rows_, tails_[position]);
  }
  AppendStreams(streams, bytes);
  Append(bytes, &escapes, sizeof(escapes));
  Append(bytes, escapes_.data(), 2 * size_t{escapes});
}

std::array<StreamWriter, kStreams> TileEncoder::OpenStreams() {
  // A single stream may take the room of all.
  std::array<StreamWriter, kStreams> streams;
  for (uint32_t s = 0; s < kStreams; ++s) {
    streams[s].states.fill(kStateFloor);
    streams[s].words = words_.data() + kStreamWords - s * (kStreamWords / kStreams);
    streams[s].end = streams[s].words;
  }
  return streams;
}

void TileEncoder::AppendStreams(std::span<const StreamWriter> streams,
                                std::vector<uint8_t>& bytes) const {
  for (const StreamWriter& stream : streams) {
    const auto count = static_cast<uint32_t>(stream.end - stream.words);
    Append(bytes, &count, sizeof(count));
  }
  for (const StreamWriter& stream : streams) {
    Append(bytes, stream.states.data(), sizeof(stream.states));
    Append(bytes, stream.words, static_cast<size_t>(stream.end - stream.words) * sizeof(uint16_t));
  }
}

}  // namespace reprise::progressive
