#include "codec/progressive/tile_encoder.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "codec/progressive/tile_format.h"

namespace reprise::progressive {
namespace {

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
  const auto bits = std::bit_cast<uint32_t>(mean_square);
  if (!(mean_square > 0) || bits < 1U << 23) return -kTokenExponentLimit;
  // The square lies in [2^exponent, 2^(exponent + 1)); odd exponents round up.
  const int32_t exponent = static_cast<int32_t>(bits >> 23) - 127;
  return std::clamp((exponent + 1) >> 1, -kTokenExponentLimit, kTokenExponentLimit);
}

// Within 0.09, the same on every machine.
float Log2(float value) {
  int exponent = 0;
  const float mantissa = std::frexp(value, &exponent);
  return static_cast<float>(exponent - 2) + 2 * mantissa;
}

// What one channel may add to an output, and room for a vector store behind it.
constexpr size_t kChannelRoom = 2 * size_t{kTileTokens} + 64;
constexpr size_t kRowBytes = sizeof(uint32_t);
constexpr size_t kMaximumExtraBits = (kClassMaximum - kClassCeiling) / kClassesPerOctave + 1;

}  // namespace

TileEncoder::TileEncoder(const Kernels& kernels, Dtype dtype)
    : kernels_(kernels),
      dtype_(dtype),
      symbols_(kTileChannels),
      tails_(kTileChannels),
      words_(kStreamWords) {
  for (uint32_t table = 0; table < kTables; ++table) {
    base_tables_[table] = MakeSymbolTable(BaseFrequencies(table));
  }
  for (uint32_t plane = 0; plane < kLossyPlanes; ++plane) {
    const size_t bits = plane == 0 ? kMaximumExtraBits : 1;
    bits_[plane].bytes.resize(bits * kTileChannels * kTileRows * kRowBytes);
  }
  coded_.reserve(kTileChannels);
}

uint8_t* TileEncoder::Output::Room() {
  if (bytes.size() < size + kChannelRoom) bytes.resize(2 * (size + kChannelRoom));
  return bytes.data() + size;
}

bool TileEncoder::Load(const Source& source) {
  source_ = source;
  rows_ = RowCount(source.tokens);
  deviation_squares_ = 0;
  // Grows to the largest tile that was seen, and stays.
  const size_t size = size_t{source.tile->group_count} * kGroupRows * kTileStride;
  if (exact_rows_.size() < size) exact_rows_.resize(size);
  for (uint32_t g = 0; g < groups().size(); ++g) {
    GatherGroup(g);
    if (!MeasureGroup(groups()[g])) return false;
  }
  return true;
}

float TileEncoder::Deviation() const {
  const auto count = static_cast<double>(source_.tile->channels * rows_ * kLanes);
  return static_cast<float>(std::sqrt(std::max(deviation_squares_, 0.0) / count));
}

bool TileEncoder::Quantize(float step) {
  step_ = step;
  ChooseOctaves();
  for (uint32_t position = 0; position < source_.tile->channels; ++position) {
    Channel& channel = channels_[position];
    channel.step = FinerStep(step, channel.octaves);
    if (!StoreMean(position)) return false;
  }
  if (source_.token_scales) MeasureTokens();
  tail_formats_.Clear();
  for (const TailKind unrotated : {TailKind::kAligned, TailKind::kLoose}) {
    Begin();
    unrotated_tail_ = unrotated;
    for (const Group& group : groups()) {
      if (!QuantizeGroup(group)) return false;
      if (uncodable_) break;
    }
    if (!uncodable_) return true;
  }
  return false;
}

void TileEncoder::GatherGroup(uint32_t group_in_tile) {
  const Group& group = groups()[group_in_tile];
  const TensorView& view = *source_.view;
  uint16_t* rows = exact_rows_.data() + size_t{group_in_tile} * kGroupRows * kTileStride;
  for (uint32_t r = 0; r < group.runs.size(); ++r) {
    const Run& run = group.runs[r];
    if (run.count == 0) continue;
    const std::byte* first = view.data + source_.first_token * view.stride_bytes[1] +
                             group.head * view.stride_bytes[2] + 2 * int64_t{run.dim};
    kernels_.gather(first, view.stride_bytes[1], run.count, source_.tokens,
                    rows + r * kRunChannels * kTileStride);
  }
  for (uint32_t k = 0; k < group.channels; ++k) {
    uint16_t* row = rows + group.rows[k] * kTileStride;
    // What stands for the sinks and behind the last token costs little: a neighbour's value.
    const uint32_t first = std::min(source_.sinks, source_.tokens - 1);
    std::fill(row, row + first, row[first]);
    std::fill(row + source_.tokens, row + rows_ * kLanes, row[source_.tokens - 1]);
    exact_[PositionInTile(group) + k] = row;
  }
}

uint16_t TileEncoder::LoadValues(const Group& group, uint32_t channel) {
  const auto widen = dtype_ == Dtype::kBf16 ? kernels_.widen_bf16 : kernels_.widen_fp16;
  const uint32_t position = PositionInTile(group) + channel;
  const uint16_t largest = widen(exact_[position], rows_, values_[0].data());
  if (!group.rotated) return largest;
  const uint16_t other = widen(exact_[position + 1], rows_, values_[1].data());
  const uint32_t pair = group.first_pair + channel / 2;
  kernels_.rotate(values_[1].data(), values_[0].data(), source_.rope->cosine(pair),
                  source_.rope->sine(pair), rows_);
  return std::max(largest, other);
}

bool TileEncoder::MeasureGroup(const Group& group) {
  const auto count = static_cast<float>(rows_ * kLanes);
  for (uint32_t k = 0; k < group.channels; k += Together(group)) {
    if (LoadValues(group, k) > LargestCoded(dtype_)) return false;
    for (uint32_t i = 0; i < Together(group); ++i) {
      const Moments moments = kernels_.moments(values_[i].data(), rows_);
      channels_[PositionInTile(group) + k + i].mean = values_[i][0] + moments.sum / count;
      deviation_squares_ += double{moments.squares} - double{moments.sum} * moments.sum / count;
    }
  }
  return true;
}

void TileEncoder::ChooseOctaves() {
  for (uint32_t position = 0; position < source_.tile->channels; ++position) {
    channels_[position].octaves = source_.octaves.empty() ? 0 : source_.octaves[position];
  }
  if (!source_.octaves.empty()) return;
  // Channels of K with large means meet large queries (docs/codec.md), so they are worth finer
  // steps: by the power kMeanWeight of the mean, relative to the tile's.
  std::array<float, kTileChannels> logarithms{};
  float sum = 0;
  float count = 0;
  for (const Group& group : groups()) {
    if (!group.rotated) continue;
    for (uint32_t k = 0; k < group.channels; k += 2) {
      const uint32_t position = PositionInTile(group) + k;
      const float a = channels_[position].mean;
      const float b = channels_[position + 1].mean;
      const float squares = (a * a + b * b) / (step_ * step_);
      // Also of what is infinite or no number: such a tile is not coded, but it comes this far.
      logarithms[position] =
          Log2(squares < kLargestMean ? std::max(squares, kSmallestMean) : kLargestMean);
      sum += logarithms[position];
      ++count;
    }
  }
  for (const Group& group : groups()) {
    if (!group.rotated) continue;
    for (uint32_t k = 0; k < group.channels; k += 2) {
      const uint32_t position = PositionInTile(group) + k;
      const float octaves = (logarithms[position] - sum / count) * (kMeanWeight / 2);
      const float bounded = std::clamp<float>(octaves, -kOctaveLimit, kOctaveLimit);
      channels_[position].octaves = static_cast<int32_t>(std::nearbyint(bounded));
      channels_[position + 1].octaves = channels_[position].octaves;
    }
  }
}

bool TileEncoder::StoreMean(uint32_t position) {
  Channel& channel = channels_[position];
  const float mean_step = channel.step * kMeanStep;
  const float mean = channel.mean / mean_step;
  if (!(std::abs(mean) < kMeanIndexLimit)) return false;
  channel.mean_index = static_cast<int32_t>(std::nearbyint(mean));
  channel.mean = static_cast<float>(channel.mean_index) * mean_step;
  return true;
}

void TileEncoder::MeasureTokens() {
  alignas(64) std::array<float, kTileTokens> squares{};
  for (const Group& group : groups()) {
    for (uint32_t k = 0; k < group.channels; ++k) {
      LoadValues(group, k);
      kernels_.add_squares(values_[0].data(), channels_[PositionInTile(group) + k].mean, rows_,
                           squares.data());
    }
  }
  std::array<int32_t, kTileTokens> exponents{};
  int32_t largest = -kTokenExponentLimit;
  const float inverse_count = kTokenBias / static_cast<float>(source_.tile->channels);
  for (uint32_t token = 0; token < rows_ * kLanes; ++token) {
    exponents[token] = NearestExponent(squares[token] * inverse_count);
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

void TileEncoder::Begin() {
  uncodable_ = false;
  errors_ = {};
  for (Output& bits : bits_) bits.size = 0;
  for (Output& escapes : escapes_) escapes.size = 0;
}

bool TileEncoder::QuantizeGroup(const Group& group) {
  const uint32_t base = PositionInTile(group);
  const auto round = dtype_ == Dtype::kBf16 ? kernels_.round_bf16 : kernels_.round_fp16;
  const TailCode& code = TailCodeOf(group.rotated ? TailKind::kTurned : unrotated_tail_);
  for (uint32_t k = 0; k < group.channels; k += Together(group)) {
    LoadValues(group, k);
    for (uint32_t i = 0; i < Together(group); ++i) {
      if (!QuantizeChannel(base + k + i, group.rotated, values_[i])) return false;
    }
    if (group.rotated) {
      kernels_.rotate(values_[0].data(), values_[1].data(),
                      source_.rope->cosine(group.first_pair + k / 2),
                      source_.rope->sine(group.first_pair + k / 2), rows_);
    }
    for (uint32_t i = 0; i < Together(group); ++i) {
      const uint32_t position = base + k + i;
      const TailFormat& format =
          tail_formats_.For(dtype_, step_, channels_[position].octaves, token_scales());
      Output& escapes = escapes_[kLossyPlanes];
      round(values_[i].data(), rows_, guess_.data());
      const uint32_t escaped = kernels_.split_tail(format, code, guess_.data(), exact_[position],
                                                   rows_, &tails_[position], escapes.Room());
      uncodable_ = escaped == kUncodable;
      if (uncodable_) return true;
      escapes.size += 2 * size_t{escaped};
    }
  }
  return true;
}

bool TileEncoder::QuantizeChannel(uint32_t position, bool rotated, Floats& floats) {
  Channel& channel = channels_[position];
  float* values = floats.data();
  const float mean_square = kernels_.sum_of_squares(values, channel.mean, token_factors(), rows_) /
                            static_cast<float>(rows_ * kLanes);
  channel.stored_class = StoredClass(mean_square / (channel.step * channel.step));
  if (channel.stored_class > kStoredClassMaximum) return false;
  channel.code = CodeOf(channel.stored_class);
  if (channel.code.entry < kLossyPlanes) {
    const float inverse = static_cast<float>(1U << (kLossyPlanes - 1)) / channel.step;
    kernels_.quantize(values, channel.mean, token_factors(), inverse, rows_, cells_.data());
    SplitCells(position);
    AddChannelErrors(position, values);
    kernels_.place(
        cells_.data(), rows_,
        TailPlacement(channel.step, channel.stored_class, channel.mean, token_scales(), rotated),
        values);
  } else {
    AddChannelErrors(position, values);
    std::fill_n(values, rows_ * kLanes, channel.mean);
  }
  return true;
}

void TileEncoder::SplitCells(uint32_t position) {
  const ClassCode& code = channels_[position].code;
  Output& escapes = escapes_[code.entry];
  const uint32_t lowest = ShiftOf(code.entry) + code.extra;
  escapes.size +=
      2 * size_t{kernels_.split_symbols(cells_.data(), lowest, BaseReach(code.table), rows_,
                                        symbols_[position].data(), escapes.Room())};
  std::array<BitPlane, kMaximumExtraBits + kLossyPlanes> planes;
  uint32_t count = 0;
  const auto add = [&](uint32_t plane, uint32_t shift) {
    Output& bits = bits_[plane];
    planes[count++] = {.shift = shift, .bits = bits.bytes.data() + bits.size};
    bits.size += rows_ * kRowBytes;
  };
  for (uint32_t bit = code.extra; bit-- > 0;) add(0, ShiftOf(0) + bit);
  for (uint32_t plane = code.entry + 1; plane < kLossyPlanes; ++plane) add(plane, ShiftOf(plane));
  kernels_.split_planes(cells_.data(), std::span(planes).first(count), rows_);
}

void TileEncoder::AddChannelErrors(uint32_t position, const float* values) {
  const Channel& channel = channels_[position];
  std::array<float, kLossyPlanes> scales{};
  for (uint32_t plane = channel.code.entry; plane < kLossyPlanes; ++plane) {
    scales[plane] = ScaleOf(channel.step, channel.stored_class, plane);
  }
  const uint32_t stride = rows_ < kMeasuredRows ? 1 : kMeasuredRows;
  kernels_.add_errors(values, cells_.data(), {.mean = channel.mean, .token_scales = token_scales()},
                      scales, position % stride, stride, rows_, errors_);
}

void TileEncoder::AddErrors(std::array<double, kLossyPlanes>& squared_error,
                            double& squared_norm) const {
  for (uint32_t plane = 0; plane < kLossyPlanes; ++plane) {
    squared_error[plane] += double{AddPairwise(errors_.sums[plane])};
  }
  squared_norm += double{AddPairwise(errors_.sums[kLossyPlanes])};
}

}  // namespace reprise::progressive
