// One lane's steps of the entropy coder (rANS: Duda, arXiv 1311.2540; interleaved and with 16-bit
// words as in Giesen, arXiv 1402.3392), as the scalar kernels take them and the vector kernels do
// 16 at a time. Pure functions on the caller's state.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "codec/progressive/format.h"
#include "codec/progressive/kernels.h"
#include "codec/progressive/tables.h"

namespace reprise::progressive {

inline uint16_t LoadWord(const uint8_t* bytes, uint32_t index) {
  uint16_t word = 0;
  std::memcpy(&word, bytes + 2 * size_t{index}, sizeof(word));
  return word;
}

inline void StoreWord(uint8_t* bytes, uint32_t index, uint16_t word) {
  std::memcpy(bytes + 2 * size_t{index}, &word, sizeof(word));
}

inline void Refill(uint32_t& state, StreamReader& stream) {
  if (state < kStateFloor) state = state << 16 | *stream.words++;
}

inline uint32_t PopSymbol(const SlotTable& table, uint32_t& state) {
  const uint32_t slot = state & (kSlots - 1);
  state = table.frequency[slot] * (state >> kSlotBits) + table.bias[slot];
  return table.symbol[slot];
}

// Makes room for something of probability frequency / 2^bits: what the decoder's refill takes back.
inline void Spill(uint32_t& state, StreamWriter& stream, uint64_t frequency, uint32_t bits) {
  if (state >= frequency << (32 - bits)) {
    *stream.words++ = static_cast<uint16_t>(state);
    state >>= 16;
  }
}

inline void PushSymbol(const SymbolTable& table, uint32_t symbol, uint32_t& state) {
  const uint32_t frequency = table.frequency[symbol];
  state = ((state / frequency) << kSlotBits) + state % frequency + table.first[symbol];
}

// The lossless plane.
uint32_t SplitTailScalar(const TailFormat& format, const TailCode& code, const uint16_t* guess,
                         const uint16_t* exact, uint32_t rows, TailBits* bits, uint8_t* escapes);
uint32_t DecodeTailScalar(const TailFormat& format, const TailCode& code,
                          std::span<StreamReader> streams, const uint8_t* escapes,
                          uint32_t escape_count, uint32_t rows, uint16_t* guess);
void EncodeTailScalar(std::span<const TailBits> channels, std::span<StreamWriter> streams,
                      uint32_t rows);

}  // namespace reprise::progressive
