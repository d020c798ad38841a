// AVX-512 kernels (F, BW, VL, DQ, VBMI, VBMI2). Compiled with those instruction sets and entered
// only where kernels.cc has seen that the machine has them. What they compute is said in
// scalar_kernels.cc.

#include "codec/progressive/avx512_kernels.h"

#include <immintrin.h>

#include <bit>
#include <cstring>

#include "codec/progressive/scalar_rans.h"

namespace reprise::progressive {
namespace {

__m512 Midpoints(__m512i cells) {
  return _mm512_cvtepi32_ps(_mm512_add_epi32(_mm512_add_epi32(cells, cells), _mm512_set1_epi32(1)));
}

__m512 Place(__m512i cells, __m512 scale, __m512 token_scale, __m512 mean) {
  const __m512 value = _mm512_mul_ps(_mm512_mul_ps(Midpoints(cells), scale), token_scale);
  return _mm512_add_ps(value, mean);
}

// Replaces escaped cells by the next escapes.
__m512i TakeEscapes(__m512i cells, __mmask16 escaped, const uint8_t* escapes, uint32_t used) {
  alignas(64) std::array<int32_t, 16> lanes;
  _mm512_store_si512(lanes.data(), cells);
  for (uint32_t rest = escaped; rest != 0; rest &= rest - 1) {
    lanes[static_cast<size_t>(std::countr_zero(rest))] =
        static_cast<int16_t>(LoadWord(escapes, used++));
  }
  return _mm512_load_si512(lanes.data());
}

uint32_t Reconstruct(const uint8_t* symbols, const uint8_t* escapes, uint32_t escape_count,
                     std::span<const uint8_t* const> planes, uint32_t rows, float scale,
                     const float* token_scales, float mean, float* values) {
  const __m512 scales = _mm512_set1_ps(scale);
  const __m512 means = _mm512_set1_ps(mean);
  const __m512i offset = _mm512_set1_epi32(kCellOffset);
  uint32_t used = 0;
  for (uint32_t row = 0; row < rows; ++row) {
    const __m256i bytes =
        _mm256_loadu_si256(reinterpret_cast<const __m256i*>(symbols + row * kLanes));
    const __mmask32 escaped = _mm256_cmpeq_epi8_mask(bytes, _mm256_set1_epi8(kEscape));
    __m512i low = _mm512_sub_epi32(_mm512_cvtepu8_epi32(_mm256_castsi256_si128(bytes)), offset);
    __m512i high =
        _mm512_sub_epi32(_mm512_cvtepu8_epi32(_mm256_extracti128_si256(bytes, 1)), offset);
    if (escaped != 0) {
      const auto count = static_cast<uint32_t>(std::popcount(static_cast<uint32_t>(escaped)));
      if (count > escape_count - used) return escape_count + 1;
      low = TakeEscapes(low, static_cast<__mmask16>(escaped), escapes, used);
      used += static_cast<uint32_t>(std::popcount(static_cast<uint32_t>(escaped) & 0xFFFF));
      high = TakeEscapes(high, static_cast<__mmask16>(escaped >> 16), escapes, used);
      used += static_cast<uint32_t>(std::popcount(static_cast<uint32_t>(escaped) >> 16));
    }
    for (const uint8_t* plane : planes) {
      uint32_t bits = 0;
      std::memcpy(&bits, plane + row * sizeof(bits), sizeof(bits));
      low = _mm512_add_epi32(low, low);
      high = _mm512_add_epi32(high, high);
      const __m512i one = _mm512_set1_epi32(1);
      low = _mm512_mask_add_epi32(low, static_cast<__mmask16>(bits), low, one);
      high = _mm512_mask_add_epi32(high, static_cast<__mmask16>(bits >> 16), high, one);
    }
    const uint32_t at = row * kLanes;
    _mm512_storeu_ps(values + at, Place(low, scales, _mm512_loadu_ps(token_scales + at), means));
    _mm512_storeu_ps(values + at + 16,
                     Place(high, scales, _mm512_loadu_ps(token_scales + at + 16), means));
  }
  return used;
}

void Rotate(float* a, float* b, const float* cosine, const float* sine, uint32_t rows) {
  for (uint32_t i = 0; i < rows * kLanes; i += 16) {
    const __m512 x = _mm512_loadu_ps(a + i);
    const __m512 y = _mm512_loadu_ps(b + i);
    const __m512 c = _mm512_loadu_ps(cosine + i);
    const __m512 s = _mm512_loadu_ps(sine + i);
    _mm512_storeu_ps(a + i, _mm512_sub_ps(_mm512_mul_ps(x, c), _mm512_mul_ps(y, s)));
    _mm512_storeu_ps(b + i, _mm512_add_ps(_mm512_mul_ps(y, c), _mm512_mul_ps(x, s)));
  }
}

__m256i Bf16OfLanes(__m512 values) {
  const __m512i bits = _mm512_castps_si512(values);
  const __m512i sign = _mm512_and_si512(bits, _mm512_set1_epi32(INT32_MIN));
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  __m512i magnitude = _mm512_andnot_si512(_mm512_set1_epi32(INT32_MIN), bits);
  magnitude = _mm512_add_epi32(magnitude, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7FFF)));
  magnitude = _mm512_min_epu32(magnitude, _mm512_set1_epi32(0x7F7FFFFF));
  return _mm512_cvtepi32_epi16(_mm512_srli_epi32(_mm512_or_si512(magnitude, sign), 16));
}

__m256i Fp16OfLanes(__m512 values) {
  const __m512 limit = _mm512_set1_ps(65504.0F);
  const __m512 bounded =
      _mm512_max_ps(_mm512_min_ps(values, limit), _mm512_sub_ps(_mm512_setzero_ps(), limit));
  return _mm512_cvtps_ph(bounded, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

void RoundBf16(const float* values, uint32_t rows, uint16_t* bits) {
  for (uint32_t i = 0; i < rows * kLanes; i += 16) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(bits + i),
                        Bf16OfLanes(_mm512_loadu_ps(values + i)));
  }
}

void RoundFp16(const float* values, uint32_t rows, uint16_t* bits) {
  for (uint32_t i = 0; i < rows * kLanes; i += 16) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(bits + i),
                        Fp16OfLanes(_mm512_loadu_ps(values + i)));
  }
}

void WidenBf16(const uint16_t* bits, uint32_t rows, float* values) {
  for (uint32_t i = 0; i < rows * kLanes; i += 16) {
    const __m512i wide =
        _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(bits + i)));
    _mm512_storeu_si512(values + i, _mm512_slli_epi32(wide, 16));
  }
}

void WidenFp16(const uint16_t* bits, uint32_t rows, float* values) {
  for (uint32_t i = 0; i < rows * kLanes; i += 16) {
    _mm512_storeu_ps(
        values + i,
        _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(bits + i))));
  }
}

struct Block16 {
  __m256i rows[16];
  __m256i& operator[](uint32_t i) { return rows[i]; }
  const __m256i& operator[](uint32_t i) const { return rows[i]; }
};

// 16 rows of 16 elements, turned: row i of the result holds element i of each.
[[gnu::always_inline]] inline void Transpose16(const Block16& rows, Block16& columns) {
  Block16 s;
  for (uint32_t i = 0; i < 16; i += 2) {
    s[i] = _mm256_unpacklo_epi16(rows[i], rows[i + 1]);
    s[i + 1] = _mm256_unpackhi_epi16(rows[i], rows[i + 1]);
  }
  Block16 t;
  for (uint32_t i = 0; i < 16; i += 4) {
    t[i] = _mm256_unpacklo_epi32(s[i], s[i + 2]);
    t[i + 1] = _mm256_unpackhi_epi32(s[i], s[i + 2]);
    t[i + 2] = _mm256_unpacklo_epi32(s[i + 1], s[i + 3]);
    t[i + 3] = _mm256_unpackhi_epi32(s[i + 1], s[i + 3]);
  }
  for (uint32_t i = 0; i < 16; i += 8) {
    for (uint32_t j = 0; j < 4; ++j) {
      s[i + 2 * j] = _mm256_unpacklo_epi64(t[i + j], t[i + 4 + j]);
      s[i + 2 * j + 1] = _mm256_unpackhi_epi64(t[i + j], t[i + 4 + j]);
    }
  }
  for (uint32_t j = 0; j < 8; ++j) {
    columns[j] = _mm256_permute2x128_si256(s[j], s[8 + j], 0x20);
    columns[8 + j] = _mm256_permute2x128_si256(s[j], s[8 + j], 0x31);
  }
}

[[gnu::always_inline]] inline Block16 TransposedAt(const uint16_t* rows_of_channels) {
  Block16 rows;
  for (uint32_t c = 0; c < 16; ++c) {
    rows[c] =
        _mm256_loadu_si256(reinterpret_cast<const __m256i*>(rows_of_channels + c * kTileStride));
  }
  Block16 columns;
  Transpose16(rows, columns);
  return columns;
}

void Scatter(const uint16_t* rows_of_channels, uint32_t channels, uint32_t tokens,
             std::byte* destination, int64_t token_stride_bytes) {
  if (channels % 16 != 0 || tokens % 16 != 0) {
    ScalarKernels().scatter(rows_of_channels, channels, tokens, destination, token_stride_bytes);
    return;
  }
  for (uint32_t token = 0; token < tokens; token += 16) {
    const Block16 low = TransposedAt(rows_of_channels + token);
    if (channels == 16) {
      for (const __m256i& column : low.rows) {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(destination), column);
        destination += token_stride_bytes;
      }
      continue;
    }
    const Block16 high = TransposedAt(rows_of_channels + 16 * kTileStride + token);
    for (uint32_t i = 0; i < 16; ++i) {
      _mm512_storeu_si512(destination,
                          _mm512_inserti64x4(_mm512_castsi256_si512(low[i]), high[i], 1));
      destination += token_stride_bytes;
    }
  }
}

void Gather(const std::byte* source, int64_t token_stride_bytes, uint32_t channels, uint32_t tokens,
            uint16_t* rows_of_channels) {
  if (channels != 16 || tokens % 16 != 0) {
    ScalarKernels().gather(source, token_stride_bytes, channels, tokens, rows_of_channels);
    return;
  }
  for (uint32_t token = 0; token < tokens; token += 16) {
    Block16 rows;
    for (__m256i& row : rows.rows) {
      row = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(source));
      source += token_stride_bytes;
    }
    Block16 columns;
    Transpose16(rows, columns);
    for (uint32_t c = 0; c < 16; ++c) {
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(rows_of_channels + c * kTileStride + token),
                          columns[c]);
    }
  }
}

float AddPairwise(__m512 sums) {
  const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(sums), _mm512_extractf32x8_ps(sums, 1));
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

float Sum(const float* values, uint32_t rows) {
  __m512 sums = _mm512_setzero_ps();
  for (uint32_t i = 0; i < rows * kLanes; i += 16) {
    sums = _mm512_add_ps(sums, _mm512_loadu_ps(values + i));
  }
  return AddPairwise(sums);
}

float SumOfSquares(const float* values, float mean, const float* token_factors, uint32_t rows) {
  const __m512 means = _mm512_set1_ps(mean);
  __m512 sums = _mm512_setzero_ps();
  for (uint32_t i = 0; i < rows * kLanes; i += 16) {
    const __m512 centred = _mm512_mul_ps(_mm512_sub_ps(_mm512_loadu_ps(values + i), means),
                                         _mm512_loadu_ps(token_factors + i));
    sums = _mm512_add_ps(sums, _mm512_mul_ps(centred, centred));
  }
  return AddPairwise(sums);
}

void AddSquares(const float* values, float mean, uint32_t rows, float* sums) {
  const __m512 means = _mm512_set1_ps(mean);
  for (uint32_t i = 0; i < rows * kLanes; i += 16) {
    const __m512 centred = _mm512_sub_ps(_mm512_loadu_ps(values + i), means);
    _mm512_storeu_ps(sums + i,
                     _mm512_add_ps(_mm512_loadu_ps(sums + i), _mm512_mul_ps(centred, centred)));
  }
}

void Quantize(const float* values, float mean, const float* token_factors, float inverse_step,
              uint32_t rows, int32_t* cells) {
  const __m512 means = _mm512_set1_ps(mean);
  const __m512 inverse = _mm512_set1_ps(inverse_step);
  for (uint32_t i = 0; i < rows * kLanes; i += 16) {
    const __m512 centred = _mm512_mul_ps(_mm512_sub_ps(_mm512_loadu_ps(values + i), means),
                                         _mm512_loadu_ps(token_factors + i));
    _mm512_storeu_si512(cells + i,
                        _mm512_cvt_roundps_epi32(_mm512_mul_ps(centred, inverse),
                                                 _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC));
  }
}

void Dequantize(const int32_t* cells, uint32_t shift, float scale, const float* token_scales,
                float mean, uint32_t rows, float* values) {
  const __m512 scales = _mm512_set1_ps(scale);
  const __m512 means = _mm512_set1_ps(mean);
  for (uint32_t i = 0; i < rows * kLanes; i += 16) {
    const __m512i shifted = _mm512_srai_epi32(_mm512_loadu_si512(cells + i), shift);
    _mm512_storeu_ps(values + i, Place(shifted, scales, _mm512_loadu_ps(token_scales + i), means));
  }
}

void TowardsZero(float* values, float half_cell, const float* token_scales, uint32_t rows) {
  const __m512 half = _mm512_set1_ps(half_cell);
  const __m512 sign_bit = _mm512_castsi512_ps(_mm512_set1_epi32(INT32_MIN));
  for (uint32_t i = 0; i < rows * kLanes; i += 16) {
    const __m512 value = _mm512_loadu_ps(values + i);
    const __m512 step = _mm512_mul_ps(half, _mm512_loadu_ps(token_scales + i));
    const __m512 moved = _mm512_sub_ps(_mm512_andnot_ps(sign_bit, value), step);
    // The sign of `value`, whatever that of the difference is.
    _mm512_storeu_ps(values + i, _mm512_or_ps(_mm512_andnot_ps(sign_bit, moved),
                                              _mm512_and_ps(sign_bit, value)));
  }
}

float SquaredError(const float* values, const int32_t* cells, uint32_t shift, float scale,
                   const float* token_scales, float mean, uint32_t rows) {
  const __m512 scales = _mm512_set1_ps(scale);
  const __m512 means = _mm512_set1_ps(mean);
  __m512 sums = _mm512_setzero_ps();
  for (uint32_t i = 0; i < rows * kLanes; i += 16) {
    const __m512i shifted = _mm512_srai_epi32(_mm512_loadu_si512(cells + i), shift);
    const __m512 placed = Place(shifted, scales, _mm512_loadu_ps(token_scales + i), means);
    const __m512 error = _mm512_sub_ps(_mm512_loadu_ps(values + i), placed);
    sums = _mm512_add_ps(sums, _mm512_mul_ps(error, error));
  }
  return AddPairwise(sums);
}

uint32_t SplitSymbols(const int32_t* cells, uint32_t shift, int32_t reach, uint32_t rows,
                      uint8_t* symbols, uint8_t* escapes) {
  uint32_t count = 0;
  for (uint32_t i = 0; i < rows * kLanes; i += 16) {
    const __m512i cell = _mm512_srai_epi32(_mm512_loadu_si512(cells + i), shift);
    const __mmask16 inside = _mm512_cmpge_epi32_mask(cell, _mm512_set1_epi32(-reach)) &
                             _mm512_cmplt_epi32_mask(cell, _mm512_set1_epi32(reach));
    const __m512i symbol = _mm512_mask_add_epi32(_mm512_set1_epi32(kEscape), inside, cell,
                                                 _mm512_set1_epi32(kCellOffset));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(symbols + i), _mm512_cvtepi32_epi8(symbol));
    const auto outside = static_cast<__mmask16>(~inside);
    if (outside != 0) {
      _mm256_mask_compressstoreu_epi16(escapes + 2 * size_t{count}, outside,
                                       _mm512_cvtepi32_epi16(cell));
      count += static_cast<uint32_t>(std::popcount(static_cast<uint32_t>(outside)));
    }
  }
  return count;
}

void SplitPlane(const int32_t* cells, uint32_t shift, uint32_t rows, uint8_t* bits) {
  const __m512i bit = _mm512_set1_epi32(static_cast<int32_t>(1U << shift));
  for (uint32_t row = 0; row < rows; ++row) {
    const int32_t* at = cells + row * kLanes;
    const uint32_t low = _mm512_test_epi32_mask(_mm512_loadu_si512(at), bit);
    const uint32_t high = _mm512_test_epi32_mask(_mm512_loadu_si512(at + 16), bit);
    const uint32_t row_bits = low | high << 16;
    std::memcpy(bits + row * sizeof(row_bits), &row_bits, sizeof(row_bits));
  }
}

}  // namespace

const Kernels& Avx512Kernels() {
  static const Kernels kernels = {
      .name = "avx512",
      .decode_symbols = Avx512DecodeSymbols,
      .encode_symbols = Avx512EncodeSymbols,
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
      .split_tail = Avx512SplitTail,
      .decode_tail = Avx512DecodeTail,
      .encode_tail = Avx512EncodeTail,
  };
  return kernels;
}

}  // namespace reprise::progressive
