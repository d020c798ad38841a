// Steps of 16 rANS lanes, shared by the AVX-512 kernels. Empty where the compiler may not use those
// instructions.
#pragma once

#ifdef __AVX512VBMI2__

#include <immintrin.h>

#include <bit>
#include <cstdint>

#include "codec/progressive/format.h"

namespace reprise::progressive {
namespace {

// Lanes below the floor take the next words, in lane order.
inline __m512i RefillLanes(__m512i states, const uint16_t*& words) {
  const __mmask16 starved = _mm512_cmplt_epu32_mask(states, _mm512_set1_epi32(kStateFloor));
  const __m512i next =
      _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(words)));
  words += std::popcount(static_cast<uint32_t>(starved));
  const __m512i filled =
      _mm512_or_si512(_mm512_slli_epi32(states, 16), _mm512_maskz_expand_epi32(starved, next));
  return _mm512_mask_mov_epi32(states, starved, filled);
}

inline __m512i PopLanes(__m512i states, __m512i frequency, __m512i bias) {
  return _mm512_add_epi32(_mm512_mullo_epi32(frequency, _mm512_srli_epi32(states, kSlotBits)),
                          bias);
}

// The low words of the lanes of `full` go in front of `words`, in lane order.
inline __m512i SpillLanes(__m512i states, __mmask16 full, uint16_t*& words) {
  words -= std::popcount(static_cast<uint32_t>(full));
  _mm256_mask_compressstoreu_epi16(words, full, _mm512_cvtepi32_epi16(states));
  return _mm512_mask_srli_epi32(states, full, states, 16);
}

// A state at or above frequency << 25 has no room for the symbol.
inline __mmask16 FullFor(__m512i states, __m512i frequencies) {
  return _mm512_cmpge_epu32_mask(_mm512_srli_epi32(states, 32 - kSlotBits), frequencies);
}

// Exact quotients: a state has 32 bits, a double 53.
inline __m512i DivideLanes(__m512i states, __m512i frequencies) {
  const __m512d low = _mm512_div_pd(_mm512_cvtepu32_pd(_mm512_castsi512_si256(states)),
                                    _mm512_cvtepu32_pd(_mm512_castsi512_si256(frequencies)));
  const __m512d high = _mm512_div_pd(_mm512_cvtepu32_pd(_mm512_extracti64x4_epi64(states, 1)),
                                     _mm512_cvtepu32_pd(_mm512_extracti64x4_epi64(frequencies, 1)));
  return _mm512_inserti64x4(_mm512_castsi256_si512(_mm512_cvttpd_epu32(low)),
                            _mm512_cvttpd_epu32(high), 1);
}

inline __m512i PushLanes(__m512i states, __m512i frequencies, __m512i firsts) {
  const __m512i quotient = DivideLanes(states, frequencies);
  const __m512i rest = _mm512_sub_epi32(states, _mm512_mullo_epi32(quotient, frequencies));
  return _mm512_add_epi32(_mm512_slli_epi32(quotient, kSlotBits), _mm512_add_epi32(rest, firsts));
}

}  // namespace
}  // namespace reprise::progressive

#endif  // __AVX512VBMI2__
