// The lossless plane with AVX-512; scalar_tail.cc says what it computes.

#include <immintrin.h>

#include <bit>
#include <cstring>

#include "codec/progressive/avx512_kernels.h"
#include "codec/progressive/avx512_lanes.h"
#include "codec/progressive/scalar_rans.h"
#include "codec/progressive/tail.h"

namespace reprise::progressive {
namespace {

__m512i LoadWide(const uint16_t* values) {
  return _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(values)));
}

__m512i LoadBytes(const uint8_t* values) {
  return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(values)));
}

__m512i LowBits(uint32_t mantissa_bits, __m512i contexts) {
  const __m512i zero = _mm512_setzero_si512();
  const __m512i mantissa = _mm512_set1_epi32(static_cast<int32_t>(mantissa_bits));
  const __mmask16 far = _mm512_cmpneq_epi32_mask(contexts, zero);
  const __m512i taken = _mm512_maskz_add_epi32(far, contexts, _mm512_set1_epi32(1));
  return _mm512_max_epi32(_mm512_sub_epi32(mantissa, taken), zero);
}

// What 16 guesses say before anything is decoded.
struct Guess {
  Guess(const TailFormat& format, const uint16_t* values, const uint16_t* step_exponents) {
    const __m512i zero = _mm512_setzero_si512();
    const __m512i mantissa = _mm512_set1_epi32(static_cast<int32_t>(format.mantissa_bits));
    const __m512i bits = LoadWide(values);
    const __m512i steps = LoadWide(step_exponents);
    const __m512i magnitude = _mm512_and_si512(bits, _mm512_set1_epi32(0x7FFF));
    const __m512i above = _mm512_sub_epi32(_mm512_srlv_epi32(magnitude, mantissa), steps);
    const __m512i limited =
        _mm512_min_epi32(above, _mm512_set1_epi32(static_cast<int32_t>(kTailContexts) - 2));
    context = _mm512_max_epi32(_mm512_add_epi32(limited, _mm512_set1_epi32(1)), zero);
    low_bits = LowBits(format.mantissa_bits, context);
    const __m512i octaves = _mm512_set1_epi32(static_cast<int32_t>(kTailOctaves));
    floor = _mm512_sllv_epi32(_mm512_max_epi32(_mm512_sub_epi32(steps, octaves), zero), mantissa);
    // All ones where the guess is negative.
    sign = _mm512_srai_epi32(_mm512_slli_epi32(bits, 16), 31);
    const __m512i folded = _mm512_sub_epi32(_mm512_max_epi32(magnitude, floor), floor);
    const __mmask16 far = _mm512_cmpneq_epi32_mask(context, zero);
    origin = _mm512_maskz_xor_epi32(far, folded, sign);
  }

  __m512i context;
  __m512i low_bits;
  __m512i floor;
  __m512i sign;
  __m512i origin;
};

// The symbols of 16 lanes; returns the escaped ones.
__mmask16 PopSymbols(const Guess& guess, const uint32_t* packed, __m512i& states,
                     __m512i& symbols) {
  const __m512i slot = _mm512_and_si512(states, _mm512_set1_epi32(kSlots - 1));
  const __m512i index = _mm512_or_si512(_mm512_slli_epi32(guess.context, kSlotBits), slot);
  const __m512i entry = _mm512_i32gather_epi32(index, packed, 4);
  const __m512i byte = _mm512_set1_epi32(0xFF);
  symbols = _mm512_and_si512(entry, byte);
  states = PopLanes(states, _mm512_and_si512(_mm512_srli_epi32(entry, 8), byte),
                    _mm512_srli_epi32(entry, 16));
  return _mm512_cmpeq_epi32_mask(symbols, _mm512_set1_epi32(kTailEscape));
}

// The values, from symbols and raw bits.
__m512i ValuesOf(const Guess& guess, __m512i symbols, __m512i low) {
  const __m512i units = _mm512_sub_epi32(symbols, _mm512_set1_epi32(kTailOffset));
  const __m512i distance = _mm512_or_si512(_mm512_sllv_epi32(units, guess.low_bits), low);
  const __m512i order = _mm512_add_epi32(guess.origin, _mm512_xor_si512(distance, guess.sign));
  const __m512i negative = _mm512_srai_epi32(order, 31);
  const __m512i magnitude = _mm512_and_si512(
      _mm512_add_epi32(_mm512_xor_si512(order, negative), guess.floor), _mm512_set1_epi32(0x7FFF));
  return _mm512_or_si512(magnitude, _mm512_and_si512(negative, _mm512_set1_epi32(0x8000)));
}

__m512i TakeLow(const Guess& guess, __m512i& states) {
  const __m512i one = _mm512_set1_epi32(1);
  const __m512i mask = _mm512_sub_epi32(_mm512_sllv_epi32(one, guess.low_bits), one);
  const __m512i low = _mm512_and_si512(states, mask);
  states = _mm512_srlv_epi32(states, guess.low_bits);
  return low;
}

void Store16(uint16_t* values, __m512i wide) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(values), _mm512_cvtepi32_epi16(wide));
}

}  // namespace

uint32_t Avx512DecodeTail(const TailFormat& format, const TailTables& tables,
                          std::span<StreamReader> streams, const uint8_t* escapes,
                          uint32_t escape_count, uint32_t rows, uint16_t* guess) {
  uint32_t used = 0;
  for (uint32_t row = 0; row < rows; ++row) {
    StreamReader& stream = streams[row % streams.size()];
    uint16_t* values = guess + row * kLanes;
    const uint16_t* steps = format.step_exponents.data() + row * kLanes;
    const Guess first(format, values, steps);
    const Guess second(format, values + 16, steps + 16);
    __m512i a = _mm512_loadu_si512(stream.states.data());
    __m512i b = _mm512_loadu_si512(stream.states.data() + 16);
    const uint16_t* words = stream.words;
    __m512i a_symbols;
    __m512i b_symbols;
    const uint32_t a_escaped = PopSymbols(first, tables.packed.data(), a, a_symbols);
    const uint32_t b_escaped = PopSymbols(second, tables.packed.data(), b, b_symbols);
    a = RefillLanes(a, words);
    b = RefillLanes(b, words);
    const __m512i a_low = TakeLow(first, a);
    const __m512i b_low = TakeLow(second, b);
    a = RefillLanes(a, words);
    b = RefillLanes(b, words);
    _mm512_storeu_si512(stream.states.data(), a);
    _mm512_storeu_si512(stream.states.data() + 16, b);
    stream.words = words;
    Store16(values, ValuesOf(first, a_symbols, a_low));
    Store16(values + 16, ValuesOf(second, b_symbols, b_low));
    for (uint32_t rest = a_escaped | b_escaped << 16; rest != 0; rest &= rest - 1) {
      if (used == escape_count) return escape_count + 1;
      values[std::countr_zero(rest)] = LoadWord(escapes, used++);
    }
  }
  return used;
}

uint32_t Avx512SplitTail(const TailFormat& format, const uint16_t* guess, const uint16_t* exact,
                         uint32_t rows, TailSymbols* symbols, uint8_t* escapes) {
  uint32_t escaped = 0;
  for (uint32_t i = 0; i < rows * kLanes; i += 16) {
    const Guess from(format, guess + i, format.step_exponents.data() + i);
    const __m512i bits = LoadWide(exact + i);
    const __m512i magnitude = _mm512_and_si512(bits, _mm512_set1_epi32(0x7FFF));
    const __m512i sign = _mm512_srai_epi32(_mm512_slli_epi32(bits, 16), 31);
    const __m512i folded = _mm512_sub_epi32(_mm512_max_epi32(magnitude, from.floor), from.floor);
    const __m512i order = _mm512_xor_si512(folded, sign);
    const __m512i distance = _mm512_xor_si512(_mm512_sub_epi32(order, from.origin), from.sign);
    const __m512i symbol = _mm512_add_epi32(_mm512_srav_epi32(distance, from.low_bits),
                                            _mm512_set1_epi32(kTailOffset));
    const __mmask16 inside = _mm512_cmplt_epu32_mask(symbol, _mm512_set1_epi32(kTailEscape)) &
                             _mm512_cmpge_epu32_mask(magnitude, from.floor);
    const __m512i one = _mm512_set1_epi32(1);
    const __m512i mask = _mm512_sub_epi32(_mm512_sllv_epi32(one, from.low_bits), one);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(symbols->context.data() + i),
                     _mm512_cvtepi32_epi8(from.context));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(symbols->symbol.data() + i),
                     _mm512_cvtepi32_epi8(
                         _mm512_mask_mov_epi32(_mm512_set1_epi32(kTailEscape), inside, symbol)));
    _mm512_storeu_si512(symbols->low.data() + i, _mm512_maskz_and_epi32(inside, distance, mask));
    const auto outside = static_cast<__mmask16>(~inside);
    if (outside != 0) {
      _mm256_mask_compressstoreu_epi16(
          escapes + 2 * size_t{escaped}, outside,
          _mm256_loadu_si256(reinterpret_cast<const __m256i*>(exact + i)));
      escaped += static_cast<uint32_t>(std::popcount(static_cast<uint32_t>(outside)));
    }
  }
  return escaped;
}

void Avx512EncodeTail(const TailFormat& format, const TailSymbolTables& tables,
                      std::span<StreamWriter> streams, uint32_t rows, const TailSymbols& symbols) {
  const __m512i byte = _mm512_set1_epi32(0xFF);
  for (uint32_t row = rows; row-- > 0;) {
    StreamWriter& stream = streams[row % streams.size()];
    __m512i states[2] = {_mm512_loadu_si512(stream.states.data()),
                         _mm512_loadu_si512(stream.states.data() + 16)};
    __m512i entries[2];
    for (uint32_t half = 2; half-- > 0;) {
      const uint32_t at = row * kLanes + half * 16;
      const __m512i context = LoadBytes(symbols.context.data() + at);
      const __m512i low_bits = LowBits(format.mantissa_bits, context);
      const __m512i index =
          _mm512_or_si512(_mm512_slli_epi32(context, 4), LoadBytes(symbols.symbol.data() + at));
      entries[half] = _mm512_i32gather_epi32(index, tables.packed.data(), 4);
      // At or above 2^(32 - bits); with no bits there is always room.
      const __m512i high =
          _mm512_srlv_epi32(states[half], _mm512_sub_epi32(_mm512_set1_epi32(32), low_bits));
      const __mmask16 full = _mm512_cmpneq_epi32_mask(high, _mm512_setzero_si512());
      states[half] = SpillLanes(states[half], full, stream.words);
      states[half] = _mm512_or_si512(_mm512_sllv_epi32(states[half], low_bits),
                                     _mm512_loadu_si512(symbols.low.data() + at));
    }
    for (uint32_t half = 2; half-- > 0;) {
      const __m512i frequency = _mm512_and_si512(entries[half], byte);
      const __m512i first = _mm512_srli_epi32(entries[half], 8);
      states[half] = SpillLanes(states[half], FullFor(states[half], frequency), stream.words);
      states[half] = PushLanes(states[half], frequency, first);
    }
    _mm512_storeu_si512(stream.states.data(), states[0]);
    _mm512_storeu_si512(stream.states.data() + 16, states[1]);
  }
}

}  // namespace reprise::progressive
