// The lossless plane with AVX2, a row of 32 values at a time, 16 bits each in two vectors;
// scalar_tail.cc says what it computes. Bytes of a row lie as packing leaves them: values 0 to 7,
// 16 to 23, 8 to 15, 24 to 31.

#include <immintrin.h>

#include "codec/progressive/avx2_kernels.h"
#include "codec/progressive/avx2_lanes.h"
#include "codec/progressive/scalar_rans.h"

namespace reprise::progressive {
namespace {

__m256i Words(int value) { return _mm256_set1_epi16(static_cast<int16_t>(value)); }
__m256i Bytes(int value) { return _mm256_set1_epi8(static_cast<char>(value)); }

// Bits of bytes as packing leaves them, in the order of the values.
uint32_t InOrder(uint32_t packed) {
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
__m256i PowersOfTwo(__m256i words) {
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

// What 16 guesses say before anything is decoded.
struct Guess {
  [[gnu::always_inline]] inline Guess(const Constants& constants, __m256i bits, __m256i steps) {
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
    const __m256i lowest = _mm256_subs_epu16(steps, Words(static_cast<int>(kTailOctaves)));
    floor = _mm256_sll_epi16(lowest, constants.mantissa_count);
    sign = _mm256_srai_epi16(bits, 15);
    const __m256i order = _mm256_xor_si256(_mm256_subs_epu16(magnitude, floor), sign);
    origin = _mm256_andnot_si256(near, order);
    unit = PowersOfTwo(low_bits);
  }
  __m256i low_mask() const { return _mm256_sub_epi16(unit, Words(1)); }

  // Contexts: all ones where it is kTailNear; kTailHalf or kTailWhole; kTailWhole.
  __m256i near;
  __m256i coarse;
  __m256i whole;
  __m256i low_bits;
  __m256i floor;
  __m256i sign;
  __m256i origin;
  __m256i unit;  // 2^low_bits
};

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
  [[gnu::always_inline]] inline void Shift(__m256i counts) {
    const __m256i zero = _mm256_setzero_si256();
    Set(_mm256_srlv_epi32(even(), _mm256_unpacklo_epi16(counts, zero)),
        _mm256_srlv_epi32(odd(), _mm256_unpackhi_epi16(counts, zero)));
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
  [[gnu::always_inline]] inline void Take(__m256i first_counts, __m256i last_counts) {
    first.Shift(first_counts);
    last.Shift(last_counts);
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
        fine(code.by_slot_packed.data() + kTailNear * kTailSlots),
        coarse(code.by_slot_packed.data() + kTailHalf * kTailSlots) {}

  // `second`: the context is the table's second, else its first.
  [[gnu::always_inline]] static inline __m256i Slots(__m256i next, __m256i second) {
    return _mm256_or_si256(_mm256_and_si256(next, Words(kTailSlots - 1)),
                           _mm256_and_si256(second, Words(kTailSlots)));
  }
  [[gnu::always_inline]] inline __m256i Codes(const Guess& a, const Guess& b, __m256i next_a,
                                              __m256i next_b) const {
    const __m256i ones = Words(-1);
    const __m256i far_a = _mm256_xor_si256(a.near, ones);
    const __m256i far_b = _mm256_xor_si256(b.near, ones);
    const __m256i codes = fine.At(_mm256_packus_epi16(Slots(next_a, far_a), Slots(next_b, far_b)));
    const __m256i others = _mm256_packs_epi16(a.coarse, b.coarse);
    if (_mm256_testz_si256(others, others) != 0) return codes;
    const __m256i other_codes =
        coarse.At(_mm256_packus_epi16(Slots(next_a, a.whole), Slots(next_b, b.whole)));
    return _mm256_blendv_epi8(codes, other_codes, others);
  }
  // `rest`: what follows the symbol.
  [[gnu::always_inline]] static inline __m256i Exact(const Guess& guess, __m256i symbols,
                                                     __m256i rest) {
    const __m256i low = _mm256_and_si256(rest, guess.low_mask());
    const __m256i units = _mm256_sub_epi16(symbols, Words(kTailOffset));
    const __m256i distance = _mm256_add_epi16(_mm256_mullo_epi16(units, guess.unit), low);
    const __m256i order = _mm256_add_epi16(guess.origin, _mm256_xor_si256(distance, guess.sign));
    const __m256i negative = _mm256_srai_epi16(order, 15);
    const __m256i magnitude = _mm256_and_si256(
        _mm256_add_epi16(_mm256_xor_si256(order, negative), guess.floor), Words(0x7FFF));
    return _mm256_or_si256(magnitude, _mm256_and_si256(negative, Words(0x8000)));
  }
  // 32 values in place; returns which of them are escaped.
  [[gnu::always_inline]] inline uint32_t Row(const uint16_t* steps, uint16_t* values,
                                             TailLanes& lanes) const {
    const Guess a(constants, Load256(values), Load256(steps));
    const Guess b(constants, Load256(values + 16), Load256(steps + 16));
    const __m256i next_a = lanes.first.low;
    const __m256i next_b = lanes.last.low;
    const __m256i codes = Codes(a, b, next_a, next_b);
    const __m256i symbol_bytes = _mm256_and_si256(codes, Bytes(15));
    const __m256i length_bytes = _mm256_and_si256(_mm256_srli_epi16(codes, 4), Bytes(15));
    const Widened lengths(length_bytes);
    lanes.Take(_mm256_add_epi16(lengths.first, a.low_bits),
               _mm256_add_epi16(lengths.last, b.low_bits));
    // next >> length is the upper half of next * 2^(16 - length). A length of 0 gives 0, but then
    // there are no low bits: only kTailWhole has a code of no bits.
    const __m256i powers = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(0, -128, 64, 32, 16, 8, 4, 2, 1, 0, 0, 0, 0, 0, 0, 0));
    const __m256i power_bytes = _mm256_shuffle_epi8(powers, length_bytes);
    const __m256i zero = _mm256_setzero_si256();
    const __m256i rest_a = _mm256_mulhi_epu16(next_a, _mm256_unpacklo_epi8(zero, power_bytes));
    const __m256i rest_b = _mm256_mulhi_epu16(next_b, _mm256_unpackhi_epi8(zero, power_bytes));
    const Widened symbols(symbol_bytes);
    Store256(values, Exact(a, symbols.first, rest_a));
    Store256(values + 16, Exact(b, symbols.last, rest_b));
    return static_cast<uint32_t>(
        _mm256_movemask_epi8(_mm256_cmpeq_epi8(symbol_bytes, Bytes(kTailEscape))));
  }

  Constants constants;
  ByteTable fine;    // near and fine
  ByteTable coarse;  // half and whole
};

// The codes by context * kTailSymbols + symbol, 32 at a time.
struct SymbolCodes {
  explicit SymbolCodes(const TailCode& code) {
    for (uint32_t context = 0; context < kTailContexts; ++context) {
      const uint16_t* symbols = code.by_symbol.data() + context * kTailSymbols;
      const __m256i all = Load256(symbols);
      const __m256i escape = _mm256_cmpeq_epi16(all, Words(symbols[kTailEscape]));
      const __m256i upper =
          _mm256_or_si256(_mm256_srli_epi16(all, 8), _mm256_and_si256(escape, Words(kEscaped)));
      const __m256i both = _mm256_packus_epi16(_mm256_and_si256(all, Words(0xFF)), upper);
      const __m256i in_order = _mm256_permute4x64_epi64(both, 0xD8);
      bits[context] = _mm256_permute2x128_si256(in_order, in_order, 0x00);
      lengths[context] = _mm256_permute2x128_si256(in_order, in_order, 0x11);
    }
  }
  [[gnu::always_inline]] static inline __m256i At(const __m256i (&tables)[kTailContexts],
                                                  __m256i symbols, __m256i far, __m256i coarse,
                                                  __m256i whole) {
    const __m256i near_or_fine = _mm256_blendv_epi8(_mm256_shuffle_epi8(tables[0], symbols),
                                                    _mm256_shuffle_epi8(tables[1], symbols), far);
    const __m256i half_or_whole = _mm256_blendv_epi8(
        _mm256_shuffle_epi8(tables[2], symbols), _mm256_shuffle_epi8(tables[3], symbols), whole);
    return _mm256_blendv_epi8(near_or_fine, half_or_whole, coarse);
  }

  // In a length, besides it. A symbol without a code has all bits.
  static constexpr int kEscaped = 0x40;
  __m256i bits[kTailContexts];
  __m256i lengths[kTailContexts];
};

// How 16 values lie to their guesses.
struct Distances {
  [[gnu::always_inline]] inline Distances(const Guess& from, __m256i value) {
    const __m256i magnitude = _mm256_and_si256(value, Words(0x7FFF));
    const __m256i order =
        _mm256_xor_si256(_mm256_subs_epu16(magnitude, from.floor), _mm256_srai_epi16(value, 15));
    const __m256i distance = _mm256_xor_si256(_mm256_sub_epi16(order, from.origin), from.sign);
    low = _mm256_and_si256(distance, from.low_mask());
    const __m256i zero = _mm256_setzero_si256();
    const __m256i counts = _mm256_add_epi16(from.low_bits, Words(16));
    const __m256i units =
        _mm256_packs_epi32(_mm256_srav_epi32(_mm256_unpacklo_epi16(zero, distance),
                                             _mm256_unpacklo_epi16(counts, zero)),
                           _mm256_srav_epi32(_mm256_unpackhi_epi16(zero, distance),
                                             _mm256_unpackhi_epi16(counts, zero)));
    const __m256i symbol = _mm256_add_epi16(units, Words(kTailOffset));
    const __m256i within = _mm256_cmpeq_epi16(_mm256_max_epu16(magnitude, from.floor), magnitude);
    // All ones, and thereby the escape, where it is too small; what is too large becomes it.
    const __m256i known = _mm256_or_si256(symbol, _mm256_xor_si256(within, Words(-1)));
    symbols = _mm256_min_epu16(known, Words(kTailEscape));
  }

  __m256i symbols;
  __m256i low;
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
    TailLanes even(streams[0]);
    TailLanes odd(streams[1]);
    for (uint32_t at = 0; at < rows * kLanes; at += 2 * kLanes) {
      const uint32_t first = decoder.Row(steps + at, guess + at, even);
      const uint32_t second = decoder.Row(steps + at + kLanes, guess + at + kLanes, odd);
      if ((first | second) == 0) continue;
      if (!take_escapes(first, guess + at) || !take_escapes(second, guess + at + kLanes)) {
        return escape_count + 1;
      }
    }
    even.Save(streams[0]);
    odd.Save(streams[1]);
    return used;
  }
  for (uint32_t row = 0; row < rows; ++row) {
    StreamReader& stream = streams[row % streams.size()];
    TailLanes lanes(stream);
    uint16_t* values = guess + row * kLanes;
    const uint32_t escaped = decoder.Row(steps + row * kLanes, values, lanes);
    lanes.Save(stream);
    if (!take_escapes(escaped, values)) return escape_count + 1;
  }
  return used;
}

uint32_t Avx2SplitTail(const TailFormat& format, const TailCode& code, const uint16_t* guess,
                       const uint16_t* exact, uint32_t rows, TailBits* bits, uint8_t* escapes) {
  const Constants constants(format);
  const SymbolCodes codes(code);
  const __m256i powers = _mm256_broadcastsi128_si256(
      _mm_setr_epi8(1, 2, 4, 8, 16, 32, 64, -128, 0, 0, 0, 0, 0, 0, 0, 0));
  uint32_t escaped_count = 0;
  for (uint32_t i = 0; i < rows * kLanes; i += kLanes) {
    const uint16_t* steps = format.step_exponents.data() + i;
    const Guess a(constants, Load256(guess + i), Load256(steps));
    const Guess b(constants, Load256(guess + i + 16), Load256(steps + 16));
    const Distances to_a(a, Load256(exact + i));
    const Distances to_b(b, Load256(exact + i + 16));
    const __m256i symbols = _mm256_packus_epi16(to_a.symbols, to_b.symbols);
    const __m256i near = _mm256_packs_epi16(a.near, b.near);
    const __m256i far = _mm256_xor_si256(near, Bytes(-1));
    const __m256i coarse = _mm256_packs_epi16(a.coarse, b.coarse);
    const __m256i whole = _mm256_packs_epi16(a.whole, b.whole);
    const __m256i flagged = SymbolCodes::At(codes.lengths, symbols, far, coarse, whole);
    // Only what has no code has the highest bit.
    if (_mm256_movemask_epi8(flagged) != 0) return kUncodable;
    const __m256i length_bytes = _mm256_and_si256(flagged, Bytes(15));
    const __m256i is_escape = _mm256_and_si256(flagged, Bytes(SymbolCodes::kEscaped));
    const __m256i kept = _mm256_cmpeq_epi8(is_escape, _mm256_setzero_si256());
    const Widened own(SymbolCodes::At(codes.bits, symbols, far, coarse, whole));
    const Widened factors(_mm256_shuffle_epi8(powers, length_bytes));
    const __m256i low_a = _mm256_and_si256(to_a.low, _mm256_unpacklo_epi8(kept, kept));
    const __m256i low_b = _mm256_and_si256(to_b.low, _mm256_unpackhi_epi8(kept, kept));
    Store256(bits->bits.data() + i,
             _mm256_or_si256(_mm256_mullo_epi16(low_a, factors.first), own.first));
    Store256(bits->bits.data() + i + 16,
             _mm256_or_si256(_mm256_mullo_epi16(low_b, factors.last), own.last));
    const __m256i low_bits = _mm256_packus_epi16(a.low_bits, b.low_bits);
    Store256(bits->lengths.data() + i,
             _mm256_permute4x64_epi64(_mm256_add_epi8(length_bytes, low_bits), 0xD8));
    uint32_t escaped = ~static_cast<uint32_t>(_mm256_movemask_epi8(kept));
    for (escaped = InOrder(escaped); escaped != 0; escaped &= escaped - 1) {
      StoreWord(escapes, escaped_count++,
                exact[i + static_cast<uint32_t>(std::countr_zero(escaped))]);
    }
  }
  return escaped_count;
}

void Avx2EncodeTail(std::span<const TailBits> channels, std::span<StreamWriter> streams,
                    uint32_t rows) {
  const auto push_row = [](const TailBits& tail, uint32_t row, WriterLanes& lanes) {
    __m256i(&x)[4] = lanes.states;
    const __m256i zero = _mm256_setzero_si256();
    const __m256i lengths = Load256(tail.lengths.data() + row * kLanes);
    const __m256i counts[4] = {WidenBytes<0>(lengths), WidenBytes<1>(lengths),
                               WidenBytes<2>(lengths), WidenBytes<3>(lengths)};
    __m256i room[4];
    for (uint32_t i = 0; i < 4; ++i) {
      const __m256i top = _mm256_sub_epi32(_mm256_set1_epi32(32), counts[i]);
      room[i] = _mm256_cmpeq_epi32(_mm256_srlv_epi32(x[i], top), zero);
    }
    const __m256i all_room = _mm256_packs_epi16(_mm256_packs_epi32(room[0], room[1]),
                                                _mm256_packs_epi32(room[2], room[3]));
    lanes.WriteWords(~static_cast<uint32_t>(_mm256_movemask_epi8(all_room)));
    const uint16_t* words = tail.bits.data() + row * kLanes;
    const __m256i low = LoadHalves(words, words + 16);
    const __m256i high = LoadHalves(words + 8, words + 24);
    const __m256i bits[4] = {_mm256_unpacklo_epi16(low, zero), _mm256_unpackhi_epi16(low, zero),
                             _mm256_unpacklo_epi16(high, zero), _mm256_unpackhi_epi16(high, zero)};
    for (uint32_t i = 0; i < 4; ++i) {
      const __m256i sixteen = _mm256_andnot_si256(room[i], _mm256_set1_epi32(16));
      const __m256i rest = _mm256_srlv_epi32(x[i], sixteen);
      x[i] = _mm256_or_si256(_mm256_sllv_epi32(rest, counts[i]), bits[i]);
    }
  };
  if (streams.size() == 2 && rows % 2 == 0) {
    WriterLanes even(streams[0]);
    WriterLanes odd(streams[1]);
    for (size_t channel = channels.size(); channel-- > 0;) {
      for (uint32_t row = rows; row > 0; row -= 2) {
        push_row(channels[channel], row - 1, odd);
        push_row(channels[channel], row - 2, even);
      }
    }
    even.Save(streams[0]);
    odd.Save(streams[1]);
    return;
  }
  for (size_t channel = channels.size(); channel-- > 0;) {
    for (uint32_t row = rows; row-- > 0;) {
      WriterLanes lanes(streams[row % streams.size()]);
      push_row(channels[channel], row, lanes);
      lanes.Save(streams[row % streams.size()]);
    }
  }
}

}  // namespace reprise::progressive
