// The entropy coder with AVX2; scalar_kernels.cc says what it computes. 32 lanes are four vectors
// of states, and what is looked up for them is bytes in one.

#include <immintrin.h>

#include "codec/progressive/avx2_kernels.h"
#include "codec/progressive/avx2_lanes.h"
#include "codec/progressive/push_order.h"

namespace reprise::progressive {
namespace {

// Lanes below the floor take the next words, in lane order.
[[gnu::always_inline]] inline __m256i RefillLanes(__m256i states, const uint16_t*& words) {
  const __m256i low = _mm256_min_epu32(states, _mm256_set1_epi32(kStateFloor - 1));
  const __m256i starved = _mm256_cmpeq_epi32(low, states);
  const auto bits = static_cast<uint32_t>(_mm256_movemask_ps(_mm256_castsi256_ps(starved)));
  const __m128i next = _mm_shuffle_epi8(Load128(words), Load128(ShuffleOf(kExpand, bits)));
  words += CountOf(bits);
  const __m256i sixteen = _mm256_and_si256(starved, _mm256_set1_epi32(16));
  return _mm256_or_si256(_mm256_sllv_epi32(states, sixteen), _mm256_cvtepu16_epi32(next));
}

// A row of each stream. Step by step side by side: a row alone is longer than what a processor
// looks ahead, and most of it waits.
template <uint32_t kCount>
struct Pop {
  explicit Pop(const SlotTable& slot_table, std::span<StreamReader> readers)
      : table(slot_table), streams(readers) {
    for (uint32_t s = 0; s < kCount; ++s) words[s] = streams[s].words;
  }
  void Save() const {
    for (uint32_t s = 0; s < kCount; ++s) streams[s].words = words[s];
  }
  [[gnu::always_inline]] inline void Rows(uint8_t* symbols) {
    __m256i slots[kCount];
    __m256i all[kCount];
    for (uint32_t s = 0; s < kCount; ++s) slots[s] = SlotsOf(streams[s].states.data());
    Find(table.symbol_changes.data(), slots, all);
    const __m256i in_order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    const __m256i frequency = Twice(table.frequency_of.data());
    const __m256i first = Twice(table.first_of.data());
    __m256i factor[kCount];
    __m256i bias[kCount];
    for (uint32_t s = 0; s < kCount; ++s) {
      Store256(symbols + s * kLanes, _mm256_permutevar8x32_epi32(all[s], in_order));
      factor[s] = _mm256_shuffle_epi8(frequency, all[s]);
      bias[s] = _mm256_sub_epi8(slots[s], _mm256_shuffle_epi8(first, all[s]));
    }
    for (uint32_t s = 0; s < kCount; ++s) Next<0>(factor[s], bias[s], s);
    for (uint32_t s = 0; s < kCount; ++s) Next<1>(factor[s], bias[s], s);
    for (uint32_t s = 0; s < kCount; ++s) Next<2>(factor[s], bias[s], s);
    for (uint32_t s = 0; s < kCount; ++s) Next<3>(factor[s], bias[s], s);
  }
  // Bytes of lanes 0 to 3, 8 to 11 and so on, then of 4 to 7, 12 to 15 and so on.
  [[gnu::always_inline]] static inline __m256i SlotsOf(const uint32_t* states) {
    const auto eight = [&](uint32_t at) {
      return _mm256_and_si256(Load256(states + at), _mm256_set1_epi32(kSlots - 1));
    };
    return _mm256_packus_epi16(_mm256_packus_epi32(eight(0), eight(8)),
                               _mm256_packus_epi32(eight(16), eight(24)));
  }
  template <uint32_t kVector>
  [[gnu::always_inline]] inline void Next(__m256i factor, __m256i bias, uint32_t s) {
    uint32_t* at = streams[s].states.data() + 8 * kVector;
    const __m256i product =
        _mm256_mullo_epi32(WidenBytes<kVector>(factor), _mm256_srli_epi32(Load256(at), kSlotBits));
    Store256(at, RefillLanes(_mm256_add_epi32(product, WidenBytes<kVector>(bias)), words[s]));
  }

  const SlotTable& table;
  std::span<StreamReader> streams;
  const uint16_t* words[kCount];
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

void Avx2DecodeSymbols(const SlotTable& table, std::span<StreamReader> streams, uint32_t rows,
                       uint8_t* symbols) {
  if (streams.size() == kStreams && rows % kStreams == 0) {
    Pop<kStreams> pop(table, streams);
    for (uint32_t row = 0; row < rows; row += kStreams) pop.Rows(symbols + row * kLanes);
    pop.Save();
    return;
  }
  for (size_t s = 0; s < streams.size(); ++s) {
    Pop<1> pop(table, streams.subspan(s, 1));
    for (size_t row = s; row < rows; row += streams.size()) pop.Rows(symbols + row * kLanes);
    pop.Save();
  }
}

void Avx2EncodeSymbols(std::span<const CodedSymbols> channels, std::span<StreamWriter> streams,
                       uint32_t rows) {
  PushSymbols<PushTable, WriterLanes>(channels, streams, rows);
}

}  // namespace reprise::progressive
