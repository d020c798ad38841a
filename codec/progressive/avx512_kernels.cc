// AVX-512 kernels (F, BW, VL, DQ, VBMI, VBMI2). Compiled with those instruction sets and entered
// only where kernels.cc has seen that the machine has them. What they compute is said in
// scalar_kernels.cc.

#include "codec/progressive/avx512_kernels.h"

#include <immintrin.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "codec/progressive/scalar_rans.h"

namespace reprise::progressive {
namespace {

void ReverseWords(uint16_t* begin, uint16_t* end) {
  const __m512i backwards =
      _mm512_set_epi16(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21,
                       22, 23, 24, 25, 26, 27, 28, 29, 30, 31);
  for (; end - begin >= 64; begin += 32, end -= 32) {
    const __m512i first = _mm512_loadu_si512(begin);
    const __m512i last = _mm512_loadu_si512(end - 32);
    _mm512_storeu_si512(begin, _mm512_permutexvar_epi16(backwards, last));
    _mm512_storeu_si512(end - 32, _mm512_permutexvar_epi16(backwards, first));
  }
  std::reverse(begin, end);
}

// 32 cells of 16 bits as two vectors of odd numbers of 17: 2 * cell + 1.
struct Middles {
  explicit Middles(__m512i cells) {
    const auto middle = [](__m256i half) {
      const __m512i cell = _mm512_cvtepi16_epi32(half);
      const __m512i odd = _mm512_or_si512(_mm512_add_epi32(cell, cell), _mm512_set1_epi32(1));
      return _mm512_cvtepi32_ps(odd);
    };
    low = middle(_mm512_castsi512_si256(cells));
    high = middle(_mm512_extracti64x4_epi64(cells, 1));
  }

  __m512 low;
  __m512 high;
};

struct Placer {
  explicit Placer(const Placement& placement)
      : scale(_mm512_set1_ps(placement.scale)),
        mean(_mm512_set1_ps(placement.mean)),
        token_scales(placement.token_scales),
        to_end(placement.to_end) {}

  __m512 At(__m512 middle, uint32_t token) const {
    __m512 place = _mm512_mul_ps(middle, scale);
    __m512 end = scale;
    if (token_scales != nullptr) {
      const __m512 token_scale = _mm512_loadu_ps(token_scales + token);
      place = _mm512_mul_ps(place, token_scale);
      end = _mm512_mul_ps(scale, token_scale);
    }
    const __m512 value = _mm512_add_ps(place, mean);
    if (!to_end) return value;
    const __m512 sign = _mm512_castsi512_ps(_mm512_set1_epi32(INT32_MIN));
    const __m512 moved = _mm512_sub_ps(_mm512_andnot_ps(sign, value), end);
    // The sign of `value`, whatever that of the difference is.
    return _mm512_or_ps(_mm512_andnot_ps(sign, moved), _mm512_and_ps(sign, value));
  }
  void Store(__m512i cells, uint32_t row, float* values) const {
    const Middles middles(cells);
    const uint32_t at = row * kLanes;
    _mm512_storeu_ps(values + at, At(middles.low, at));
    _mm512_storeu_ps(values + at + 16, At(middles.high, at + 16));
  }

  __m512 scale;
  __m512 mean;
  const float* token_scales;
  bool to_end;
};

// Replaces escaped cells by the next escapes.
__m512i TakeEscapes(__m512i cells, uint32_t escaped, const uint8_t* escapes) {
  alignas(64) std::array<int16_t, kLanes> lanes;
  _mm512_store_si512(lanes.data(), cells);
  uint32_t used = 0;
  for (; escaped != 0; escaped &= escaped - 1) {
    lanes[static_cast<size_t>(std::countr_zero(escaped))] =
        static_cast<int16_t>(LoadWord(escapes, used++));
  }
  return _mm512_load_si512(lanes.data());
}

uint32_t Reconstruct(const uint8_t* symbols, const uint8_t* escapes, uint32_t escape_count,
                     std::span<const uint8_t* const> planes, uint32_t rows,
                     const Placement& placement, float* values) {
  const Placer placer(placement);
  const __m512i offset = _mm512_set1_epi16(kCellOffset);
  const __m512i ones = _mm512_set1_epi16(-1);
  uint32_t used = 0;
  for (uint32_t row = 0; row < rows; ++row) {
    const __m256i bytes =
        _mm256_loadu_si256(reinterpret_cast<const __m256i*>(symbols + row * kLanes));
    const uint32_t escaped = _mm256_cmpeq_epi8_mask(bytes, _mm256_set1_epi8(kEscape));
    __m512i cells = _mm512_sub_epi16(_mm512_cvtepu8_epi16(bytes), offset);
    if (escaped != 0) {
      const auto count = static_cast<uint32_t>(std::popcount(escaped));
      if (count > escape_count - used) return escape_count + 1;
      cells = TakeEscapes(cells, escaped, escapes + 2 * size_t{used});
      used += count;
    }
    for (const uint8_t* plane : planes) {
      uint32_t bits = 0;
      std::memcpy(&bits, plane + row * sizeof(bits), sizeof(bits));
      cells = _mm512_add_epi16(cells, cells);
      cells = _mm512_mask_sub_epi16(cells, bits, cells, ones);
    }
    placer.Store(cells, row, values);
  }
  return used;
}

void Place(const int16_t* cells, uint32_t rows, const Placement& placement, float* values) {
  const Placer placer(placement);
  for (uint32_t row = 0; row < rows; ++row) {
    placer.Store(_mm512_loadu_si512(cells + row * kLanes), row, values);
  }
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

__m256i Fp16OfLanes(__m512 values) {
  const __m512 limit = _mm512_set1_ps(65504.0F);
  const __m512 bounded =
      _mm512_max_ps(_mm512_min_ps(values, limit), _mm512_sub_ps(_mm512_setzero_ps(), limit));
  return _mm512_cvtps_ph(bounded, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

void RoundBf16(const float* values, uint32_t rows, uint16_t* bits) {
  alignas(64) static constexpr auto kOddWords = [] {
    std::array<uint16_t, kLanes> words{};
    for (uint16_t i = 0; i < kLanes; ++i) words[i] = static_cast<uint16_t>(2 * i + 1);
    return words;
  }();
  const __m512i odd_words = _mm512_load_si512(kOddWords.data());
  const __m512i half = _mm512_set1_epi32(0x8000);
  for (uint32_t i = 0; i < rows * kLanes; i += kLanes) {
    const __m512i low = _mm512_add_epi32(_mm512_loadu_si512(values + i), half);
    const __m512i high = _mm512_add_epi32(_mm512_loadu_si512(values + i + 16), half);
    _mm512_storeu_si512(bits + i, _mm512_permutex2var_epi16(low, odd_words, high));
  }
}

void RoundFp16(const float* values, uint32_t rows, uint16_t* bits) {
  for (uint32_t i = 0; i < rows * kLanes; i += 16) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(bits + i),
                        Fp16OfLanes(_mm512_loadu_ps(values + i)));
  }
}

uint16_t LargestLane(__m512i words) {
  const __m256i half =
      _mm256_max_epu16(_mm512_castsi512_si256(words), _mm512_extracti64x4_epi64(words, 1));
  const __m128i quarter =
      _mm_max_epu16(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
  // The least of the complements.
  const __m128i least = _mm_minpos_epu16(_mm_xor_si128(quarter, _mm_set1_epi16(-1)));
  return static_cast<uint16_t>(~_mm_extract_epi16(least, 0));
}

template <bool kBf16>
uint16_t Widen(const uint16_t* bits, uint32_t rows, float* values) {
  __m512i largest = _mm512_setzero_si512();
  const __m512i magnitude = _mm512_set1_epi16(0x7FFF);
  for (uint32_t i = 0; i < rows * kLanes; i += kLanes) {
    const __m512i words = _mm512_loadu_si512(bits + i);
    largest = _mm512_max_epu16(largest, _mm512_and_si512(words, magnitude));
    const __m256i low = _mm512_castsi512_si256(words);
    const __m256i high = _mm512_extracti64x4_epi64(words, 1);
    if constexpr (kBf16) {
      _mm512_storeu_si512(values + i, _mm512_slli_epi32(_mm512_cvtepu16_epi32(low), 16));
      _mm512_storeu_si512(values + i + 16, _mm512_slli_epi32(_mm512_cvtepu16_epi32(high), 16));
    } else {
      _mm512_storeu_ps(values + i, _mm512_cvtph_ps(low));
      _mm512_storeu_ps(values + i + 16, _mm512_cvtph_ps(high));
    }
  }
  return LargestLane(largest);
}

float AddPairwise(__m512 sums) {
  const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(sums), _mm512_extractf32x8_ps(sums, 1));
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

Moments MomentsOf(const float* values, uint32_t rows) {
  const __m512 first = _mm512_set1_ps(values[0]);
  __m512 sums = _mm512_setzero_ps();
  __m512 squares = _mm512_setzero_ps();
  for (uint32_t i = 0; i < rows * kLanes; i += 16) {
    const __m512 value = _mm512_sub_ps(_mm512_loadu_ps(values + i), first);
    sums = _mm512_add_ps(sums, value);
    squares = _mm512_add_ps(squares, _mm512_mul_ps(value, value));
  }
  return {AddPairwise(sums), AddPairwise(squares)};
}

// (values - mean) * token_factors.
__m512 Centred(const float* values, __m512 mean, const float* token_factors) {
  const __m512 centred = _mm512_sub_ps(_mm512_loadu_ps(values), mean);
  if (token_factors == nullptr) return centred;
  return _mm512_mul_ps(centred, _mm512_loadu_ps(token_factors));
}

const float* Advance(const float* values, uint32_t count) {
  return values == nullptr ? nullptr : values + count;
}

float SumOfSquares(const float* values, float mean, const float* token_factors, uint32_t rows) {
  const __m512 means = _mm512_set1_ps(mean);
  __m512 sums = _mm512_setzero_ps();
  for (uint32_t i = 0; i < rows * kLanes; i += 16) {
    const __m512 centred = Centred(values + i, means, Advance(token_factors, i));
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
              uint32_t rows, int16_t* cells) {
  const __m512 means = _mm512_set1_ps(mean);
  const __m512 inverse = _mm512_set1_ps(inverse_step);
  const __m512i limit = _mm512_set1_epi16(kCellLimit);
  const auto cells_at = [&](uint32_t i) {
    const __m512 scaled =
        _mm512_mul_ps(Centred(values + i, means, Advance(token_factors, i)), inverse);
    return _mm512_cvtsepi32_epi16(
        _mm512_cvt_roundps_epi32(scaled, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC));
  };
  for (uint32_t i = 0; i < rows * kLanes; i += kLanes) {
    const __m512i whole =
        _mm512_inserti64x4(_mm512_castsi256_si512(cells_at(i)), cells_at(i + 16), 1);
    const __m512i bounded = _mm512_max_epi16(_mm512_min_epi16(whole, limit),
                                             _mm512_sub_epi16(_mm512_setzero_si512(), limit));
    _mm512_storeu_si512(cells + i, bounded);
  }
}

void AddErrors(const float* values, const int16_t* cells, const Placement& placement,
               const std::array<float, kLossyPlanes>& scales, uint32_t first_row, uint32_t row_step,
               uint32_t rows, ErrorSums& sums) {
  __m512 partial[kLossyPlanes + 1];
  for (uint32_t i = 0; i <= kLossyPlanes; ++i) partial[i] = _mm512_load_ps(sums.sums[i].data());
  for (uint32_t row = first_row; row < rows; row += row_step) {
    const uint32_t at = row * kLanes;
    const __m512i all = _mm512_loadu_si512(cells + at);
    const __m512 low = _mm512_loadu_ps(values + at);
    const __m512 high = _mm512_loadu_ps(values + at + 16);
    const auto add = [](__m512& sum, __m512 value) {
      sum = _mm512_add_ps(sum, _mm512_mul_ps(value, value));
    };
    for (uint32_t level = 0; level < kLossyPlanes; ++level) {
      const Placer placer({scales[level], placement.mean, placement.token_scales});
      const Middles middles(_mm512_srai_epi16(all, kLossyPlanes - 1 - level));
      add(partial[level], _mm512_sub_ps(low, placer.At(middles.low, at)));
      add(partial[level], _mm512_sub_ps(high, placer.At(middles.high, at + 16)));
    }
    add(partial[kLossyPlanes], low);
    add(partial[kLossyPlanes], high);
  }
  for (uint32_t i = 0; i <= kLossyPlanes; ++i) _mm512_store_ps(sums.sums[i].data(), partial[i]);
}

uint32_t SplitSymbols(const int16_t* cells, uint32_t shift, int32_t reach, uint32_t rows,
                      uint8_t* symbols, uint8_t* escapes) {
  uint32_t count = 0;
  const __m128i shifts = _mm_cvtsi32_si128(static_cast<int>(shift));
  const __m512i reaches = _mm512_set1_epi16(static_cast<int16_t>(reach));
  const __m512i span = _mm512_set1_epi16(static_cast<int16_t>(2 * reach));
  const __m512i offset = _mm512_set1_epi16(kCellOffset);
  for (uint32_t i = 0; i < rows * kLanes; i += kLanes) {
    const __m512i cell = _mm512_sra_epi16(_mm512_loadu_si512(cells + i), shifts);
    const __mmask32 outside = _mm512_cmpge_epu16_mask(_mm512_add_epi16(cell, reaches), span);
    const __m512i symbol =
        _mm512_mask_mov_epi16(_mm512_add_epi16(cell, offset), outside, _mm512_set1_epi16(kEscape));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(symbols + i), _mm512_cvtepi16_epi8(symbol));
    if (outside != 0) {
      _mm512_storeu_si512(escapes + 2 * size_t{count}, _mm512_maskz_compress_epi16(outside, cell));
      count += static_cast<uint32_t>(std::popcount(outside));
    }
  }
  return count;
}

void SplitPlanes(const int16_t* cells, std::span<const BitPlane> planes, uint32_t rows) {
  for (uint32_t row = 0; row < rows; ++row) {
    const __m512i all = _mm512_loadu_si512(cells + row * kLanes);
    for (const BitPlane& plane : planes) {
      const __m512i bit = _mm512_set1_epi16(static_cast<int16_t>(1U << plane.shift));
      const uint32_t bits = _mm512_test_epi16_mask(all, bit);
      std::memcpy(plane.bits + row * sizeof(bits), &bits, sizeof(bits));
    }
  }
}

}  // namespace

const Kernels& Avx512Kernels() {
  static const Kernels kernels = {
      .name = "avx512",
      .decode_symbols = Avx512DecodeSymbols,
      .encode_symbols = Avx512EncodeSymbols,
      .reverse_words = ReverseWords,
      .reconstruct = Reconstruct,
      .place = Place,
      .rotate = Rotate,
      .round_bf16 = RoundBf16,
      .round_fp16 = RoundFp16,
      .widen_bf16 = Widen<true>,
      .widen_fp16 = Widen<false>,
      .scatter = Avx512Scatter,
      .gather = Avx512Gather,
      .moments = MomentsOf,
      .sum_of_squares = SumOfSquares,
      .add_squares = AddSquares,
      .quantize = Quantize,
      .add_errors = AddErrors,
      .split_symbols = SplitSymbols,
      .split_planes = SplitPlanes,
      .split_tail = Avx512SplitTail,
      .decode_tail = Avx512DecodeTail,
      .encode_tail = Avx512EncodeTail,
  };
  return kernels;
}

}  // namespace reprise::progressive
