// AVX2 kernels. Compiled with AVX2, F16C, BMI2 and POPCNT and entered only where kernels.cc has
// seen that the machine has them. What they compute is said in scalar_kernels.cc.

#include "codec/progressive/avx2_kernels.h"

#include <immintrin.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "codec/progressive/avx2_lanes.h"
#include "codec/progressive/scalar_rans.h"

namespace reprise::progressive {
namespace {

// Packing two vectors leaves, of four quarters, the second and third exchanged.
constexpr int kMiddleExchanged = 0xD8;

__m256i Words(int value) { return _mm256_set1_epi16(static_cast<int16_t>(value)); }

void ReverseWords(uint16_t* begin, uint16_t* end) {
  const auto backwards = [](__m256i words) {
    const __m256i in_halves = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(14, 15, 12, 13, 10, 11, 8, 9, 6, 7, 4, 5, 2, 3, 0, 1));
    return _mm256_permute4x64_epi64(_mm256_shuffle_epi8(words, in_halves), 0x4E);
  };
  for (; end - begin >= 32; begin += 16, end -= 16) {
    const __m256i first = Load256(begin);
    const __m256i last = Load256(end - 16);
    Store256(begin, backwards(last));
    Store256(end - 16, backwards(first));
  }
  std::reverse(begin, end);
}

// 16 cells as floats of 2 * cell + 1.
struct Middles {
  explicit Middles(__m256i cells) {
    // In the upper half of 32 bits, above half a one; then the lower 15 bits go.
    const __m256i ordered = _mm256_permute4x64_epi64(cells, kMiddleExchanged);
    const __m256i half = Words(0x8000);
    const auto middle = [](__m256i at) { return _mm256_cvtepi32_ps(_mm256_srai_epi32(at, 15)); };
    low = middle(_mm256_unpacklo_epi16(half, ordered));
    high = middle(_mm256_unpackhi_epi16(half, ordered));
  }

  __m256 low;
  __m256 high;
};

struct Placer {
  explicit Placer(const Placement& placement)
      : scale(_mm256_set1_ps(placement.scale)),
        mean(_mm256_set1_ps(placement.mean)),
        token_scales(placement.token_scales),
        to_end(placement.to_end) {}

  __m256 At(__m256 middle, uint32_t token) const {
    __m256 place = _mm256_mul_ps(middle, scale);
    __m256 end = scale;
    if (token_scales != nullptr) {
      const __m256 token_scale = _mm256_loadu_ps(token_scales + token);
      place = _mm256_mul_ps(place, token_scale);
      end = _mm256_mul_ps(scale, token_scale);
    }
    const __m256 value = _mm256_add_ps(place, mean);
    if (!to_end) return value;
    const __m256 sign = _mm256_set1_ps(-0.0F);
    const __m256 moved = _mm256_sub_ps(_mm256_andnot_ps(sign, value), end);
    // The sign of `value`, whatever that of the difference is.
    return _mm256_or_ps(_mm256_andnot_ps(sign, moved), _mm256_and_ps(sign, value));
  }
  // 16 cells.
  void Store(__m256i cells, uint32_t at, float* values) const {
    const Middles middles(cells);
    _mm256_storeu_ps(values + at, At(middles.low, at));
    _mm256_storeu_ps(values + at + 8, At(middles.high, at + 8));
  }

  __m256 scale;
  __m256 mean;
  const float* token_scales;
  bool to_end;
};

// 32 cells.
struct CellRow {
  explicit CellRow(__m256i symbols) {
    const __m256i offset = Words(kCellOffset);
    low = _mm256_sub_epi16(_mm256_cvtepu8_epi16(_mm256_castsi256_si128(symbols)), offset);
    high = _mm256_sub_epi16(_mm256_cvtepu8_epi16(_mm256_extracti128_si256(symbols, 1)), offset);
  }
  // Replaces escaped cells by the next escapes.
  void TakeEscapes(uint32_t escaped, const uint8_t* escapes) {
    alignas(64) std::array<int16_t, kLanes> lanes;
    Store256(lanes.data(), low);
    Store256(lanes.data() + 16, high);
    uint32_t used = 0;
    for (; escaped != 0; escaped &= escaped - 1) {
      lanes[static_cast<size_t>(std::countr_zero(escaped))] =
          static_cast<int16_t>(LoadWord(escapes, used++));
    }
    low = Load256(lanes.data());
    high = Load256(lanes.data() + 16);
  }
  // One bit more for each.
  void AddBits(const uint8_t* bits) {
    const __m256i places = _mm256_setr_epi16(1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048,
                                             4096, 8192, 16384, INT16_MIN);
    const auto add = [&](__m256i cells, uint32_t index) {
      const __m256i own = _mm256_and_si256(Words(LoadWord(bits, index)), places);
      // -1 where the bit is set.
      return _mm256_sub_epi16(_mm256_add_epi16(cells, cells), _mm256_cmpeq_epi16(own, places));
    };
    low = add(low, 0);
    high = add(high, 1);
  }

  __m256i low;
  __m256i high;
};

uint32_t Reconstruct(const uint8_t* symbols, const uint8_t* escapes, uint32_t escape_count,
                     std::span<const uint8_t* const> planes, uint32_t rows,
                     const Placement& placement, float* values) {
  const Placer placer(placement);
  uint32_t used = 0;
  for (uint32_t row = 0; row < rows; ++row) {
    const __m256i bytes = Load256(symbols + row * kLanes);
    const auto escaped = static_cast<uint32_t>(
        _mm256_movemask_epi8(_mm256_cmpeq_epi8(bytes, _mm256_set1_epi8(kEscape))));
    CellRow cells(bytes);
    if (escaped != 0) {
      const uint32_t count = CountOf(escaped);
      if (count > escape_count - used) return escape_count + 1;
      cells.TakeEscapes(escaped, escapes + 2 * size_t{used});
      used += count;
    }
    for (const uint8_t* plane : planes) cells.AddBits(plane + row * sizeof(uint32_t));
    placer.Store(cells.low, row * kLanes, values);
    placer.Store(cells.high, row * kLanes + 16, values);
  }
  return used;
}

void Place(const int16_t* cells, uint32_t rows, const Placement& placement, float* values) {
  const Placer placer(placement);
  for (uint32_t i = 0; i < rows * kLanes; i += 16) placer.Store(Load256(cells + i), i, values);
}

void Rotate(float* a, float* b, const float* cosine, const float* sine, uint32_t rows) {
  for (uint32_t i = 0; i < rows * kLanes; i += 8) {
    const __m256 x = _mm256_loadu_ps(a + i);
    const __m256 y = _mm256_loadu_ps(b + i);
    const __m256 c = _mm256_loadu_ps(cosine + i);
    const __m256 s = _mm256_loadu_ps(sine + i);
    _mm256_storeu_ps(a + i, _mm256_sub_ps(_mm256_mul_ps(x, c), _mm256_mul_ps(y, s)));
    _mm256_storeu_ps(b + i, _mm256_add_ps(_mm256_mul_ps(y, c), _mm256_mul_ps(x, s)));
  }
}

void RoundBf16(const float* values, uint32_t rows, uint16_t* bits) {
  const __m256i half = _mm256_set1_epi32(0x8000);
  const auto round = [&](const float* at) {
    return _mm256_srli_epi32(_mm256_add_epi32(Load256(at), half), 16);
  };
  for (uint32_t i = 0; i < rows * kLanes; i += 16) {
    const __m256i packed = _mm256_packus_epi32(round(values + i), round(values + i + 8));
    Store256(bits + i, _mm256_permute4x64_epi64(packed, kMiddleExchanged));
  }
}

void RoundFp16(const float* values, uint32_t rows, uint16_t* bits) {
  const __m256 limit = _mm256_set1_ps(65504.0F);
  const __m256 lower_limit = _mm256_set1_ps(-65504.0F);
  for (uint32_t i = 0; i < rows * kLanes; i += 8) {
    const __m256 bounded =
        _mm256_max_ps(_mm256_min_ps(_mm256_loadu_ps(values + i), limit), lower_limit);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(bits + i),
                     _mm256_cvtps_ph(bounded, _MM_FROUND_TO_NEAREST_INT));
  }
}

uint16_t LargestLane(__m256i words) {
  const __m128i half =
      _mm_max_epu16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
  // The least of the complements.
  const __m128i least = _mm_minpos_epu16(_mm_xor_si128(half, _mm_set1_epi16(-1)));
  return static_cast<uint16_t>(~_mm_extract_epi16(least, 0));
}

template <bool kBf16>
uint16_t Widen(const uint16_t* bits, uint32_t rows, float* values) {
  __m256i largest = _mm256_setzero_si256();
  const __m256i magnitude = Words(0x7FFF);
  for (uint32_t i = 0; i < rows * kLanes; i += 16) {
    const __m256i words = Load256(bits + i);
    largest = _mm256_max_epu16(largest, _mm256_and_si256(words, magnitude));
    for (uint32_t half = 0; half < 16; half += 8) {
      const __m128i eight = Load128(bits + i + half);
      if constexpr (kBf16) {
        Store256(values + i + half, _mm256_slli_epi32(_mm256_cvtepu16_epi32(eight), 16));
      } else {
        _mm256_storeu_ps(values + i + half, _mm256_cvtph_ps(eight));
      }
    }
  }
  return LargestLane(largest);
}

// 16 partial sums, of which each half has its vector.
struct Sums {
  void Add(__m256 first, __m256 last) {
    low = _mm256_add_ps(low, first);
    high = _mm256_add_ps(high, last);
  }
  void AddSquares(__m256 first, __m256 last) {
    Add(_mm256_mul_ps(first, first), _mm256_mul_ps(last, last));
  }
  float Total() const {
    const __m256 eight = _mm256_add_ps(low, high);
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
  }

  __m256 low = _mm256_setzero_ps();
  __m256 high = _mm256_setzero_ps();
};

Moments MomentsOf(const float* values, uint32_t rows) {
  const __m256 origin = _mm256_set1_ps(values[0]);
  Sums sums;
  Sums squares;
  for (uint32_t i = 0; i < rows * kLanes; i += 16) {
    const __m256 first = _mm256_sub_ps(_mm256_loadu_ps(values + i), origin);
    const __m256 last = _mm256_sub_ps(_mm256_loadu_ps(values + i + 8), origin);
    sums.Add(first, last);
    squares.AddSquares(first, last);
  }
  return {sums.Total(), squares.Total()};
}

// (values - mean) * token_factors, of 8 values from index `at`.
__m256 Centred(const float* values, __m256 mean, const float* token_factors, uint32_t at) {
  const __m256 centred = _mm256_sub_ps(_mm256_loadu_ps(values + at), mean);
  if (token_factors == nullptr) return centred;
  return _mm256_mul_ps(centred, _mm256_loadu_ps(token_factors + at));
}

float SumOfSquares(const float* values, float mean, const float* token_factors, uint32_t rows) {
  const __m256 means = _mm256_set1_ps(mean);
  Sums sums;
  for (uint32_t i = 0; i < rows * kLanes; i += 16) {
    sums.AddSquares(Centred(values, means, token_factors, i),
                    Centred(values, means, token_factors, i + 8));
  }
  return sums.Total();
}

void AddSquares(const float* values, float mean, uint32_t rows, float* sums) {
  const __m256 means = _mm256_set1_ps(mean);
  for (uint32_t i = 0; i < rows * kLanes; i += 8) {
    const __m256 centred = _mm256_sub_ps(_mm256_loadu_ps(values + i), means);
    _mm256_storeu_ps(sums + i,
                     _mm256_add_ps(_mm256_loadu_ps(sums + i), _mm256_mul_ps(centred, centred)));
  }
}

void Quantize(const float* values, float mean, const float* token_factors, float inverse_step,
              uint32_t rows, int16_t* cells) {
  const __m256 means = _mm256_set1_ps(mean);
  const __m256 inverse = _mm256_set1_ps(inverse_step);
  const __m256 limit = _mm256_set1_ps(kCellLimit);
  const __m256 lower_limit = _mm256_set1_ps(-kCellLimit);
  const auto cells_at = [&](uint32_t i) {
    const __m256 scaled = _mm256_mul_ps(Centred(values, means, token_factors, i), inverse);
    const __m256 whole = _mm256_floor_ps(scaled);
    return _mm256_cvttps_epi32(_mm256_max_ps(_mm256_min_ps(whole, limit), lower_limit));
  };
  for (uint32_t i = 0; i < rows * kLanes; i += 16) {
    const __m256i packed = _mm256_packs_epi32(cells_at(i), cells_at(i + 8));
    Store256(cells + i, _mm256_permute4x64_epi64(packed, kMiddleExchanged));
  }
}

void AddErrors(const float* values, const int16_t* cells, const Placement& placement,
               const std::array<float, kLossyPlanes>& scales, uint32_t first_row, uint32_t row_step,
               uint32_t rows, ErrorSums& sums) {
  Sums partial[kLossyPlanes + 1];
  for (uint32_t i = 0; i <= kLossyPlanes; ++i) {
    partial[i].low = _mm256_load_ps(sums.sums[i].data());
    partial[i].high = _mm256_load_ps(sums.sums[i].data() + 8);
  }
  for (uint32_t row = first_row; row < rows; row += row_step) {
    for (uint32_t at = row * kLanes; at < (row + 1) * kLanes; at += 16) {
      const __m256i all = Load256(cells + at);
      const __m256 first = _mm256_loadu_ps(values + at);
      const __m256 last = _mm256_loadu_ps(values + at + 8);
      for (uint32_t level = 0; level < kLossyPlanes; ++level) {
        const Placer placer({scales[level], placement.mean, placement.token_scales});
        const int shift = static_cast<int>(kLossyPlanes - 1 - level);
        const Middles middles(_mm256_srai_epi16(all, shift));
        partial[level].AddSquares(_mm256_sub_ps(first, placer.At(middles.low, at)),
                                  _mm256_sub_ps(last, placer.At(middles.high, at + 8)));
      }
      partial[kLossyPlanes].AddSquares(first, last);
    }
  }
  for (uint32_t i = 0; i <= kLossyPlanes; ++i) {
    _mm256_store_ps(sums.sums[i].data(), partial[i].low);
    _mm256_store_ps(sums.sums[i].data() + 8, partial[i].high);
  }
}

uint32_t SplitSymbols(const int16_t* cells, uint32_t shift, int32_t reach, uint32_t rows,
                      uint8_t* symbols, uint8_t* escapes) {
  uint32_t count = 0;
  const __m128i shifts = _mm_cvtsi32_si128(static_cast<int>(shift));
  const __m256i above = Words(reach - 1);
  const __m256i below = Words(-reach);
  const auto outside = [&](__m256i cell) {
    return _mm256_or_si256(_mm256_cmpgt_epi16(cell, above), _mm256_cmpgt_epi16(below, cell));
  };
  for (uint32_t i = 0; i < rows * kLanes; i += kLanes) {
    // In the order that packing undoes.
    const __m256i low = _mm256_sra_epi16(LoadHalves(cells + i, cells + i + 16), shifts);
    const __m256i high = _mm256_sra_epi16(LoadHalves(cells + i + 8, cells + i + 24), shifts);
    const __m256i is_escape = _mm256_packs_epi16(outside(low), outside(high));
    const __m256i symbol =
        _mm256_add_epi8(_mm256_packs_epi16(low, high), _mm256_set1_epi8(kCellOffset));
    Store256(symbols + i, _mm256_blendv_epi8(symbol, _mm256_set1_epi8(kEscape), is_escape));
    auto escaped = static_cast<uint32_t>(_mm256_movemask_epi8(is_escape));
    for (; escaped != 0; escaped &= escaped - 1) {
      const int16_t cell = cells[i + static_cast<uint32_t>(std::countr_zero(escaped))];
      StoreWord(escapes, count++, static_cast<uint16_t>(cell >> shift));
    }
  }
  return count;
}

void SplitPlanes(const int16_t* cells, std::span<const BitPlane> planes, uint32_t rows) {
  for (uint32_t row = 0; row < rows; ++row) {
    const int16_t* from = cells + row * kLanes;
    // In the order that packing undoes.
    const __m256i low = LoadHalves(from, from + 16);
    const __m256i high = LoadHalves(from + 8, from + 24);
    for (const BitPlane& plane : planes) {
      const __m128i to_sign = _mm_cvtsi32_si128(15 - static_cast<int>(plane.shift));
      const __m256i signs =
          _mm256_packs_epi16(_mm256_sll_epi16(low, to_sign), _mm256_sll_epi16(high, to_sign));
      const auto bits = static_cast<uint32_t>(_mm256_movemask_epi8(signs));
      std::memcpy(plane.bits + row * sizeof(bits), &bits, sizeof(bits));
    }
  }
}

}  // namespace

const Kernels& Avx2Kernels() {
  static const Kernels kernels = {
      .name = "avx2",
      .decode_symbols = Avx2DecodeSymbols,
      .encode_symbols = Avx2EncodeSymbols,
      .reverse_words = ReverseWords,
      .reconstruct = Reconstruct,
      .place = Place,
      .rotate = Rotate,
      .round_bf16 = RoundBf16,
      .round_fp16 = RoundFp16,
      .widen_bf16 = Widen<true>,
      .widen_fp16 = Widen<false>,
      .scatter = Avx2Scatter,
      .gather = Avx2Gather,
      .moments = MomentsOf,
      .sum_of_squares = SumOfSquares,
      .add_squares = AddSquares,
      .quantize = Quantize,
      .add_errors = AddErrors,
      .split_symbols = SplitSymbols,
      .split_planes = SplitPlanes,
      .split_tail = Avx2SplitTail,
      .decode_tail = Avx2DecodeTail,
      .encode_tail = Avx2EncodeTail,
  };
  return kernels;
}

}  // namespace reprise::progressive
