// The lossless plane decoded with AVX2; scalar_tail.cc says what it computes.

#include <immintrin.h>

#include <bit>

#include "codec/progressive/avx2_kernels.h"
#include "codec/progressive/avx2_tail_words.h"
#include "codec/progressive/scalar_rans.h"

namespace reprise::progressive {
namespace {

// 16 states, their upper and lower halves.
struct SplitStates {
  explicit SplitStates(const uint32_t* states) {
    const __m256i a = LoadHalves(states, states + 8);
    const __m256i b = LoadHalves(states + 4, states + 12);
    Set(a, b);
  }
  void Save(uint32_t* states) const {
    const __m256i a = even();
    const __m256i b = odd();
    Store256(states, _mm256_permute2x128_si256(a, b, 0x20));
    Store256(states + 8, _mm256_permute2x128_si256(a, b, 0x31));
  }
  // Lanes 0 to 3 and 8 to 11; the others.
  __m256i even() const { return _mm256_unpacklo_epi16(low, high); }
  __m256i odd() const { return _mm256_unpackhi_epi16(low, high); }
  [[gnu::always_inline]] inline void Set(__m256i a, __m256i b) {
    const __m256i word = _mm256_set1_epi32(0xFFFF);
    low = _mm256_packus_epi32(_mm256_and_si256(a, word), _mm256_and_si256(b, word));
    high = _mm256_packus_epi32(_mm256_srli_epi32(a, 16), _mm256_srli_epi32(b, 16));
  }
  __m256i starved() const { return _mm256_cmpeq_epi16(high, _mm256_setzero_si256()); }
  // `first`, `last`: which of lanes 0 to 7 and 8 to 15 are starved.
  [[gnu::always_inline]] inline void Refill(__m256i which, uint32_t first, uint32_t last,
                                            const uint16_t*& words) {
    const uint16_t* rest = words + CountOf(first);
    const __m256i next = _mm256_shuffle_epi8(
        LoadHalves(words, rest), LoadHalves(ShuffleOf(kExpand, first), ShuffleOf(kExpand, last)));
    words = rest + CountOf(last);
    high = _mm256_or_si256(high, _mm256_and_si256(low, which));
    low = _mm256_or_si256(_mm256_andnot_si256(which, low), next);
  }

  __m256i low;
  __m256i high;
};

struct TailLanes {
  explicit TailLanes(const StreamReader& stream)
      : first(stream.states.data()), last(stream.states.data() + 16), words(stream.words) {}
  void Save(StreamReader& stream) const {
    first.Save(stream.states.data());
    last.Save(stream.states.data() + 16);
    stream.words = words;
  }
  [[gnu::always_inline]] inline void Shift(__m256i count_bytes) {
    first.Set(_mm256_srlv_epi32(first.even(), WidenBytes<0>(count_bytes)),
              _mm256_srlv_epi32(first.odd(), WidenBytes<1>(count_bytes)));
    last.Set(_mm256_srlv_epi32(last.even(), WidenBytes<2>(count_bytes)),
             _mm256_srlv_epi32(last.odd(), WidenBytes<3>(count_bytes)));
  }
  [[gnu::always_inline]] inline void Refill() {
    const __m256i a = first.starved();
    const __m256i b = last.starved();
    const auto bits = static_cast<uint32_t>(_mm256_movemask_epi8(_mm256_packs_epi16(a, b)));
    first.Refill(a, bits & 0xFF, bits >> 16 & 0xFF, words);
    last.Refill(b, bits >> 8 & 0xFF, bits >> 24, words);
  }

  SplitStates first;
  SplitStates last;
  const uint16_t* words;
};

struct Decoder {
  Decoder(const TailFormat& format, const TailCode& code)
      : constants(format),
        fine(code.changes_by_slot.data() + kTailNear * kTailSlots),
        coarse(code.changes_by_slot.data() + kTailHalf * kTailSlots) {}

  // `rest`: what follows the symbol.
  [[gnu::always_inline]] static inline __m256i Exact(const Origins& from, __m256i symbols,
                                                     __m256i rest) {
    const __m256i low = _mm256_and_si256(rest, from.low_mask());
    const __m256i units = _mm256_sub_epi16(symbols, Words(kTailOffset));
    const __m256i distance = _mm256_add_epi16(_mm256_mullo_epi16(units, from.unit), low);
    const __m256i order = _mm256_add_epi16(from.origin, _mm256_xor_si256(distance, from.sign));
    const __m256i negative = _mm256_srai_epi16(order, 15);
    const __m256i magnitude = _mm256_and_si256(
        _mm256_add_epi16(_mm256_xor_si256(order, negative), from.floor), Words(0x7FFF));
    return _mm256_or_si256(magnitude, _mm256_and_si256(negative, Words(0x8000)));
  }
  // A row of 32 values of each stream, in place; says which of them are escaped. Step by step side
  // by side, as each waits for its own.
  template <uint32_t kCount>
  [[gnu::always_inline]] inline void Rows(const uint16_t* steps, uint16_t* values,
                                          TailLanes (&lanes)[kCount],
                                          uint32_t (&escaped)[kCount]) const {
    __m256i near[kCount];
    __m256i others[kCount];
    __m256i whole[kCount];
    __m256i low_bits[kCount];
    __m256i any_other = _mm256_setzero_si256();
    for (uint32_t s = 0; s < kCount; ++s) {
      const uint32_t at = s * kLanes;
      const Contexts a(constants, Load256(values + at), Load256(steps + at));
      const Contexts b(constants, Load256(values + at + 16), Load256(steps + at + 16));
      near[s] = _mm256_packs_epi16(a.near, b.near);
      others[s] = _mm256_packs_epi16(a.coarse, b.coarse);
      whole[s] = _mm256_packs_epi16(a.whole, b.whole);
      low_bits[s] = _mm256_packus_epi16(a.low_bits, b.low_bits);
      any_other = _mm256_or_si256(any_other, others[s]);
    }
    const __m256i second = Bytes(kTailSlots);
    __m256i next[kCount][2];
    __m256i slots[kCount];
    __m256i indices[kCount];
    __m256i codes[kCount];
    for (uint32_t s = 0; s < kCount; ++s) {
      next[s][0] = lanes[s].first.low;
      next[s][1] = lanes[s].last.low;
      const __m256i mask = Words(kTailSlots - 1);
      slots[s] = _mm256_packus_epi16(_mm256_and_si256(next[s][0], mask),
                                     _mm256_and_si256(next[s][1], mask));
      indices[s] = _mm256_or_si256(slots[s], _mm256_andnot_si256(near[s], second));
    }
    Find(fine, indices, codes);
    if (_mm256_testz_si256(any_other, any_other) == 0) {
      __m256i other_codes[kCount];
      for (uint32_t s = 0; s < kCount; ++s) {
        indices[s] = _mm256_or_si256(slots[s], _mm256_and_si256(whole[s], second));
      }
      Find(coarse, indices, other_codes);
      for (uint32_t s = 0; s < kCount; ++s) {
        codes[s] = _mm256_blendv_epi8(codes[s], other_codes[s], others[s]);
      }
    }
    __m256i lengths[kCount];
    for (uint32_t s = 0; s < kCount; ++s) {
      lengths[s] = _mm256_and_si256(_mm256_srli_epi16(codes[s], 4), Bytes(15));
      lanes[s].Shift(_mm256_add_epi8(lengths[s], low_bits[s]));
    }
    for (uint32_t s = 0; s < kCount; ++s) lanes[s].Refill();
    // next >> length is the upper half of next * 2^(16 - length). A length of 0 gives 0, but then
    // there are no low bits: only kTailWhole has a code of no bits.
    const __m256i powers = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(0, -128, 64, 32, 16, 8, 4, 2, 1, 0, 0, 0, 0, 0, 0, 0));
    const __m256i zero = _mm256_setzero_si256();
    for (uint32_t s = 0; s < kCount; ++s) {
      const __m256i power_bytes = _mm256_shuffle_epi8(powers, lengths[s]);
      const __m256i rest_a =
          _mm256_mulhi_epu16(next[s][0], _mm256_unpacklo_epi8(zero, power_bytes));
      const __m256i rest_b =
          _mm256_mulhi_epu16(next[s][1], _mm256_unpackhi_epi8(zero, power_bytes));
      const __m256i symbol_bytes = _mm256_and_si256(codes[s], Bytes(15));
      escaped[s] = static_cast<uint32_t>(
          _mm256_movemask_epi8(_mm256_cmpeq_epi8(symbol_bytes, Bytes(kTailEscape))));
      const Widened symbols(symbol_bytes);
      const Widened all_low_bits(low_bits[s]);
      const auto finish = [&](uint32_t at, __m256i is_near, __m256i bits, __m256i symbol,
                              __m256i rest) {
        const Origins from(constants, is_near, bits, Load256(values + at), Load256(steps + at));
        Store256(values + at, Exact(from, symbol, rest));
      };
      finish(s * kLanes, _mm256_unpacklo_epi8(near[s], near[s]), all_low_bits.first, symbols.first,
             rest_a);
      finish(s * kLanes + 16, _mm256_unpackhi_epi8(near[s], near[s]), all_low_bits.last,
             symbols.last, rest_b);
    }
  }

  Constants constants;
  const uint8_t* fine;    // near and fine
  const uint8_t* coarse;  // half and whole
};

}  // namespace

uint32_t Avx2DecodeTail(const TailFormat& format, const TailCode& code,
                        std::span<StreamReader> streams, const uint8_t* escapes,
                        uint32_t escape_count, uint32_t rows, uint16_t* guess) {
  const Decoder decoder(format, code);
  const uint16_t* steps = format.step_exponents.data();
  uint32_t used = 0;
  const auto take_escapes = [&](uint32_t escaped, uint16_t* values) {
    for (escaped = InOrder(escaped); escaped != 0; escaped &= escaped - 1) {
      if (used == escape_count) return false;
      values[std::countr_zero(escaped)] = LoadWord(escapes, used++);
    }
    return true;
  };
  if (streams.size() == 2 && rows % 2 == 0) {
    TailLanes lanes[] = {TailLanes(streams[0]), TailLanes(streams[1])};
    for (uint32_t at = 0; at < rows * kLanes; at += 2 * kLanes) {
      uint32_t escaped[2];
      decoder.Rows(steps + at, guess + at, lanes, escaped);
      if ((escaped[0] | escaped[1]) == 0) continue;
      if (!take_escapes(escaped[0], guess + at) || !take_escapes(escaped[1], guess + at + kLanes)) {
        return escape_count + 1;
      }
    }
    lanes[0].Save(streams[0]);
    lanes[1].Save(streams[1]);
    return used;
  }
  for (uint32_t row = 0; row < rows; ++row) {
    StreamReader& stream = streams[row % streams.size()];
    TailLanes lanes[] = {TailLanes(stream)};
    uint32_t escaped[1];
    decoder.Rows(steps + row * kLanes, guess + row * kLanes, lanes, escaped);
    lanes[0].Save(stream);
    if (!take_escapes(escaped[0], guess + row * kLanes)) return escape_count + 1;
  }
  return used;
}

}  // namespace reprise::progressive
