// The inner loops of the progressive codec, one set per instruction set. All sets compute the same
// bytes and the same floats, bit for bit: additions and multiplications happen in the order that
// scalar_kernels.cc writes down, never fused.
//
// Arrays of one channel have kTileTokens elements; what lies behind the tile's tokens is padding,
// and kernels work on whole rows of kLanes. Buffers do not overlap unless said otherwise. Token
// scales and factors may be null: all are 1. Pure functions, thread-safe.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "codec/progressive/format.h"
#include "codec/progressive/tables.h"
#include "codec/progressive/tail.h"

namespace reprise::progressive {

// One rANS stream while it is decoded. A step of 32 lanes reads at most kLanes words, so `words`
// may run past `end` within one channel by at most kLanes * kTileRows: buffers have that slack
// behind them, and the caller compares afterwards.
struct StreamReader {
  alignas(64) std::array<uint32_t, kLanes> states{};
  const uint16_t* words = nullptr;
  const uint16_t* end = nullptr;
};

// One rANS stream while it is encoded. The decoder reads the words from the last to the first;
// buffers have room for a row more than is ever written.
struct StreamWriter {
  alignas(64) std::array<uint32_t, kLanes> states{};
  uint16_t* begin = nullptr;
  uint16_t* words = nullptr;  // where the next goes
};

// One channel's symbols and what codes them.
struct CodedSymbols {
  const SymbolTable* table = nullptr;
  const uint8_t* symbols = nullptr;
};

// Where cells lie: float(2 * cell + 1) * scale * token_scales + mean.
struct Placement {
  float scale = 0;  // half a cell, or a little less
  float mean = 0;
  const float* token_scales = nullptr;
  // Then each is moved by scale * token_scales towards zero, keeping its sign: to its cell's end.
  bool to_end = false;
};

// Sums of a channel's values from its first one on, and of their squares.
struct Moments {
  float sum = 0;
  float squares = 0;
};

// Squared errors of the lossy levels and, last, squared values; 16 partial sums each.
struct ErrorSums {
  alignas(64) std::array<std::array<float, 16>, kLossyPlanes + 1> sums{};
};

// How 16 partial sums become one, in every set and outside of them.
inline float AddPairwise(std::array<float, 16> sums) {
  for (uint32_t half = 8; half > 0; half /= 2) {
    for (uint32_t i = 0; i < half; ++i) sums[i] = sums[i] + sums[i + half];
  }
  return sums[0];
}

// Where one bit of every cell goes: lane i of row r in bit i of the r-th 32-bit word.
struct BitPlane {
  uint32_t shift = 0;
  uint8_t* bits = nullptr;
};

struct Kernels {
  const char* name;

  // Symbols of one channel: `rows` rows, row r from stream r % streams.size().
  void (*decode_symbols)(const SlotTable& table, std::span<StreamReader> streams, uint32_t rows,
                         uint8_t* symbols);
  // The reverse, of many channels, each in turn from the last; rows from last to first.
  void (*encode_symbols)(std::span<const CodedSymbols> channels, std::span<StreamWriter> streams,
                         uint32_t rows);

  // In place.
  void (*reverse_words)(uint16_t* begin, uint16_t* end);

  // Cells: (symbol - kCellOffset), or the next of `escapes`, then one bit per plane from
  // planes[p][row], in 16 bits. Places them. Returns how many escapes were used; when there are
  // more than `escape_count`, nothing beyond them is read and escape_count + 1 is returned.
  uint32_t (*reconstruct)(const uint8_t* symbols, const uint8_t* escapes, uint32_t escape_count,
                          std::span<const uint8_t* const> planes, uint32_t rows,
                          const Placement& placement, float* values);
  void (*place)(const int16_t* cells, uint32_t rows, const Placement& placement, float* values);

  // (a, b) = (a cos - b sin, b cos + a sin), element by element; with a and b exchanged it turns
  // the other way.
  void (*rotate)(float* a, float* b, const float* cosine, const float* sine, uint32_t rows);

  // To the nearest. bf16: ties away from zero, and values must be far from overflow; fp16: ties to
  // even, and magnitudes beyond the largest finite number become it.
  void (*round_bf16)(const float* values, uint32_t rows, uint16_t* bits);
  void (*round_fp16)(const float* values, uint32_t rows, uint16_t* bits);
  // Returns the largest magnitude, as bits.
  uint16_t (*widen_bf16)(const uint16_t* bits, uint32_t rows, float* values);
  uint16_t (*widen_fp16)(const uint16_t* bits, uint32_t rows, float* values);

  // Between `channels` (at most 32) contiguous 16-bit elements of `tokens` tokens in somebody's
  // layout and rows of kTileTokens + kTilePadding elements, one per channel.
  void (*scatter)(const uint16_t* rows_of_channels, uint32_t channels, uint32_t tokens,
                  std::byte* destination, int64_t token_stride_bytes);
  void (*gather)(const std::byte* source, int64_t token_stride_bytes, uint32_t channels,
                 uint32_t tokens, uint16_t* rows_of_channels);

  // In 16 partial sums (element i into sum i % 16) added pairwise, here and in sum_of_squares.
  Moments (*moments)(const float* values, uint32_t rows);
  // Of ((values - mean) * token_factors)^2.
  float (*sum_of_squares)(const float* values, float mean, const float* token_factors,
                          uint32_t rows);
  // sums[i] += (values[i] - mean)^2.
  void (*add_squares)(const float* values, float mean, uint32_t rows, float* sums);
  // cells = floor((values - mean) * token_factors * inverse_step), within kCellLimit.
  void (*quantize)(const float* values, float mean, const float* token_factors, float inverse_step,
                   uint32_t rows, int16_t* cells);
  // Of rows first_row, first_row + row_step and so on. Level p places cells >> (last - p) with
  // scales[p]; without regard to to_end and scale of `placement`.
  void (*add_errors)(const float* values, const int16_t* cells, const Placement& placement,
                     const std::array<float, kLossyPlanes>& scales, uint32_t first_row,
                     uint32_t row_step, uint32_t rows, ErrorSums& sums);

  // Symbols of cells >> shift that lie in [-reach, reach), and the others, 16 bits each, in
  // `escapes`; returns how many.
  uint32_t (*split_symbols)(const int16_t* cells, uint32_t shift, int32_t reach, uint32_t rows,
                            uint8_t* symbols, uint8_t* escapes);
  void (*split_planes)(const int16_t* cells, std::span<const BitPlane> planes, uint32_t rows);

  // 16-bit dtypes: what leads from `guess` to `exact`, and back. Escapes hold `exact`, 16 bits
  // each; split_tail returns how many, or kUncodable.
  uint32_t (*split_tail)(const TailFormat& format, const TailCode& code, const uint16_t* guess,
                         const uint16_t* exact, uint32_t rows, TailBits* bits, uint8_t* escapes);
  // `guess` becomes the exact values. Escapes as in `reconstruct`.
  uint32_t (*decode_tail)(const TailFormat& format, const TailCode& code,
                          std::span<StreamReader> streams, const uint8_t* escapes,
                          uint32_t escape_count, uint32_t rows, uint16_t* guess);
  // Of many channels, each in turn from the last.
  void (*encode_tail)(std::span<const TailBits> channels, std::span<StreamWriter> streams,
                      uint32_t rows);
};

inline constexpr uint32_t kTilePadding = 32;  // elements; keeps rows off the same cache sets
inline constexpr uint32_t kTileStride = kTileTokens + kTilePadding;

enum class InstructionSet : uint8_t { kScalar, kAvx2, kAvx512 };

// The kernels of an instruction set that this machine has, or null.
const Kernels* KernelsOf(InstructionSet set);
// The widest that this machine has.
const Kernels& BestKernels();

const Kernels& ScalarKernels();

}  // namespace reprise::progressive
