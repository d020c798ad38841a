// What the AVX2 kernels of the entropy coder share: AVX2 has neither expand nor compress nor a
// lookup across 16 bytes. Empty where the compiler may not use those instructions.
#pragma once

#ifdef __AVX2__

#include <immintrin.h>

#include <array>
#include <bit>
#include <cstdint>

#include "codec/progressive/format.h"
#include "codec/progressive/kernels.h"

namespace reprise::progressive {

// For each choice of 8 words, a shuffle of their 16 bytes.
struct alignas(64) WordShuffles {
  std::array<std::array<uint8_t, 16>, 256> bytes;
};

// The first words go to the chosen places, in order; 0 to the others.
inline constexpr WordShuffles kExpand = [] {
  WordShuffles shuffles{};
  for (uint32_t chosen = 0; chosen < 256; ++chosen) {
    uint8_t from = 0;
    for (uint32_t i = 0; i < 8; ++i) {
      const bool taken = (chosen >> i & 1) != 0;
      shuffles.bytes[chosen][2 * i] = taken ? from++ : uint8_t{0x80};
      shuffles.bytes[chosen][2 * i + 1] = taken ? from++ : uint8_t{0x80};
    }
  }
  return shuffles;
}();

// The chosen words go to the front, the last one first.
inline constexpr WordShuffles kCompressBackwards = [] {
  WordShuffles shuffles{};
  for (uint32_t chosen = 0; chosen < 256; ++chosen) {
    uint32_t to = 0;
    for (uint32_t i = 8; i-- > 0;) {
      if ((chosen >> i & 1) == 0) continue;
      shuffles.bytes[chosen][to++] = static_cast<uint8_t>(2 * i);
      shuffles.bytes[chosen][to++] = static_cast<uint8_t>(2 * i + 1);
    }
  }
  return shuffles;
}();

// Unnamed: what is compiled for these instructions must not be merged with another file's.
namespace {  // NOLINT(google-build-namespaces)

inline __m128i Load128(const void* at) {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(at));
}
inline __m256i Load256(const void* at) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at));
}
inline void Store256(void* at, __m256i value) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(at), value);
}
// Two separate halves.
inline __m256i LoadHalves(const void* low, const void* high) {
  return _mm256_inserti128_si256(_mm256_castsi128_si256(Load128(low)), Load128(high), 1);
}
// 16 bytes, for lookups by _mm256_shuffle_epi8.
inline __m256i Twice(const void* at) { return _mm256_broadcastsi128_si256(Load128(at)); }

inline const uint8_t* ShuffleOf(const WordShuffles& shuffles, uint32_t chosen) {
  return shuffles.bytes[chosen & 0xFF].data();
}
inline uint32_t CountOf(uint32_t bits) { return static_cast<uint32_t>(std::popcount(bits)); }

// Of a table of 128 bytes, the entries of 32 lanes of 8 bits, all below 128. A shuffle gives 0
// where the index is negative, so an entry is the exclusive or of what every sixteen up to its own
// changed; `changes` has that. Vectors side by side share the loads.
template <uint32_t kCount>
[[gnu::always_inline]] inline void Find(const uint8_t* changes, const __m256i (&indices)[kCount],
                                        __m256i (&values)[kCount]) {
  const __m256i sixteen = _mm256_set1_epi8(16);
  __m256i rest[kCount];
  for (uint32_t i = 0; i < 8; ++i) {
    const __m256i table = Twice(changes + 16 * i);
    for (uint32_t v = 0; v < kCount; ++v) {
      rest[v] = i == 0 ? indices[v] : _mm256_sub_epi8(rest[v], sixteen);
      const __m256i change = _mm256_shuffle_epi8(table, rest[v]);
      values[v] = i == 0 ? change : _mm256_xor_si256(values[v], change);
    }
  }
}

// Bytes 4 i to 4 i + 3 of each half, in 32 bits each.
template <uint32_t kFours>
__m256i WidenBytes(__m256i bytes) {
  constexpr int kFirst = static_cast<int>(0x80808000U + 4 * kFours);
  const __m256i shuffle = _mm256_setr_epi32(kFirst, kFirst + 1, kFirst + 2, kFirst + 3, kFirst,
                                            kFirst + 1, kFirst + 2, kFirst + 3);
  return _mm256_shuffle_epi8(bytes, shuffle);
}

// The writers' lanes. Vector i has lanes 4 i to 4 i + 3 and the same of the upper 16, so that
// packing all four twice leaves bytes in the order of the lanes.
struct WriterLanes {
  explicit WriterLanes(const StreamWriter& stream) : words(stream.words) {
    for (uint32_t i = 0; i < 4; ++i) {
      states[i] = LoadHalves(stream.states.data() + 4 * i, stream.states.data() + 16 + 4 * i);
    }
  }
  void Save(StreamWriter& stream) const {
    for (uint32_t i = 0; i < 4; ++i) {
      auto* low = reinterpret_cast<__m128i*>(stream.states.data() + 4 * i);
      _mm_store_si128(low, _mm256_castsi256_si128(states[i]));
      _mm_store_si128(low + 4, _mm256_extracti128_si256(states[i], 1));
    }
    stream.words = words;
  }
  // Writes the low words of the lanes of `full`, from the last lane to the first.
  [[gnu::always_inline]] inline void WriteWords(uint32_t full) {
    const __m256i word = _mm256_set1_epi32(0xFFFF);
    const __m256i even =
        _mm256_packus_epi32(_mm256_and_si256(states[0], word), _mm256_and_si256(states[1], word));
    const __m256i odd =
        _mm256_packus_epi32(_mm256_and_si256(states[2], word), _mm256_and_si256(states[3], word));
    WriteEight(_mm256_extracti128_si256(odd, 1), full >> 24);
    WriteEight(_mm256_extracti128_si256(even, 1), full >> 16 & 0xFF);
    WriteEight(_mm256_castsi256_si128(odd), full >> 8 & 0xFF);
    WriteEight(_mm256_castsi256_si128(even), full & 0xFF);
  }
  [[gnu::always_inline]] inline void WriteEight(__m128i low_words, uint32_t full) {
    const __m128i chosen =
        _mm_shuffle_epi8(low_words, Load128(ShuffleOf(kCompressBackwards, full)));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(words), chosen);
    words += CountOf(full);
  }

  __m256i states[4];
  uint16_t* words;
};

}  // namespace
}  // namespace reprise::progressive

#endif  // __AVX2__
