// Between channels and tokens with AVX-512: 32 tokens of 32 channels, or 16 of 16, at a time.

#include <immintrin.h>

#include "codec/progressive/avx512_kernels.h"

namespace reprise::progressive {
namespace {

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

// 16 rows of 16 pairs of elements, turned: row i of the result holds pair i of each.
[[gnu::always_inline]] inline void TransposePairs(__m512i (&rows)[16]) {
  __m512i s[16];
  for (uint32_t i = 0; i < 16; i += 2) {
    s[i] = _mm512_unpacklo_epi32(rows[i], rows[i + 1]);
    s[i + 1] = _mm512_unpackhi_epi32(rows[i], rows[i + 1]);
  }
  for (uint32_t i = 0; i < 16; i += 4) {
    rows[i] = _mm512_unpacklo_epi64(s[i], s[i + 2]);
    rows[i + 1] = _mm512_unpackhi_epi64(s[i], s[i + 2]);
    rows[i + 2] = _mm512_unpacklo_epi64(s[i + 1], s[i + 3]);
    rows[i + 3] = _mm512_unpackhi_epi64(s[i + 1], s[i + 3]);
  }
  // rows[4 q + j] has pairs j, j + 4, j + 8 and j + 12 of rows 4 q to 4 q + 3.
  for (uint32_t j = 0; j < 4; ++j) {
    const __m512i a = _mm512_shuffle_i32x4(rows[j], rows[4 + j], 0x88);
    const __m512i b = _mm512_shuffle_i32x4(rows[j], rows[4 + j], 0xDD);
    const __m512i c = _mm512_shuffle_i32x4(rows[8 + j], rows[12 + j], 0x88);
    const __m512i d = _mm512_shuffle_i32x4(rows[8 + j], rows[12 + j], 0xDD);
    s[j] = _mm512_shuffle_i32x4(a, c, 0x88);
    s[8 + j] = _mm512_shuffle_i32x4(a, c, 0xDD);
    s[4 + j] = _mm512_shuffle_i32x4(b, d, 0x88);
    s[12 + j] = _mm512_shuffle_i32x4(b, d, 0xDD);
  }
  for (uint32_t i = 0; i < 16; ++i) rows[i] = s[i];
}

// 32 tokens of 32 channels. Interleaving the words of two channels leaves, of every 8 tokens, the
// first 4 in one vector and the last 4 in the other.
[[gnu::always_inline]] inline void Scatter32(const uint16_t* rows_of_channels,
                                             std::byte* destination, int64_t token_stride_bytes) {
  for (uint32_t upper = 0; upper < 2; ++upper) {
    __m512i pairs[16];
    for (uint32_t c = 0; c < 16; ++c) {
      const __m512i even = _mm512_loadu_si512(rows_of_channels + 2 * c * kTileStride);
      const __m512i odd = _mm512_loadu_si512(rows_of_channels + (2 * c + 1) * kTileStride);
      pairs[c] = upper == 0 ? _mm512_unpacklo_epi16(even, odd) : _mm512_unpackhi_epi16(even, odd);
    }
    TransposePairs(pairs);
    for (uint32_t i = 0; i < 16; ++i) {
      const int64_t token = i / 4 * 8 + i % 4 + 4 * upper;
      _mm512_storeu_si512(destination + token * token_stride_bytes, pairs[i]);
    }
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

}  // namespace

void Avx512Scatter(const uint16_t* rows_of_channels, uint32_t channels, uint32_t tokens,
                   std::byte* destination, int64_t token_stride_bytes) {
  if (channels % 16 != 0 || tokens % 32 != 0) {
    ScalarKernels().scatter(rows_of_channels, channels, tokens, destination, token_stride_bytes);
    return;
  }
  if (channels == 32) {
    for (uint32_t token = 0; token < tokens; token += 32) {
      Scatter32(rows_of_channels + token, destination, token_stride_bytes);
      destination += 32 * token_stride_bytes;
    }
    return;
  }
  for (uint32_t token = 0; token < tokens; token += 16) {
    const Block16 columns = TransposedAt(rows_of_channels + token);
    for (const __m256i& column : columns.rows) {
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(destination), column);
      destination += token_stride_bytes;
    }
  }
}

void Avx512Gather(const std::byte* source, int64_t token_stride_bytes, uint32_t channels,
                  uint32_t tokens, uint16_t* rows_of_channels) {
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

}  // namespace reprise::progressive
