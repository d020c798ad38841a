// The lossless plane with AVX2: a row of 32 values of 16 bits in two vectors, and what guesses say.
// Bytes of a row lie as packing leaves them: values 0 to 7, 16 to 23, 8 to 15, 24 to 31. Empty
// where the compiler may not use those instructions.
#pragma once

#ifdef __AVX2__

#include <immintrin.h>

#include <cstdint>

#include "codec/progressive/avx2_lanes.h"
#include "codec/progressive/tail.h"

namespace reprise::progressive {
// Unnamed: what is compiled for these instructions must not be merged with another file's.
namespace {  // NOLINT(google-build-namespaces)

inline __m256i Words(int value) { return _mm256_set1_epi16(static_cast<int16_t>(value)); }
inline __m256i Bytes(int value) { return _mm256_set1_epi8(static_cast<char>(value)); }

// Bits of bytes as packing leaves them, in the order of the values.
inline uint32_t InOrder(uint32_t packed) {
  return (packed & 0xFF0000FF) | (packed >> 8 & 0xFF00) | (packed & 0xFF00) << 8;
}

// Words of 16 values out of bytes of 32.
struct Widened {
  explicit Widened(__m256i bytes)
      : first(_mm256_unpacklo_epi8(bytes, _mm256_setzero_si256())),
        last(_mm256_unpackhi_epi8(bytes, _mm256_setzero_si256())) {}

  __m256i first;
  __m256i last;
};

// 2^i for words of 0 to 15. AVX2 shifts no words by different counts, but multiplies them.
inline __m256i PowersOfTwo(__m256i words) {
  const __m256i powers = _mm256_broadcastsi128_si256(
      _mm_setr_epi8(1, 2, 4, 8, 16, 32, 64, -128, 0, 0, 0, 0, 0, 0, 0, 0));
  // The upper byte looks for 8 less, and finds 0 below that.
  const __m256i indices = _mm256_sub_epi16(_mm256_mullo_epi16(words, Words(0x0101)), Words(0x0800));
  return _mm256_shuffle_epi8(powers, indices);
}

// What holds for every row of a tensor.
struct Constants {
  explicit Constants(const TailFormat& format)
      : mantissa(Words(static_cast<int>(format.mantissa_bits))),
        mantissa_count(_mm_cvtsi32_si128(static_cast<int>(format.mantissa_bits))) {}

  __m256i mantissa;
  __m128i mantissa_count;
};

// How 16 values are coded: all ones where the context is kTailNear; where it is kTailHalf or
// kTailWhole; where it is kTailWhole.
struct Contexts {
  [[gnu::always_inline]] inline Contexts(const Constants& constants, __m256i bits, __m256i steps) {
    const __m256i zero = _mm256_setzero_si256();
    const __m256i magnitude = _mm256_and_si256(bits, Words(0x7FFF));
    const __m256i above =
        _mm256_sub_epi16(_mm256_srl_epi16(magnitude, constants.mantissa_count), steps);
    const __m256i spare = _mm256_sub_epi16(constants.mantissa, above);
    near = _mm256_cmpgt_epi16(zero, above);
    coarse = _mm256_cmpgt_epi16(Words(2), spare);
    whole = _mm256_cmpgt_epi16(Words(1), spare);
    const __m256i rest = _mm256_max_epi16(_mm256_sub_epi16(spare, Words(2)), zero);
    low_bits = _mm256_blendv_epi8(rest, constants.mantissa, near);
  }

  __m256i near;
  __m256i coarse;
  __m256i whole;
  __m256i low_bits;
};

// What distances of 16 values are counted from, and in what.
struct Origins {
  [[gnu::always_inline]] inline Origins(const Constants& constants, __m256i near, __m256i low_bits,
                                        __m256i bits, __m256i steps) {
    const __m256i lowest = _mm256_subs_epu16(steps, Words(static_cast<int>(kTailOctaves)));
    floor = _mm256_sll_epi16(lowest, constants.mantissa_count);
    sign = _mm256_srai_epi16(bits, 15);
    const __m256i magnitude = _mm256_and_si256(bits, Words(0x7FFF));
    const __m256i order = _mm256_xor_si256(_mm256_subs_epu16(magnitude, floor), sign);
    origin = _mm256_andnot_si256(near, order);
    unit = PowersOfTwo(low_bits);
  }
  __m256i low_mask() const { return _mm256_sub_epi16(unit, Words(1)); }

  __m256i floor;
  __m256i sign;
  __m256i origin;
  __m256i unit;  // 2^low_bits
};

}  // namespace
}  // namespace reprise::progressive

#endif  // __AVX2__
