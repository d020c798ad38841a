// The inner loops of the progressive codec, one set per instruction set. All sets compute the same
// bytes and the same floats, bit for bit: additions and multiplications happen in the order that
// scalar_kernels.cc writes down, never fused.
//
// Arrays of one channel have kTileTokens elements; what lies behind the tile's tokens is padding,
// and kernels work on whole rows of kLanes. Buffers do not overlap unless said otherwise. Pure
// functions, thread-safe.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "codec/progressive/format.h"
#include "codec/progressive/tables.h"

namespace reprise::progressive {

// One rANS stream while it is decoded. A step of 32 lanes reads at most kLanes words, so `words`
// may run past `end` within one channel by at most kLanes * kTileRows: buffers have that slack
// behind them, and the caller compares afterwards.
struct StreamReader {
  std::array<uint32_t, kLanes> states{};
  const uint16_t* words = nullptr;
  const uint16_t* end = nullptr;
};

// One rANS stream while it is encoded, from its end to its beginning: `words` moves down.
struct StreamWriter {
  std::array<uint32_t, kLanes> states{};
  uint16_t* words = nullptr;
  uint16_t* end = nullptr;  // where it began
};

// What the lossless plane of one tensor shares: see tail.h.
struct TailFormat {
  uint32_t mantissa_bits = 0;  // 7 or 10
  // Per token, the exponent field of the last plane's step in the tensor's dtype.
  alignas(64) std::array<uint16_t, kTileTokens> step_exponents{};
};

// The tail's tables of a tile, one per context, by context * kSlots + slot: symbol, frequency << 8,
// bias << 16.
struct TailTables {
  alignas(64) std::array<uint32_t, kTailContexts * kSlots> packed{};

  void Set(uint32_t context, const Frequencies& frequencies);
};

// By context * 16 + symbol: frequency, first slot << 8.
struct TailSymbolTables {
  alignas(64) std::array<uint32_t, kTailContexts * kTailSymbols> packed{};

  void Set(uint32_t context, const Frequencies& frequencies);
};

// What the tail codes of one channel.
struct TailSymbols {
  std::array<uint8_t, kTileTokens> context{};
  std::array<uint8_t, kTileTokens> symbol{};
  std::array<uint32_t, kTileTokens> low{};  // raw bits; how many, the context says
};

struct Kernels {
  const char* name;

  // Symbols of one channel: `rows` rows, row r from stream r % streams.size().
  void (*decode_symbols)(const SlotTable& table, std::span<StreamReader> streams, uint32_t rows,
                         uint8_t* symbols);
  // The reverse, rows from last to first; the streams hold the words of what comes after.
  void (*encode_symbols)(const SymbolTable& table, std::span<StreamWriter> streams, uint32_t rows,
                         const uint8_t* symbols);

  // Cells: (symbol - kCellOffset), or the next of `escapes`, then one bit per plane from
  // planes[p][row]. values = float(2 * cell + 1) * scale * token_scales + mean. Returns how many
  // escapes were used; when there are more than `escape_count`, nothing beyond them is read and
  // escape_count + 1 is returned.
  uint32_t (*reconstruct)(const uint8_t* symbols, const uint8_t* escapes, uint32_t escape_count,
                          std::span<const uint8_t* const> planes, uint32_t rows, float scale,
                          const float* token_scales, float mean, float* values);

  // (a, b) = (a cos - b sin, b cos + a sin), element by element; with a and b exchanged it turns
  // the other way.
  void (*rotate)(float* a, float* b, const float* cosine, const float* sine, uint32_t rows);

  // To the nearest, ties to even; magnitudes beyond the largest finite number become it.
  void (*round_bf16)(const float* values, uint32_t rows, uint16_t* bits);
  void (*round_fp16)(const float* values, uint32_t rows, uint16_t* bits);
  void (*widen_bf16)(const uint16_t* bits, uint32_t rows, float* values);
  void (*widen_fp16)(const uint16_t* bits, uint32_t rows, float* values);

  // Between `channels` (at most 32) contiguous 16-bit elements of `tokens` tokens in somebody's
  // layout and rows of kTileTokens + kTilePadding elements, one per channel.
  void (*scatter)(const uint16_t* rows_of_channels, uint32_t channels, uint32_t tokens,
                  std::byte* destination, int64_t token_stride_bytes);
  void (*gather)(const std::byte* source, int64_t token_stride_bytes, uint32_t channels,
                 uint32_t tokens, uint16_t* rows_of_channels);

  // Sums over `rows` whole rows in 16 partial sums (element i into sum i % 16) added pairwise.
  float (*sum)(const float* values, uint32_t rows);
  // Of ((values - mean) * token_factors)^2.
  float (*sum_of_squares)(const float* values, float mean, const float* token_factors,
                          uint32_t rows);
  // sums[i] += (values[i] - mean)^2.
  void (*add_squares)(const float* values, float mean, uint32_t rows, float* sums);
  // cells = floor((values - mean) * token_factors * inverse_step).
  void (*quantize)(const float* values, float mean, const float* token_factors, float inverse_step,
                   uint32_t rows, int32_t* cells);
  // values = float(2 * (cells >> shift) + 1) * scale * token_scales + mean.
  void (*dequantize)(const int32_t* cells, uint32_t shift, float scale, const float* token_scales,
                     float mean, uint32_t rows, float* values);
  // Moves each value, which is at least that large, by half_cell * token_scales towards zero; it
  // keeps its sign.
  void (*towards_zero)(float* values, float half_cell, const float* token_scales, uint32_t rows);
  // Sum of (values - what dequantize gives)^2.
  float (*squared_error)(const float* values, const int32_t* cells, uint32_t shift, float scale,
                         const float* token_scales, float mean, uint32_t rows);
  // Symbols of cells >> shift that lie in [-reach, reach), and the others, 16 bits each, in
  // `escapes`; returns how many.
  uint32_t (*split_symbols)(const int32_t* cells, uint32_t shift, int32_t reach, uint32_t rows,
                            uint8_t* symbols, uint8_t* escapes);
  // bits[row] = bit `shift` of each cell, lane i in bit i.
  void (*split_plane)(const int32_t* cells, uint32_t shift, uint32_t rows, uint8_t* bits);

  // 16-bit dtypes: what leads from `guess` to `exact`, and back. Escapes hold `exact`, 16 bits
  // each.
  uint32_t (*split_tail)(const TailFormat& format, const uint16_t* guess, const uint16_t* exact,
                         uint32_t rows, TailSymbols* symbols, uint8_t* escapes);
  // `guess` becomes the exact values. Escapes as in `reconstruct`.
  uint32_t (*decode_tail)(const TailFormat& format, const TailTables& tables,
                          std::span<StreamReader> streams, const uint8_t* escapes,
                          uint32_t escape_count, uint32_t rows, uint16_t* guess);
  void (*encode_tail)(const TailFormat& format, const TailSymbolTables& tables,
                      std::span<StreamWriter> streams, uint32_t rows, const TailSymbols& symbols);
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
