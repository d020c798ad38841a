#include "codec/progressive/tables.h"

#include <algorithm>
#include <bit>

namespace reprise::progressive {
namespace {

constexpr std::array<Frequencies, kTables> kBase = {{
    {0, 0, 0, 0, 1, 9, 53, 53, 9, 1, 0, 0, 0, 0, 2, 0},
    {0, 0, 0, 0, 1, 13, 49, 49, 13, 1, 0, 0, 0, 0, 2, 0},
    {0, 0, 0, 1, 2, 16, 44, 44, 16, 2, 1, 0, 0, 0, 2, 0},
    {0, 0, 1, 1, 4, 18, 39, 39, 18, 4, 1, 1, 0, 0, 2, 0},
    {0, 0, 1, 2, 7, 19, 34, 34, 19, 7, 2, 1, 0, 0, 2, 0},
    {0, 1, 1, 3, 10, 19, 29, 29, 19, 10, 3, 1, 1, 0, 2, 0},
}};

// For a Gaussian of deviation 2^(c / 4) steps, c from kClassFloor: E[x r] / E[r^2] over midpoints
// r.
constexpr std::array<float, 16> kShrink = {
    0.857072F, 0.894572F, 0.923077F, 0.944353F, 0.960000F, 0.971380F, 0.979592F, 0.985482F,
    0.989691F, 0.992688F, 0.994819F, 0.996331F, 0.997403F, 0.998162F, 0.998700F, 0.999080F,
};

}  // namespace

const Frequencies& BaseFrequencies(uint32_t table) { return kBase[table]; }

int32_t BaseReach(uint32_t table) {
  constexpr std::array<int32_t, kTables> kReach = {3, 3, 4, 5, 5, 6};
  return kReach[table];
}

SlotTable MakeSlotTable(const Frequencies& frequencies) {
  SlotTable table;
  uint32_t slot = 0;
  for (uint32_t symbol = 0; symbol < frequencies.size(); ++symbol) {
    table.frequency_of[symbol] = frequencies[symbol];
    table.first_of[symbol] = static_cast<uint8_t>(slot);
    for (uint32_t i = 0; i < frequencies[symbol] && slot < kSlots; ++i, ++slot) {
      table.symbol[slot] = static_cast<uint8_t>(symbol);
      table.frequency[slot] = frequencies[symbol];
      table.bias[slot] = static_cast<uint8_t>(i);
    }
  }
  for (slot = 0; slot < kSlots; ++slot) {
    const int before = slot < 16 ? 0 : table.symbol[slot - 16];
    table.symbol_changes[slot] = static_cast<uint8_t>(table.symbol[slot] ^ before);
  }
  return table;
}

SymbolTable MakeSymbolTable(const Frequencies& frequencies) {
  SymbolTable table;
  uint32_t first = 0;
  for (uint32_t symbol = 0; symbol < frequencies.size(); ++symbol) {
    const uint32_t frequency = frequencies[symbol];
    table.frequency[symbol] = frequency;
    table.first[symbol] = first;
    if (frequency == 1) {
      // 2^32 - 1 instead of 2^32: a quotient one too small, which the bias makes good.
      table.reciprocal[symbol] = UINT32_MAX;
      table.packed[symbol] = (first + kSlots - 1) | (kSlots - 1) << 8;
    } else if (frequency != 0) {
      const auto octave = static_cast<uint32_t>(std::bit_width(frequency)) - 1;
      // The reciprocal is below 2^32 also where the frequency is a power of two.
      const uint32_t shift = std::has_single_bit(frequency) ? octave - 1 : octave;
      table.reciprocal[symbol] =
          static_cast<uint32_t>(((uint64_t{1} << (32 + shift)) + frequency - 1) / frequency);
      table.packed[symbol] = first | (kSlots - frequency) << 8 | shift << 16;
    }
    if (frequency != 0) {
      table.limit[symbol] = static_cast<uint32_t>((uint64_t{frequency} << (32 - kSlotBits)) - 1);
    }
    first += frequency;
  }
  return table;
}

float Shrink(int32_t class_at_level) {
  const int32_t index = class_at_level - kClassFloor;
  if (index >= static_cast<int32_t>(kShrink.size())) return 1.0F;
  return kShrink[static_cast<size_t>(std::max(index, 0))];
}

}  // namespace reprise::progressive
