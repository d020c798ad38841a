// Steps of 16 rANS lanes, shared by the AVX-512 kernels. Empty where the compiler may not use those
// instructions.
#pragma once

#ifdef __AVX512VBMI2__

#include <immintrin.h>

#include <bit>
#include <cstdint>

#include "codec/progressive/format.h"
#include "codec/progressive/kernels.h"

namespace reprise::progressive {
// Unnamed: what is compiled for these instructions must not be merged with another file's.
namespace {  // NOLINT(google-build-namespaces)

// Lanes below the floor take the next words, in lane order.
inline __m512i RefillLanes(__m512i states, const uint16_t*& words) {
  const __mmask16 starved = _mm512_cmplt_epu32_mask(states, _mm512_set1_epi32(kStateFloor));
  const __m512i next =
      _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(words)));
  words += std::popcount(static_cast<uint32_t>(starved));
  return _mm512_mask_or_epi32(states, starved, _mm512_slli_epi32(states, 16),
                              _mm512_maskz_expand_epi32(starved, next));
}

inline __m512i PopLanes(__m512i states, __m512i frequency, __m512i bias) {
  return _mm512_add_epi32(_mm512_mullo_epi32(frequency, _mm512_srli_epi32(states, kSlotBits)),
                          bias);
}

// The writers' lanes, 31 to 0: words are written from the last lane to the first.
struct WriterLanes {
  explicit WriterLanes(const StreamWriter& stream)
      : high(Reverse(_mm512_loadu_si512(stream.states.data() + 16))),
        low(Reverse(_mm512_loadu_si512(stream.states.data()))),
        words(stream.words) {}
  void Save(StreamWriter& stream) const {
    _mm512_storeu_si512(stream.states.data() + 16, Reverse(high));
    _mm512_storeu_si512(stream.states.data(), Reverse(low));
    stream.words = words;
  }
  static __m512i Reverse(__m512i lanes) {
    const __m512i last_to_first =
        _mm512_set_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    return _mm512_permutexvar_epi32(last_to_first, lanes);
  }

  __m512i high;
  __m512i low;
  uint16_t* words;
};

// Writes the low words of the lanes of `full`.
inline __m512i SpillLanes(__m512i states, __mmask16 full, uint16_t*& words) {
  const __m512i chosen = _mm512_maskz_compress_epi32(full, states);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(words), _mm512_cvtepi32_epi16(chosen));
  words += std::popcount(static_cast<uint32_t>(full));
  return _mm512_mask_srli_epi32(states, full, states, 16);
}

}  // namespace
}  // namespace reprise::progressive

#endif  // __AVX512VBMI2__
