// The lossless plane encoded with AVX2; scalar_tail.cc says what it computes.

#include <immintrin.h>

#include <bit>

#include "codec/progressive/avx2_kernels.h"
#include "codec/progressive/avx2_tail_words.h"
#include "codec/progressive/push_order.h"
#include "codec/progressive/scalar_rans.h"

namespace reprise::progressive {
namespace {

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
  [[gnu::always_inline]] inline Distances(const Origins& from, __m256i low_bits, __m256i value) {
    const __m256i magnitude = _mm256_and_si256(value, Words(0x7FFF));
    const __m256i order =
        _mm256_xor_si256(_mm256_subs_epu16(magnitude, from.floor), _mm256_srai_epi16(value, 15));
    const __m256i distance = _mm256_xor_si256(_mm256_sub_epi16(order, from.origin), from.sign);
    low = _mm256_and_si256(distance, from.low_mask());
    const __m256i zero = _mm256_setzero_si256();
    const __m256i counts = _mm256_add_epi16(low_bits, Words(16));
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

uint32_t Avx2SplitTail(const TailFormat& format, const TailCode& code, const uint16_t* guess,
                       const uint16_t* exact, uint32_t rows, TailBits* bits, uint8_t* escapes) {
  const Constants constants(format);
  const SymbolCodes codes(code);
  const __m256i powers = _mm256_broadcastsi128_si256(
      _mm_setr_epi8(1, 2, 4, 8, 16, 32, 64, -128, 0, 0, 0, 0, 0, 0, 0, 0));
  uint32_t escaped_count = 0;
  for (uint32_t i = 0; i < rows * kLanes; i += kLanes) {
    const uint16_t* steps = format.step_exponents.data() + i;
    const __m256i guess_a = Load256(guess + i);
    const __m256i guess_b = Load256(guess + i + 16);
    const Contexts a(constants, guess_a, Load256(steps));
    const Contexts b(constants, guess_b, Load256(steps + 16));
    const Origins from_a(constants, a.near, a.low_bits, guess_a, Load256(steps));
    const Origins from_b(constants, b.near, b.low_bits, guess_b, Load256(steps + 16));
    const Distances to_a(from_a, a.low_bits, Load256(exact + i));
    const Distances to_b(from_b, b.low_bits, Load256(exact + i + 16));
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
  PushTails<WriterLanes>(channels, streams, rows, push_row);
}

}  // namespace reprise::progressive
