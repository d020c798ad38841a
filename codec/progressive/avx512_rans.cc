// The entropy coder with AVX-512; scalar_kernels.cc says what it computes.

#include <immintrin.h>

#include "codec/progressive/avx512_kernels.h"
#include "codec/progressive/avx512_lanes.h"

namespace reprise::progressive {
namespace {

// 128 bytes, looked up by their low 7 bits.
struct ByteTable {
  explicit ByteTable(const std::array<uint8_t, kSlots>& bytes)
      : low(_mm512_loadu_si512(bytes.data())), high(_mm512_loadu_si512(bytes.data() + 64)) {}
  __m512i At(__m512i slots) const { return _mm512_permutex2var_epi8(low, slots, high); }

  __m512i low;
  __m512i high;
};

__m512i WidenQuarter(__m512i bytes, int quarter) {
  switch (quarter) {
    case 0:
      return _mm512_cvtepu8_epi32(_mm512_castsi512_si128(bytes));
    case 1:
      return _mm512_cvtepu8_epi32(_mm512_extracti32x4_epi32(bytes, 1));
    case 2:
      return _mm512_cvtepu8_epi32(_mm512_extracti32x4_epi32(bytes, 2));
    default:
      return _mm512_cvtepu8_epi32(_mm512_extracti32x4_epi32(bytes, 3));
  }
}

// The low bytes of 64 states.
__m512i LowBytes(__m512i a, __m512i b, __m512i c, __m512i d) {
  const __m256i low = _mm256_set_m128i(_mm512_cvtepi32_epi8(b), _mm512_cvtepi32_epi8(a));
  const __m256i high = _mm256_set_m128i(_mm512_cvtepi32_epi8(d), _mm512_cvtepi32_epi8(c));
  return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
}

struct Lanes {
  explicit Lanes(const StreamReader& stream)
      : a(_mm512_loadu_si512(stream.states.data())),
        b(_mm512_loadu_si512(stream.states.data() + 16)),
        words(stream.words) {}
  void Save(StreamReader& stream) const {
    _mm512_storeu_si512(stream.states.data(), a);
    _mm512_storeu_si512(stream.states.data() + 16, b);
    stream.words = words;
  }

  __m512i a;
  __m512i b;
  const uint16_t* words;
};

// One row of each of two streams.
[[gnu::always_inline]] inline void DecodeTwoRows(const ByteTable& symbol,
                                                 const ByteTable& frequency, const ByteTable& bias,
                                                 Lanes& x, Lanes& y, uint8_t* x_symbols,
                                                 uint8_t* y_symbols) {
  const __m512i slots = LowBytes(x.a, x.b, y.a, y.b);
  const __m512i symbols = symbol.At(slots);
  const __m512i frequencies = frequency.At(slots);
  const __m512i biases = bias.At(slots);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(x_symbols), _mm512_castsi512_si256(symbols));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(y_symbols), _mm512_extracti64x4_epi64(symbols, 1));
  x.a = RefillLanes(PopLanes(x.a, WidenQuarter(frequencies, 0), WidenQuarter(biases, 0)), x.words);
  x.b = RefillLanes(PopLanes(x.b, WidenQuarter(frequencies, 1), WidenQuarter(biases, 1)), x.words);
  y.a = RefillLanes(PopLanes(y.a, WidenQuarter(frequencies, 2), WidenQuarter(biases, 2)), y.words);
  y.b = RefillLanes(PopLanes(y.b, WidenQuarter(frequencies, 3), WidenQuarter(biases, 3)), y.words);
}

// One row of one stream.
void DecodeRow(const ByteTable& symbol, const ByteTable& frequency, const ByteTable& bias, Lanes& x,
               uint8_t* symbols) {
  const __m512i slots = _mm512_castsi256_si512(
      _mm256_set_m128i(_mm512_cvtepi32_epi8(x.b), _mm512_cvtepi32_epi8(x.a)));
  const __m512i frequencies = frequency.At(slots);
  const __m512i biases = bias.At(slots);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(symbols),
                      _mm512_castsi512_si256(symbol.At(slots)));
  x.a = RefillLanes(PopLanes(x.a, WidenQuarter(frequencies, 0), WidenQuarter(biases, 0)), x.words);
  x.b = RefillLanes(PopLanes(x.b, WidenQuarter(frequencies, 1), WidenQuarter(biases, 1)), x.words);
}

// What 16 lanes push, by symbol.
struct PushTable {
  explicit PushTable(const SymbolTable& table)
      : limit(_mm512_load_si512(table.limit.data())),
        reciprocal(_mm512_load_si512(table.reciprocal.data())),
        packed(_mm512_load_si512(table.packed.data())) {}

  __m512i Push(__m512i states, __m512i symbols, uint16_t*& words) const {
    const __mmask16 full =
        _mm512_cmpgt_epu32_mask(states, _mm512_permutexvar_epi32(symbols, limit));
    const __m512i x = SpillLanes(states, full, words);
    const __m512i factor = _mm512_permutexvar_epi32(symbols, reciprocal);
    const __m512i rest = _mm512_permutexvar_epi32(symbols, packed);
    const __m512i even = _mm512_srli_epi64(_mm512_mul_epu32(x, factor), 32);
    const __m512i odd = _mm512_mul_epu32(_mm512_srli_epi64(x, 32), _mm512_srli_epi64(factor, 32));
    const __m512i product = _mm512_mask_mov_epi32(even, 0xAAAA, odd);
    const __m512i quotient = _mm512_srlv_epi32(product, _mm512_srli_epi32(rest, 16));
    const __m512i byte = _mm512_set1_epi32(0xFF);
    const __m512i bias = _mm512_and_si512(rest, byte);
    const __m512i complement = _mm512_and_si512(_mm512_srli_epi32(rest, 8), byte);
    return _mm512_add_epi32(_mm512_add_epi32(x, bias), _mm512_mullo_epi32(quotient, complement));
  }

  __m512i limit;
  __m512i reciprocal;
  __m512i packed;
};

[[gnu::always_inline]] inline void PushRow(const PushTable& table, const uint8_t* symbols,
                                           WriterLanes& lanes) {
  const __m128i backwards = _mm_set_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  const __m128i low = _mm_loadu_si128(reinterpret_cast<const __m128i*>(symbols));
  const __m128i high = _mm_loadu_si128(reinterpret_cast<const __m128i*>(symbols + 16));
  lanes.high =
      table.Push(lanes.high, _mm512_cvtepu8_epi32(_mm_shuffle_epi8(high, backwards)), lanes.words);
  lanes.low =
      table.Push(lanes.low, _mm512_cvtepu8_epi32(_mm_shuffle_epi8(low, backwards)), lanes.words);
}

}  // namespace

void Avx512DecodeSymbols(const SlotTable& table, std::span<StreamReader> streams, uint32_t rows,
                         uint8_t* symbols) {
  const ByteTable symbol(table.symbol);
  const ByteTable frequency(table.frequency);
  const ByteTable bias(table.bias);
  if (streams.size() == 1) {
    Lanes lanes(streams[0]);
    for (uint32_t row = 0; row < rows; ++row) {
      DecodeRow(symbol, frequency, bias, lanes, symbols + row * kLanes);
    }
    lanes.Save(streams[0]);
    return;
  }
  if (streams.size() != kStreams || rows != kTileRows) {
    for (uint32_t row = 0; row < rows; ++row) {
      StreamReader& stream = streams[row % streams.size()];
      Lanes lanes(stream);
      DecodeRow(symbol, frequency, bias, lanes, symbols + row * kLanes);
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
    DecodeTwoRows(symbol, frequency, bias, s0, s1, out, out + kLanes);
    DecodeTwoRows(symbol, frequency, bias, s2, s3, out + 2 * kLanes, out + 3 * kLanes);
  }
  s0.Save(streams[0]);
  s1.Save(streams[1]);
  s2.Save(streams[2]);
  s3.Save(streams[3]);
}

void Avx512EncodeSymbols(std::span<const CodedSymbols> channels, std::span<StreamWriter> streams,
                         uint32_t rows) {
  if (streams.size() != kStreams || rows % kStreams != 0) {
    for (size_t channel = channels.size(); channel-- > 0;) {
      const PushTable table(*channels[channel].table);
      for (uint32_t row = rows; row-- > 0;) {
        StreamWriter& stream = streams[row % streams.size()];
        WriterLanes lanes(stream);
        PushRow(table, channels[channel].symbols + row * kLanes, lanes);
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
      PushRow(table, symbols + 3 * kLanes, s3);
      PushRow(table, symbols + 2 * kLanes, s2);
      PushRow(table, symbols + kLanes, s1);
      PushRow(table, symbols, s0);
    }
  }
  s0.Save(streams[0]);
  s1.Save(streams[1]);
  s2.Save(streams[2]);
  s3.Save(streams[3]);
}

}  // namespace reprise::progressive
