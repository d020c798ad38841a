// The entropy coder with AVX-512; scalar_kernels.cc says what it computes.

#include <immintrin.h>

#include "codec/progressive/avx512_kernels.h"
#include "codec/progressive/avx512_lanes.h"
#include "codec/progressive/push_order.h"

namespace reprise::progressive {
namespace {

// 128 bytes, looked up by the low 7 bits of each 32-bit lane.
struct ByteTable {
  explicit ByteTable(const std::array<uint8_t, kSlots>& bytes)
      : low(_mm512_loadu_si512(bytes.data())), high(_mm512_loadu_si512(bytes.data() + 64)) {}
  __m512i At(__m512i states) const {
    constexpr __mmask64 kLowestBytes = 0x1111111111111111;
    return _mm512_maskz_permutex2var_epi8(kLowestBytes, low, states, high);
  }

  __m512i low;
  __m512i high;
};

struct PopTable {
  explicit PopTable(const SlotTable& table)
      : symbol(table.symbol), frequency(table.frequency), bias(table.bias) {}

  __m512i Pop(__m512i states, const uint16_t*& words, uint8_t* symbols) const {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(symbols), _mm512_cvtepi32_epi8(symbol.At(states)));
    return RefillLanes(PopLanes(states, frequency.At(states), bias.At(states)), words);
  }

  ByteTable symbol;
  ByteTable frequency;
  ByteTable bias;
};

struct Lanes {
  explicit Lanes(const StreamReader& stream)
      : low(_mm512_load_si512(stream.states.data())),
        high(_mm512_load_si512(stream.states.data() + 16)),
        words(stream.words) {}
  void Save(StreamReader& stream) const {
    _mm512_store_si512(stream.states.data(), low);
    _mm512_store_si512(stream.states.data() + 16, high);
    stream.words = words;
  }

  __m512i low;
  __m512i high;
  const uint16_t* words;
};

[[gnu::always_inline]] inline void PopRow(const PopTable& table, Lanes& lanes, uint8_t* symbols) {
  lanes.low = table.Pop(lanes.low, lanes.words, symbols);
  lanes.high = table.Pop(lanes.high, lanes.words, symbols + 16);
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

  [[gnu::always_inline]] inline void PushRow(const uint8_t* symbols, WriterLanes& lanes) const {
    const __m128i backwards = _mm_set_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m128i low = _mm_loadu_si128(reinterpret_cast<const __m128i*>(symbols));
    const __m128i high = _mm_loadu_si128(reinterpret_cast<const __m128i*>(symbols + 16));
    lanes.high =
        Push(lanes.high, _mm512_cvtepu8_epi32(_mm_shuffle_epi8(high, backwards)), lanes.words);
    lanes.low =
        Push(lanes.low, _mm512_cvtepu8_epi32(_mm_shuffle_epi8(low, backwards)), lanes.words);
  }

  __m512i limit;
  __m512i reciprocal;
  __m512i packed;
};

}  // namespace

void Avx512DecodeSymbols(const SlotTable& slots, std::span<StreamReader> streams, uint32_t rows,
                         uint8_t* symbols) {
  const PopTable table(slots);
  if (streams.size() == 1) {
    Lanes lanes(streams[0]);
    for (uint32_t row = 0; row < rows; ++row) PopRow(table, lanes, symbols + row * kLanes);
    lanes.Save(streams[0]);
    return;
  }
  if (streams.size() != kStreams || rows != kTileRows) {
    for (uint32_t row = 0; row < rows; ++row) {
      StreamReader& stream = streams[row % streams.size()];
      Lanes lanes(stream);
      PopRow(table, lanes, symbols + row * kLanes);
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
    PopRow(table, s0, out);
    PopRow(table, s1, out + kLanes);
    PopRow(table, s2, out + 2 * kLanes);
    PopRow(table, s3, out + 3 * kLanes);
  }
  s0.Save(streams[0]);
  s1.Save(streams[1]);
  s2.Save(streams[2]);
  s3.Save(streams[3]);
}

void Avx512EncodeSymbols(std::span<const CodedSymbols> channels, std::span<StreamWriter> streams,
                         uint32_t rows) {
  PushSymbols<PushTable, WriterLanes>(channels, streams, rows);
}

}  // namespace reprise::progressive
