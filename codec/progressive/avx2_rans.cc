// The entropy coder with AVX2; scalar_kernels.cc says what it computes. 32 lanes are four vectors
// of states, and what is looked up for them is bytes in one.

#include <immintrin.h>

#include "codec/progressive/avx2_kernels.h"
#include "codec/progressive/avx2_lanes.h"

namespace reprise::progressive {
namespace {

// Lanes below the floor take the next words, in lane order.
[[gnu::always_inline]] inline __m256i RefillLanes(__m256i states, const uint16_t*& words) {
  const __m256i starved = _mm256_cmpeq_epi32(_mm256_srli_epi32(states, 16), _mm256_setzero_si256());
  const auto bits = static_cast<uint32_t>(_mm256_movemask_ps(_mm256_castsi256_ps(starved)));
  const __m128i next = _mm_shuffle_epi8(Load128(words), Load128(ShuffleOf(kExpand, bits)));
  words += CountOf(bits);
  const __m256i sixteen = _mm256_and_si256(starved, _mm256_set1_epi32(16));
  return _mm256_or_si256(_mm256_sllv_epi32(states, sixteen), _mm256_cvtepu16_epi32(next));
}

// Vector i has lanes 8 i to 8 i + 7.
struct Lanes {
  explicit Lanes(const StreamReader& stream) : words(stream.words) {
    for (uint32_t i = 0; i < 4; ++i) states[i] = Load256(stream.states.data() + 8 * i);
  }
  void Save(StreamReader& stream) const {
    for (uint32_t i = 0; i < 4; ++i) Store256(stream.states.data() + 8 * i, states[i]);
    stream.words = words;
  }

  __m256i states[4];
  const uint16_t* words;
};

struct PopTable {
  explicit PopTable(const SlotTable& table)
      : symbol(table.symbol.data()),
        frequency(Twice(table.frequency_of.data())),
        first(Twice(table.first_of.data())) {}

  [[gnu::always_inline]] inline void PopRow(Lanes& lanes, uint8_t* symbols) const {
    __m256i(&x)[4] = lanes.states;
    const __m256i mask = _mm256_set1_epi32(kSlots - 1);
    const __m256i low =
        _mm256_packus_epi32(_mm256_and_si256(x[0], mask), _mm256_and_si256(x[1], mask));
    const __m256i high =
        _mm256_packus_epi32(_mm256_and_si256(x[2], mask), _mm256_and_si256(x[3], mask));
    // Lanes 0 to 3, 8 to 11 and so on, then 4 to 7, 12 to 15 and so on.
    const __m256i slots = _mm256_packus_epi16(low, high);
    const __m256i all = symbol.At(slots);
    const __m256i in_order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    Store256(symbols, _mm256_permutevar8x32_epi32(all, in_order));
    const __m256i factor = _mm256_shuffle_epi8(frequency, all);
    const __m256i bias = _mm256_sub_epi8(slots, _mm256_shuffle_epi8(first, all));
    x[0] = Next(x[0], WidenBytes<0>(factor), WidenBytes<0>(bias), lanes.words);
    x[1] = Next(x[1], WidenBytes<1>(factor), WidenBytes<1>(bias), lanes.words);
    x[2] = Next(x[2], WidenBytes<2>(factor), WidenBytes<2>(bias), lanes.words);
    x[3] = Next(x[3], WidenBytes<3>(factor), WidenBytes<3>(bias), lanes.words);
  }
  [[gnu::always_inline]] static inline __m256i Next(__m256i states, __m256i factor, __m256i bias,
                                                    const uint16_t*& words) {
    const __m256i product = _mm256_mullo_epi32(factor, _mm256_srli_epi32(states, kSlotBits));
    return RefillLanes(_mm256_add_epi32(product, bias), words);
  }

  ByteTable symbol;
  __m256i frequency;
  __m256i first;
};

// The four bytes of 16 numbers, each for lookups by symbol.
struct BytePlanes {
  explicit BytePlanes(const std::array<uint32_t, 16>& numbers) {
    const __m128i by_byte = _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    __m128i fours[4];
    for (uint32_t i = 0; i < 4; ++i) {
      fours[i] = _mm_shuffle_epi8(Load128(numbers.data() + 4 * i), by_byte);
    }
    const __m128i a = _mm_unpacklo_epi32(fours[0], fours[1]);
    const __m128i b = _mm_unpacklo_epi32(fours[2], fours[3]);
    const __m128i c = _mm_unpackhi_epi32(fours[0], fours[1]);
    const __m128i d = _mm_unpackhi_epi32(fours[2], fours[3]);
    planes[0] = _mm256_broadcastsi128_si256(_mm_unpacklo_epi64(a, b));
    planes[1] = _mm256_broadcastsi128_si256(_mm_unpackhi_epi64(a, b));
    planes[2] = _mm256_broadcastsi128_si256(_mm_unpacklo_epi64(c, d));
    planes[3] = _mm256_broadcastsi128_si256(_mm_unpackhi_epi64(c, d));
  }

  __m256i planes[4];
};

// What 32 lanes push, by symbol.
struct PushTable {
  explicit PushTable(const SymbolTable& table)
      : reciprocal(table.reciprocal), packed(table.packed) {}

  [[gnu::always_inline]] inline void PushRow(const uint8_t* symbols, WriterLanes& lanes) const {
    __m256i(&x)[4] = lanes.states;
    const __m256i all = Load256(symbols);
    const __m256i complement = _mm256_shuffle_epi8(packed.planes[1], all);
    Spill(complement, lanes);
    const __m256i bias = _mm256_shuffle_epi8(packed.planes[0], all);
    const __m256i shift = _mm256_shuffle_epi8(packed.planes[2], all);
    const __m256i r0 = _mm256_shuffle_epi8(reciprocal.planes[0], all);
    const __m256i r1 = _mm256_shuffle_epi8(reciprocal.planes[1], all);
    const __m256i r2 = _mm256_shuffle_epi8(reciprocal.planes[2], all);
    const __m256i r3 = _mm256_shuffle_epi8(reciprocal.planes[3], all);
    const __m256i low = _mm256_unpacklo_epi8(r0, r1);
    const __m256i high = _mm256_unpacklo_epi8(r2, r3);
    const __m256i low_end = _mm256_unpackhi_epi8(r0, r1);
    const __m256i high_end = _mm256_unpackhi_epi8(r2, r3);
    const auto push = [](__m256i states, __m256i factor, __m256i shifts, __m256i addend,
                         __m256i multiplier) {
      const __m256i even = _mm256_srli_epi64(_mm256_mul_epu32(states, factor), 32);
      const __m256i odd =
          _mm256_mul_epu32(_mm256_srli_epi64(states, 32), _mm256_srli_epi64(factor, 32));
      const __m256i quotient = _mm256_srlv_epi32(_mm256_blend_epi32(even, odd, 0xAA), shifts);
      return _mm256_add_epi32(_mm256_add_epi32(states, addend),
                              _mm256_mullo_epi32(quotient, multiplier));
    };
    x[0] = push(x[0], _mm256_unpacklo_epi16(low, high), WidenBytes<0>(shift), WidenBytes<0>(bias),
                WidenBytes<0>(complement));
    x[1] = push(x[1], _mm256_unpackhi_epi16(low, high), WidenBytes<1>(shift), WidenBytes<1>(bias),
                WidenBytes<1>(complement));
    x[2] = push(x[2], _mm256_unpacklo_epi16(low_end, high_end), WidenBytes<2>(shift),
                WidenBytes<2>(bias), WidenBytes<2>(complement));
    x[3] = push(x[3], _mm256_unpackhi_epi16(low_end, high_end), WidenBytes<3>(shift),
                WidenBytes<3>(bias), WidenBytes<3>(complement));
  }
  // A lane has no room when state >> 25 is the frequency or more. Complements are kSlots minus it.
  [[gnu::always_inline]] static inline void Spill(__m256i complement, WriterLanes& lanes) {
    __m256i(&x)[4] = lanes.states;
    constexpr int kTop = 32 - static_cast<int>(kSlotBits);
    const __m256i low =
        _mm256_packs_epi32(_mm256_srli_epi32(x[0], kTop), _mm256_srli_epi32(x[1], kTop));
    const __m256i high =
        _mm256_packs_epi32(_mm256_srli_epi32(x[2], kTop), _mm256_srli_epi32(x[3], kTop));
    const __m256i top = _mm256_packus_epi16(low, high);
    // Has its highest bit where there is no room.
    const __m256i full = _mm256_add_epi8(top, complement);
    lanes.WriteWords(static_cast<uint32_t>(_mm256_movemask_epi8(full)));
    const __m256i shift =
        _mm256_and_si256(_mm256_srli_epi16(full, 3), _mm256_set1_epi8(kSlots >> 3));
    x[0] = _mm256_srlv_epi32(x[0], WidenBytes<0>(shift));
    x[1] = _mm256_srlv_epi32(x[1], WidenBytes<1>(shift));
    x[2] = _mm256_srlv_epi32(x[2], WidenBytes<2>(shift));
    x[3] = _mm256_srlv_epi32(x[3], WidenBytes<3>(shift));
  }

  BytePlanes reciprocal;
  BytePlanes packed;
};

}  // namespace

void Avx2DecodeSymbols(const SlotTable& slots, std::span<StreamReader> streams, uint32_t rows,
                       uint8_t* symbols) {
  const PopTable table(slots);
  if (streams.size() == 1) {
    Lanes lanes(streams[0]);
    for (uint32_t row = 0; row < rows; ++row) table.PopRow(lanes, symbols + row * kLanes);
    lanes.Save(streams[0]);
    return;
  }
  if (streams.size() != kStreams || rows != kTileRows) {
    for (uint32_t row = 0; row < rows; ++row) {
      StreamReader& stream = streams[row % streams.size()];
      Lanes lanes(stream);
      table.PopRow(lanes, symbols + row * kLanes);
      lanes.Save(stream);
    }
    return;
  }
  Lanes s0(streams[0]);
  Lanes s1(streams[1]);
  Lanes s2(streams[2]);
  Lanes s3(streams[3]);
  for (uint32_t row = 0; row < kTileRows; row += kStreams) {
    uint8_t* out = symbols + row * kLanes;
    table.PopRow(s0, out);
    table.PopRow(s1, out + kLanes);
    table.PopRow(s2, out + 2 * kLanes);
    table.PopRow(s3, out + 3 * kLanes);
  }
  s0.Save(streams[0]);
  s1.Save(streams[1]);
  s2.Save(streams[2]);
  s3.Save(streams[3]);
}

void Avx2EncodeSymbols(std::span<const CodedSymbols> channels, std::span<StreamWriter> streams,
                       uint32_t rows) {
  if (streams.size() != kStreams || rows % kStreams != 0) {
    for (size_t channel = channels.size(); channel-- > 0;) {
      const PushTable table(*channels[channel].table);
      for (uint32_t row = rows; row-- > 0;) {
        StreamWriter& stream = streams[row % streams.size()];
        WriterLanes lanes(stream);
        table.PushRow(channels[channel].symbols + row * kLanes, lanes);
        lanes.Save(stream);
      }
    }
    return;
  }
  WriterLanes s0(streams[0]);
  WriterLanes s1(streams[1]);
  WriterLanes s2(streams[2]);
  WriterLanes s3(streams[3]);
  for (size_t channel = channels.size(); channel-- > 0;) {
    const PushTable table(*channels[channel].table);
    for (uint32_t row = rows; row > 0; row -= kStreams) {
      const uint8_t* symbols = channels[channel].symbols + (row - kStreams) * kLanes;
      table.PushRow(symbols + 3 * kLanes, s3);
      table.PushRow(symbols + 2 * kLanes, s2);
      table.PushRow(symbols + kLanes, s1);
      table.PushRow(symbols, s0);
    }
  }
  s0.Save(streams[0]);
  s1.Save(streams[1]);
  s2.Save(streams[2]);
  s3.Save(streams[3]);
}

}  // namespace reprise::progressive
