// The reference: every other instruction set computes what this file says.

#include <bit>
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

void EncodeSymbols(const SymbolTable& table, std::span<StreamWriter> streams, uint32_t rows,
                   const uint8_t* symbols) {
  for (uint32_t row = rows; row-- > 0;) {
    StreamWriter& stream = streams[row % streams.size()];
    for (uint32_t lane = kLanes; lane-- > 0;) {
      const uint32_t symbol = symbols[row * kLanes + lane];
      Spill(stream.states[lane], stream, table.frequency[symbol], kSlotBits);
    }
    for (uint32_t lane = 0; lane < kLanes; ++lane) {
      PushSymbol(table, symbols[row * kLanes + lane], stream.states[lane]);
    }
  }
}

uint32_t Reconstruct(const uint8_t* symbols, const uint8_t* escapes, uint32_t escape_count,
                     std::span<const uint8_t* const> planes, uint32_t rows, float scale,
                     const float* token_scales, float mean, float* values) {
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
      cell = static_cast<int32_t>(static_cast<uint32_t>(cell) * 2 + (row_bits >> i % kLanes & 1));
    }
    const float midpoint =
        static_cast<float>(static_cast<int32_t>(static_cast<uint32_t>(cell) * 2 + 1));
    values[i] = midpoint * scale * token_scales[i] + mean;
  }
  return used;
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
  for (uint32_t i = 0; i < rows * kLanes; ++i) bits[i] = Bf16Of(values[i]);
}

void RoundFp16(const float* values, uint32_t rows, uint16_t* bits) {
  for (uint32_t i = 0; i < rows * kLanes; ++i) bits[i] = Fp16Of(values[i]);
}

void WidenBf16(const uint16_t* bits, uint32_t rows, float* values) {
  for (uint32_t i = 0; i < rows * kLanes; ++i) values[i] = FloatOfBf16(bits[i]);
}

void WidenFp16(const uint16_t* bits, uint32_t rows, float* values) {
  for (uint32_t i = 0; i < rows * kLanes; ++i) values[i] = FloatOfFp16(bits[i]);
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

float AddPairwise(std::array<float, 16> sums) {
  for (uint32_t half = 8; half > 0; half /= 2) {
    for (uint32_t i = 0; i < half; ++i) sums[i] = sums[i] + sums[i + half];
  }
  return sums[0];
}

float Sum(const float* values, uint32_t rows) {
  std::array<float, 16> sums{};
  for (uint32_t i = 0; i < rows * kLanes; ++i) sums[i % 16] = sums[i % 16] + values[i];
  return AddPairwise(sums);
}

float SumOfSquares(const float* values, float mean, const float* token_factors, uint32_t rows) {
  std::array<float, 16> sums{};
  for (uint32_t i = 0; i < rows * kLanes; ++i) {
    const float centred = (values[i] - mean) * token_factors[i];
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
              uint32_t rows, int32_t* cells) {
  for (uint32_t i = 0; i < rows * kLanes; ++i) {
    const float scaled = (values[i] - mean) * token_factors[i] * inverse_step;
    cells[i] = static_cast<int32_t>(std::floor(scaled));
  }
}

float Dequantized(int32_t cell, float scale, float token_scale, float mean) {
  return static_cast<float>(2 * cell + 1) * scale * token_scale + mean;
}

void Dequantize(const int32_t* cells, uint32_t shift, float scale, const float* token_scales,
                float mean, uint32_t rows, float* values) {
  for (uint32_t i = 0; i < rows * kLanes; ++i) {
    values[i] = Dequantized(cells[i] >> shift, scale, token_scales[i], mean);
  }
}

void TowardsZero(float* values, float half_cell, const float* token_scales, uint32_t rows) {
  for (uint32_t i = 0; i < rows * kLanes; ++i) {
    values[i] = std::copysign(std::abs(values[i]) - half_cell * token_scales[i], values[i]);
  }
}

float SquaredError(const float* values, const int32_t* cells, uint32_t shift, float scale,
                   const float* token_scales, float mean, uint32_t rows) {
  std::array<float, 16> sums{};
  for (uint32_t i = 0; i < rows * kLanes; ++i) {
    const float error = values[i] - Dequantized(cells[i] >> shift, scale, token_scales[i], mean);
    sums[i % 16] = sums[i % 16] + error * error;
  }
  return AddPairwise(sums);
}

uint32_t SplitSymbols(const int32_t* cells, uint32_t shift, int32_t reach, uint32_t rows,
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

void SplitPlane(const int32_t* cells, uint32_t shift, uint32_t rows, uint8_t* bits) {
  for (uint32_t row = 0; row < rows; ++row) {
    uint32_t row_bits = 0;
    for (uint32_t lane = 0; lane < kLanes; ++lane) {
      row_bits |= (static_cast<uint32_t>(cells[row * kLanes + lane]) >> shift & 1) << lane;
    }
    std::memcpy(bits + row * sizeof(row_bits), &row_bits, sizeof(row_bits));
  }
}

}  // namespace

const Kernels& ScalarKernels() {
  static const Kernels kernels = {
      .name = "scalar",
      .decode_symbols = DecodeSymbols,
      .encode_symbols = EncodeSymbols,
      .reconstruct = Reconstruct,
      .rotate = Rotate,
      .round_bf16 = RoundBf16,
      .round_fp16 = RoundFp16,
      .widen_bf16 = WidenBf16,
      .widen_fp16 = WidenFp16,
      .scatter = Scatter,
      .gather = Gather,
      .sum = Sum,
      .sum_of_squares = SumOfSquares,
      .add_squares = AddSquares,
      .quantize = Quantize,
      .dequantize = Dequantize,
      .towards_zero = TowardsZero,
      .squared_error = SquaredError,
      .split_symbols = SplitSymbols,
      .split_plane = SplitPlane,
      .split_tail = SplitTailScalar,
      .decode_tail = DecodeTailScalar,
      .encode_tail = EncodeTailScalar,
  };
  return kernels;
}

}  // namespace reprise::progressive
