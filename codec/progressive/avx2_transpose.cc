// Between channels and tokens with AVX2: 8 tokens of 16 channels at a time, so that each token's
// memory is touched once and no more lines are open than fit a set of the cache.

#include <immintrin.h>

#include "codec/progressive/avx2_kernels.h"
#include "codec/progressive/avx2_lanes.h"

namespace reprise::progressive {
namespace {

// In each half: 8 rows of 8 words, turned.
[[gnu::always_inline]] inline void TransposeHalves(__m256i (&rows)[8]) {
  __m256i s[8];
  for (uint32_t i = 0; i < 8; i += 2) {
    s[i] = _mm256_unpacklo_epi16(rows[i], rows[i + 1]);
    s[i + 1] = _mm256_unpackhi_epi16(rows[i], rows[i + 1]);
  }
  __m256i t[8];
  for (uint32_t i = 0; i < 8; i += 4) {
    t[i] = _mm256_unpacklo_epi32(s[i], s[i + 2]);
    t[i + 1] = _mm256_unpackhi_epi32(s[i], s[i + 2]);
    t[i + 2] = _mm256_unpacklo_epi32(s[i + 1], s[i + 3]);
    t[i + 3] = _mm256_unpackhi_epi32(s[i + 1], s[i + 3]);
  }
  for (uint32_t i = 0; i < 4; ++i) {
    rows[2 * i] = _mm256_unpacklo_epi64(t[i], t[i + 4]);
    rows[2 * i + 1] = _mm256_unpackhi_epi64(t[i], t[i + 4]);
  }
}

}  // namespace

void Avx2Scatter(const uint16_t* rows_of_channels, uint32_t channels, uint32_t tokens,
                 std::byte* destination, int64_t token_stride_bytes) {
  if (channels % 16 != 0 || tokens % 8 != 0) {
    ScalarKernels().scatter(rows_of_channels, channels, tokens, destination, token_stride_bytes);
    return;
  }
  for (uint32_t token = 0; token < tokens; token += 8) {
    for (uint32_t channel = 0; channel < channels; channel += 16) {
      const uint16_t* from = rows_of_channels + channel * kTileStride + token;
      __m256i rows[8];
      for (uint32_t i = 0; i < 8; ++i) {
        rows[i] = LoadHalves(from + i * kTileStride, from + (i + 8) * kTileStride);
      }
      TransposeHalves(rows);
      std::byte* to = destination + 2 * size_t{channel};
      for (const __m256i& row : rows) {
        Store256(to, row);
        to += token_stride_bytes;
      }
    }
    destination += 8 * token_stride_bytes;
  }
}

void Avx2Gather(const std::byte* source, int64_t token_stride_bytes, uint32_t channels,
                uint32_t tokens, uint16_t* rows_of_channels) {
  if (channels % 16 != 0 || tokens % 8 != 0) {
    ScalarKernels().gather(source, token_stride_bytes, channels, tokens, rows_of_channels);
    return;
  }
  for (uint32_t token = 0; token < tokens; token += 8) {
    for (uint32_t channel = 0; channel < channels; channel += 16) {
      const std::byte* from = source + 2 * size_t{channel};
      __m256i rows[8];
      for (__m256i& row : rows) {
        row = Load256(from);
        from += token_stride_bytes;
      }
      TransposeHalves(rows);
      uint16_t* to = rows_of_channels + channel * kTileStride + token;
      for (const __m256i& row : rows) {
        _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm256_castsi256_si128(row));
        _mm_storeu_si128(reinterpret_cast<__m128i*>(to + 8 * kTileStride),
                         _mm256_extracti128_si256(row, 1));
        to += kTileStride;
      }
    }
    source += 8 * token_stride_bytes;
  }
}

}  // namespace reprise::progressive
