// The reference: every other instruction set computes what this file says.

#include <algorithm>
#include <cmath>
#include <cstring>

#include "codec/progressive/float16.h"
#include "codec/progressive/kernels.h"
#include "codec/progressive/scalar_rans.h"

namespace reprise::progressive {
namespace {

void DecodeSymbols(const SlotTable& table, std::span<StreamReader> streams, uint32_t rows,
                   uint8_t* symbols) {
  for (uint32_t row = 0; row < rows; ++row) {
    StreamReader& stream = streams[row % streams.size()];
    for (uint32_t lane = 0; lane < kLanes; ++lane) {
      symbols[row * kLanes + lane] = static_cast<uint8_t>(PopSymbol(table, stream.states[lane]));
    }
    for (uint32_t& state : stream.states) Refill(state, stream);
  }
}

void EncodeSymbols(std::span<const CodedSymbols> channels, std::span<StreamWriter> streams,
                   uint32_t rows) {
  for (size_t channel = channels.size(); channel-- > 0;) {
    const auto& [table, symbols] = channels[channel];
    for (uint32_t row = rows; row-- > 0;) {
      StreamWriter& stream = streams[row % streams.size()];
      for (uint32_t lane = kLanes; lane-- > 0;) {
        const uint32_t symbol = symbols[row * kLanes + lane];
        Spill(stream.states[lane], stream, table->frequency[symbol], kSlotBits);
      }
      for (uint32_t lane = 0; lane < kLanes; ++lane) {
        PushSymbol(*table, symbols[row * kLanes + lane], stream.states[lane]);
      }
    }
  }
}

float Placed(const Placement& placement, int16_t cell, uint32_t token) {
  const float middle = static_cast<float>(2 * cell + 1) * placement.scale;
  const float scale = placement.token_scales == nullptr ? 1 : placement.token_scales[token];
  const float value = middle * scale + placement.mean;
  if (!placement.to_end) return value;
  return std::copysign(std::abs(value) - placement.scale * scale, value);
}

uint32_t Reconstruct(const uint8_t* symbols, const uint8_t* escapes, uint32_t escape_count,
                     std::span<const uint8_t* const> planes, uint32_t rows,
                     const Placement& placement, float* values) {
  uint32_t used = 0;
  for (uint32_t i = 0; i < rows * kLanes; ++i) {
    int32_t cell = static_cast<int32_t>(symbols[i]) - kCellOffset;
    if (symbols[i] == kEscape) {
      if (used == escape_count) return escape_count + 1;
      cell = static_cast<int16_t>(LoadWord(escapes, used++));
    }
    for (const uint8_t* plane : planes) {
      uint32_t row_bits = 0;
      std::memcpy(&row_bits, plane + i / kLanes * sizeof(row_bits), sizeof(row_bits));
      cell = static_cast<int16_t>(2 * cell + static_cast<int32_t>(row_bits >> i % kLanes & 1));
    }
    values[i] = Placed(placement, static_cast<int16_t>(cell), i);
  }
  return used;
}

void Place(const int16_t* cells, uint32_t rows, const Placement& placement, float* values) {
  for (uint32_t i = 0; i < rows * kLanes; ++i) values[i] = Placed(placement, cells[i], i);
}

void Rotate(float* a, float* b, const float* cosine, const float* sine, uint32_t rows) {
  for (uint32_t i = 0; i < rows * kLanes; ++i) {
    const float x = a[i];
    const float y = b[i];
    a[i] = x * cosine[i] - y * sine[i];
    b[i] = y * cosine[i] + x * sine[i];
  }
}

void RoundBf16(const float* values, uint32_t rows, uint16_t* bits) {
  for (uint32_t i = 0; i < rows * kLanes; ++i) bits[i] = NearestBf16(values[i]);
}

void RoundFp16(const float* values, uint32_t rows, uint16_t* bits) {
  for (uint32_t i = 0; i < rows * kLanes; ++i) bits[i] = Fp16Of(values[i]);
}

template <float (*FloatOf)(uint16_t)>
uint16_t Widen(const uint16_t* bits, uint32_t rows, float* values) {
  int largest = 0;
  for (uint32_t i = 0; i < rows * kLanes; ++i) {
    values[i] = FloatOf(bits[i]);
    largest = std::max(largest, bits[i] & 0x7FFF);
  }
  return static_cast<uint16_t>(largest);
}

void Scatter(const uint16_t* rows_of_channels, uint32_t channels, uint32_t tokens,
             std::byte* destination, int64_t token_stride_bytes) {
  for (uint32_t token = 0; token < tokens; ++token, destination += token_stride_bytes) {
    for (uint32_t c = 0; c < channels; ++c) {
      std::memcpy(destination + 2 * c, &rows_of_channels[c * kTileStride + token], 2);
    }
  }
}

void Gather(const std::byte* source, int64_t token_stride_bytes, uint32_t channels, uint32_t tokens,
            uint16_t* rows_of_channels) {
  for (uint32_t token = 0; token < tokens; ++token, source += token_stride_bytes) {
    for (uint32_t c = 0; c < channels; ++c) {
      std::memcpy(&rows_of_channels[c * kTileStride + token], source + 2 * c, 2);
    }
  }
}

Moments MomentsOf(const float* values, uint32_t rows) {
  std::array<float, 16> sums{};
  std::array<float, 16> squares{};
  for (uint32_t i = 0; i < rows * kLanes; ++i) {
    const float value = values[i] - values[0];
    sums[i % 16] = sums[i % 16] + value;
    squares[i % 16] = squares[i % 16] + value * value;
  }
  return {AddPairwise(sums), AddPairwise(squares)};
}

float FactorOf(const float* token_factors, uint32_t token) {
  return token_factors == nullptr ? 1 : token_factors[token];
}

float SumOfSquares(const float* values, float mean, const float* token_factors, uint32_t rows) {
  std::array<float, 16> sums{};
  for (uint32_t i = 0; i < rows * kLanes; ++i) {
    const float centred = (values[i] - mean) * FactorOf(token_factors, i);
    sums[i % 16] = sums[i % 16] + centred * centred;
  }
  return AddPairwise(sums);
}

void AddSquares(const float* values, float mean, uint32_t rows, float* sums) {
  for (uint32_t i = 0; i < rows * kLanes; ++i) {
    const float centred = values[i] - mean;
    sums[i] = sums[i] + centred * centred;
  }
}

void Quantize(const float* values, float mean, const float* token_factors, float inverse_step,
              uint32_t rows, int16_t* cells) {
  for (uint32_t i = 0; i < rows * kLanes; ++i) {
    const float scaled = (values[i] - mean) * FactorOf(token_factors, i) * inverse_step;
    constexpr float kLimit = kCellLimit;
    cells[i] = static_cast<int16_t>(std::clamp(std::floor(scaled), -kLimit, kLimit));
  }
}

void AddErrors(const float* values, const int16_t* cells, const Placement& placement,
               const std::array<float, kLossyPlanes>& scales, uint32_t first_row, uint32_t row_step,
               uint32_t rows, ErrorSums& sums) {
  for (uint32_t row = first_row; row < rows; row += row_step) {
    for (uint32_t i = row * kLanes; i < (row + 1) * kLanes; ++i) {
      for (uint32_t level = 0; level < kLossyPlanes; ++level) {
        const auto cell = static_cast<int16_t>(cells[i] >> (kLossyPlanes - 1 - level));
        const Placement at{scales[level], placement.mean, placement.token_scales};
        const float error = values[i] - Placed(at, cell, i);
        sums.sums[level][i % 16] = sums.sums[level][i % 16] + error * error;
      }
      float& norm = sums.sums[kLossyPlanes][i % 16];
      norm = norm + values[i] * values[i];
    }
  }
}

uint32_t SplitSymbols(const int16_t* cells, uint32_t shift, int32_t reach, uint32_t rows,
                      uint8_t* symbols, uint8_t* escapes) {
  uint32_t count = 0;
  for (uint32_t i = 0; i < rows * kLanes; ++i) {
    const int32_t cell = cells[i] >> shift;
    const bool inside = cell >= -reach && cell < reach;
    symbols[i] = inside ? static_cast<uint8_t>(cell + kCellOffset) : uint8_t{kEscape};
    if (!inside) StoreWord(escapes, count++, static_cast<uint16_t>(cell));
  }
  return count;
}

void SplitPlanes(const int16_t* cells, std::span<const BitPlane> planes, uint32_t rows) {
  for (const BitPlane& plane : planes) {
    for (uint32_t row = 0; row < rows; ++row) {
      uint32_t row_bits = 0;
      for (uint32_t lane = 0; lane < kLanes; ++lane) {
        row_bits |= (static_cast<uint32_t>(cells[row * kLanes + lane]) >> plane.shift & 1) << lane;
      }
      std::memcpy(plane.bits + row * sizeof(row_bits), &row_bits, sizeof(row_bits));
    }
  }
}

}  // namespace

const Kernels& ScalarKernels() {
  static const Kernels kernels = {
      .name = "scalar",
      .decode_symbols = DecodeSymbols,
      .encode_symbols = EncodeSymbols,
      .reverse_words = std::reverse<uint16_t*>,
      .reconstruct = Reconstruct,
      .place = Place,
      .rotate = Rotate,
      .round_bf16 = RoundBf16,
      .round_fp16 = RoundFp16,
      .widen_bf16 = Widen<FloatOfBf16>,
      .widen_fp16 = Widen<FloatOfFp16>,
      .scatter = Scatter,
      .gather = Gather,
      .moments = MomentsOf,
      .sum_of_squares = SumOfSquares,
      .add_squares = AddSquares,
      .quantize = Quantize,
      .add_errors = AddErrors,
      .split_symbols = SplitSymbols,
      .split_planes = SplitPlanes,
      .split_tail = SplitTailScalar,
      .decode_tail = DecodeTailScalar,
      .encode_tail = EncodeTailScalar,
  };
  return kernels;
}

}  // namespace reprise::progressive
