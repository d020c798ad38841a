// The lossless plane with AVX-512, a row of 32 values of 16 bits at a time; scalar_tail.cc says
// what it computes.

#include <immintrin.h>

#include <bit>
#include <cstring>

#include "codec/progressive/avx512_kernels.h"
#include "codec/progressive/avx512_lanes.h"
#include "codec/progressive/push_order.h"
#include "codec/progressive/scalar_rans.h"

namespace reprise::progressive {
namespace {

__m512i Words(int value) { return _mm512_set1_epi16(static_cast<int16_t>(value)); }

// What holds for every row of a tensor.
struct Constants {
  explicit Constants(const TailFormat& format)
      : mantissa(Words(static_cast<int>(format.mantissa_bits))),
        mantissa_count(_mm_cvtsi32_si128(static_cast<int>(format.mantissa_bits))) {}

  __m512i mantissa;
  __m128i mantissa_count;
};

// What 32 guesses say before anything is decoded.
struct Guess {
  Guess(const Constants& constants, __m512i bits, __m512i steps) {
    const __m512i magnitude = _mm512_and_si512(bits, Words(0x7FFF));
    const __m512i above =
        _mm512_sub_epi16(_mm512_srl_epi16(magnitude, constants.mantissa_count), steps);
    const __m512i spare = _mm512_sub_epi16(constants.mantissa, above);
    near = _mm512_movepi16_mask(above);
    half = _mm512_cmpeq_epi16_mask(spare, Words(1));
    whole = _mm512_cmplt_epi16_mask(spare, Words(1));
    const __m512i rest =
        _mm512_max_epi16(_mm512_sub_epi16(spare, Words(2)), _mm512_setzero_si512());
    low_bits = _mm512_mask_mov_epi16(rest, near, constants.mantissa);
    const __m512i lowest = _mm512_subs_epu16(steps, Words(static_cast<int>(kTailOctaves)));
    floor = _mm512_sll_epi16(lowest, constants.mantissa_count);
    sign = _mm512_srai_epi16(bits, 15);
    const __m512i order = _mm512_xor_si512(_mm512_subs_epu16(magnitude, floor), sign);
    origin = _mm512_maskz_mov_epi16(static_cast<__mmask32>(~near), order);
  }
  // 2^low_bits - 1.
  __m512i low_mask() const {
    return _mm512_sub_epi16(_mm512_sllv_epi16(Words(1), low_bits), Words(1));
  }

  __mmask32 near;
  __mmask32 half;
  __mmask32 whole;
  __m512i low_bits;
  __m512i floor;
  __m512i sign;
  __m512i origin;
};

// The readers' lanes, the halves of their states apart: 32 lanes of 16 bits, in order, as words
// are.
struct ReaderLanes {
  explicit ReaderLanes(const StreamReader& stream) : words(stream.words) {
    const __m512i first = _mm512_load_si512(stream.states.data());
    const __m512i last = _mm512_load_si512(stream.states.data() + 16);
    low = _mm512_permutex2var_epi16(first, EvenWords(), last);
    high =
        _mm512_permutex2var_epi16(first, _mm512_add_epi16(EvenWords(), _mm512_set1_epi16(1)), last);
  }
  void Save(StreamReader& stream) const {
    const __m512i pairs =
        _mm512_set_epi16(47, 15, 46, 14, 45, 13, 44, 12, 43, 11, 42, 10, 41, 9, 40, 8, 39, 7, 38, 6,
                         37, 5, 36, 4, 35, 3, 34, 2, 33, 1, 32, 0);
    _mm512_store_si512(stream.states.data(), _mm512_permutex2var_epi16(low, pairs, high));
    const __m512i upper = _mm512_add_epi16(pairs, _mm512_set1_epi16(16));
    _mm512_store_si512(stream.states.data() + 16, _mm512_permutex2var_epi16(low, upper, high));
    stream.words = words;
  }
  static __m512i EvenWords() {
    return _mm512_set_epi16(62, 60, 58, 56, 54, 52, 50, 48, 46, 44, 42, 40, 38, 36, 34, 32, 30, 28,
                            26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
  }
  // Lanes below the floor take the next words.
  [[gnu::always_inline]] inline void Refill() {
    static_assert(kStateFloor == 1U << 16);
    const __mmask32 starved = _mm512_testn_epi16_mask(high, high);
    high = _mm512_mask_mov_epi16(high, starved, low);
    low = _mm512_mask_expand_epi16(low, starved, _mm512_loadu_si512(words));
    words += std::popcount(starved);
  }

  __m512i low;
  __m512i high;
  const uint16_t* words;
};

// 64 words, looked up by 32 lanes.
struct WordTable {
  explicit WordTable(const uint16_t* words)
      : low(_mm512_loadu_si512(words)), high(_mm512_loadu_si512(words + 32)) {}
  __m512i At(__m512i indices) const { return _mm512_permutex2var_epi16(low, indices, high); }

  __m512i low;
  __m512i high;
};

struct Decoder {
  Decoder(const TailFormat& format, const TailCode& tail_code)
      : constants(format),
        code(tail_code),
        near(code.by_slot.data() + kTailNear * kTailSlots),
        fine(code.by_slot.data() + kTailFine * kTailSlots) {}

  // 32 values, and which of them are escaped.
  [[gnu::always_inline]] inline __m512i Row(__m512i bits, __m512i steps, ReaderLanes& lanes,
                                            uint32_t& escaped) const {
    const Guess guess(constants, bits, steps);
    const __m512i next = lanes.low;
    const __m512i slots = _mm512_and_si512(next, Words(kTailSlots - 1));
    __m512i entries = _mm512_mask_mov_epi16(fine.At(slots), guess.near, near.At(slots));
    if ((guess.half | guess.whole) != 0) {
      const WordTable half(code.by_slot.data() + kTailHalf * kTailSlots);
      const WordTable whole(code.by_slot.data() + kTailWhole * kTailSlots);
      entries = _mm512_mask_mov_epi16(entries, guess.half, half.At(slots));
      entries = _mm512_mask_mov_epi16(entries, guess.whole, whole.At(slots));
    }
    const __m512i lengths = _mm512_srli_epi16(entries, 8);
    const __m512i symbols = _mm512_and_si512(entries, Words(0xFF));
    const __m512i taken = _mm512_add_epi16(lengths, guess.low_bits);
    // Up to 16, which shifts across both halves would take for 0.
    const __m512i from_high = _mm512_sllv_epi16(lanes.high, _mm512_sub_epi16(Words(16), taken));
    lanes.low = _mm512_or_si512(_mm512_srlv_epi16(next, taken), from_high);
    lanes.high = _mm512_srlv_epi16(lanes.high, taken);
    lanes.Refill();
    escaped = _mm512_cmpeq_epi16_mask(symbols, Words(kTailEscape));
    const __m512i low = _mm512_and_si512(_mm512_srlv_epi16(next, lengths), guess.low_mask());
    const __m512i units = _mm512_sub_epi16(symbols, Words(kTailOffset));
    const __m512i distance = _mm512_or_si512(_mm512_sllv_epi16(units, guess.low_bits), low);
    const __m512i order = _mm512_add_epi16(guess.origin, _mm512_xor_si512(distance, guess.sign));
    const __m512i negative = _mm512_srai_epi16(order, 15);
    const __m512i magnitude = _mm512_and_si512(
        _mm512_add_epi16(_mm512_xor_si512(order, negative), guess.floor), Words(0x7FFF));
    return _mm512_or_si512(magnitude, _mm512_and_si512(negative, Words(0x8000)));
  }

  Constants constants;
  const TailCode& code;
  WordTable near;
  WordTable fine;
};

}  // namespace

uint32_t Avx512DecodeTail(const TailFormat& format, const TailCode& code,
                          std::span<StreamReader> streams, const uint8_t* escapes,
                          uint32_t escape_count, uint32_t rows, uint16_t* guess) {
  const Decoder decoder(format, code);
  uint32_t used = 0;
  const auto decode = [&](uint32_t row, ReaderLanes& lanes) {
    uint16_t* values = guess + row * kLanes;
    uint32_t escaped = 0;
    const __m512i exact =
        decoder.Row(_mm512_loadu_si512(values),
                    _mm512_load_si512(format.step_exponents.data() + row * kLanes), lanes, escaped);
    _mm512_storeu_si512(values, exact);
    for (; escaped != 0; escaped &= escaped - 1) {
      if (used == escape_count) return false;
      values[std::countr_zero(escaped)] = LoadWord(escapes, used++);
    }
    return true;
  };
  ReaderLanes even(streams.front());
  ReaderLanes odd(streams.back());
  for (uint32_t row = 0; row < rows; ++row) {
    if (!decode(row, row % 2 == 0 || streams.size() == 1 ? even : odd)) return escape_count + 1;
  }
  odd.Save(streams.back());
  even.Save(streams.front());
  return used;
}

uint32_t Avx512SplitTail(const TailFormat& format, const TailCode& code, const uint16_t* guess,
                         const uint16_t* exact, uint32_t rows, TailBits* bits, uint8_t* escapes) {
  const Constants constants(format);
  const WordTable codes(code.by_symbol.data());
  uint32_t escaped_count = 0;
  for (uint32_t i = 0; i < rows * kLanes; i += kLanes) {
    const Guess from(constants, _mm512_loadu_si512(guess + i),
                     _mm512_load_si512(format.step_exponents.data() + i));
    const __m512i value = _mm512_loadu_si512(exact + i);
    const __m512i magnitude = _mm512_and_si512(value, Words(0x7FFF));
    const __m512i order =
        _mm512_xor_si512(_mm512_subs_epu16(magnitude, from.floor), _mm512_srai_epi16(value, 15));
    const __m512i distance = _mm512_xor_si512(_mm512_sub_epi16(order, from.origin), from.sign);
    const __m512i symbol =
        _mm512_add_epi16(_mm512_srav_epi16(distance, from.low_bits), Words(kTailOffset));
    const __mmask32 known = _mm512_cmplt_epu16_mask(symbol, Words(kTailEscape)) &
                            _mm512_cmpge_epu16_mask(magnitude, from.floor);
    __m512i context =
        _mm512_maskz_mov_epi16(static_cast<__mmask32>(~from.near), Words(kTailFine * kTailSymbols));
    context = _mm512_mask_mov_epi16(context, from.half, Words(kTailHalf * kTailSymbols));
    context = _mm512_mask_mov_epi16(context, from.whole, Words(kTailWhole * kTailSymbols));
    const __m512i escape_index = _mm512_or_si512(context, Words(kTailEscape));
    const __m512i own = codes.At(_mm512_mask_add_epi16(escape_index, known, context, symbol));
    const __m512i escape = codes.At(escape_index);
    if (_mm512_cmpeq_epi16_mask(own, _mm512_set1_epi32(-1)) != 0) return kUncodable;
    const __mmask32 escaped = _mm512_cmpeq_epi16_mask(own, escape);
    const __m512i low = _mm512_and_si512(distance, from.low_mask());
    const __m512i kept = _mm512_maskz_mov_epi16(static_cast<__mmask32>(~escaped), low);
    const __m512i length = _mm512_srli_epi16(own, 8);
    const __m512i coded =
        _mm512_or_si512(_mm512_sllv_epi16(kept, length), _mm512_and_si512(own, Words(0xFF)));
    _mm512_store_si512(bits->bits.data() + i, coded);
    _mm256_store_si256(reinterpret_cast<__m256i*>(bits->lengths.data() + i),
                       _mm512_cvtepi16_epi8(_mm512_add_epi16(length, from.low_bits)));
    if (escaped != 0) {
      _mm512_storeu_si512(escapes + 2 * size_t{escaped_count},
                          _mm512_maskz_compress_epi16(escaped, value));
      escaped_count += static_cast<uint32_t>(std::popcount(escaped));
    }
  }
  return escaped_count;
}

void Avx512EncodeTail(std::span<const TailBits> channels, std::span<StreamWriter> streams,
                      uint32_t rows) {
  const __m512i backwards =
      _mm512_set_epi16(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21,
                       22, 23, 24, 25, 26, 27, 28, 29, 30, 31);
  const __m128i backwards_bytes =
      _mm_set_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  const auto push = [&](__m512i states, __m256i bits, const uint8_t* lengths, uint16_t*& words) {
    const __m128i in_order = _mm_load_si128(reinterpret_cast<const __m128i*>(lengths));
    const __m512i count = _mm512_cvtepu8_epi32(_mm_shuffle_epi8(in_order, backwards_bytes));
    const __m512i excess =
        _mm512_srlv_epi32(states, _mm512_sub_epi32(_mm512_set1_epi32(32), count));
    const __mmask16 full = _mm512_test_epi32_mask(excess, excess);
    states = SpillLanes(states, full, words);
    return _mm512_or_si512(_mm512_sllv_epi32(states, count), _mm512_cvtepu16_epi32(bits));
  };
  const auto push_row = [&](const TailBits& tail, uint32_t row, WriterLanes& lanes) {
    const uint8_t* lengths = tail.lengths.data() + row * kLanes;
    const __m512i bits =
        _mm512_permutexvar_epi16(backwards, _mm512_load_si512(tail.bits.data() + row * kLanes));
    lanes.high = push(lanes.high, _mm512_castsi512_si256(bits), lengths + 16, lanes.words);
    lanes.low = push(lanes.low, _mm512_extracti64x4_epi64(bits, 1), lengths, lanes.words);
  };
  PushTails<WriterLanes>(channels, streams, rows, push_row);
}

}  // namespace reprise::progressive
