// The constants of the progressive format that came out of measuring: frequencies of the base
// symbols, and how far reconstructions shrink towards the mean. Part of the format.
#pragma once

#include <array>
#include <cstdint>

#include "codec/progressive/format.h"

namespace reprise::progressive {

// Frequencies of one alphabet, summing to kSlots; a symbol of frequency 0 does not occur.
using Frequencies = std::array<uint8_t, 16>;

// What a decoder looks up by slot: symbol, its frequency, and slot minus the symbol's first slot.
struct SlotTable {
  std::array<uint8_t, kSlots> symbol{};
  std::array<uint8_t, kSlots> frequency{};
  std::array<uint8_t, kSlots> bias{};
  // For lookups of 16 entries at a time: `symbol`, exclusive or what lies 16 slots before.
  alignas(64) std::array<uint8_t, kSlots> symbol_changes{};
  // By symbol: its frequency and its first slot.
  std::array<uint8_t, 16> frequency_of{};
  std::array<uint8_t, 16> first_of{};
};

// What an encoder looks up by symbol. Where a state x has room for the symbol, pushing it makes
// x + bias + ((x * reciprocal) >> (32 + shift)) * (kSlots - frequency).
struct SymbolTable {
  std::array<uint32_t, 16> frequency{};
  std::array<uint32_t, 16> first{};
  alignas(64) std::array<uint32_t, 16> reciprocal{};
  // The largest state with room for the symbol.
  alignas(64) std::array<uint32_t, 16> limit{};
  // bias | (kSlots - frequency) << 8 | shift << 16.
  alignas(64) std::array<uint32_t, 16> packed{};
};

// Of the base symbols of table `table` (0 to kTables - 1): symbols 0 to 13 are cells, 14 is the
// escape. Fitted to the K and V of SmolLM2-135M and Gemma 3 270M (docs/codec.md).
const Frequencies& BaseFrequencies(uint32_t table);

// Cells [-reach, reach) have symbols in that table.
int32_t BaseReach(uint32_t table);

// The frequencies sum to kSlots; those of a SymbolTable are at most 64, for which the reciprocals
// are exact.
SlotTable MakeSlotTable(const Frequencies& frequencies);
SymbolTable MakeSymbolTable(const Frequencies& frequencies);

// The reconstruction of the cell [n, n + 1) is (n + 0.5) * this, in units of the step: the centroid
// of a Gaussian. `class_at_level`: the channel's class in quarter octaves of the level's own step.
float Shrink(int32_t class_at_level);

}  // namespace reprise::progressive
