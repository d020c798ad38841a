#include "codec/progressive/tables.h"

#include <algorithm>
#include <numeric>

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
    for (uint32_t i = 0; i < frequencies[symbol] && slot < kSlots; ++i, ++slot) {
      table.symbol[slot] = static_cast<uint8_t>(symbol);
      table.frequency[slot] = frequencies[symbol];
      table.bias[slot] = static_cast<uint8_t>(i);
    }
  }
  return table;
}

SymbolTable MakeSymbolTable(const Frequencies& frequencies) {
  SymbolTable table;
  uint32_t first = 0;
  for (uint32_t symbol = 0; symbol < frequencies.size(); ++symbol) {
    table.frequency[symbol] = frequencies[symbol];
    table.first[symbol] = static_cast<uint8_t>(first);
    first += frequencies[symbol];
  }
  return table;
}

bool IsComplete(const Frequencies& frequencies) {
  return std::accumulate(frequencies.begin(), frequencies.end(), 0U) == kSlots;
}

Frequencies FitFrequencies(const std::array<uint32_t, 16>& counts) {
  const uint64_t total = std::accumulate(counts.begin(), counts.end(), uint64_t{0});
  Frequencies frequencies{};
  if (total == 0) {
    frequencies.back() = kSlots;
    return frequencies;
  }
  uint32_t sum = 0;
  for (size_t i = 0; i < counts.size(); ++i) {
    if (counts[i] == 0) continue;
    const uint64_t share = (uint64_t{counts[i]} * kSlots + total / 2) / total;
    frequencies[i] = static_cast<uint8_t>(std::max<uint64_t>(share, 1));
    sum += frequencies[i];
  }
  // The most frequent symbols take up what rounding left or took; they feel it least.
  while (sum != kSlots) {
    const auto largest = std::max_element(frequencies.begin(), frequencies.end());
    if (sum > kSlots) {
      --*largest;
      --sum;
    } else {
      ++*largest;
      ++sum;
    }
  }
  return frequencies;
}

float Shrink(int32_t class_at_level) {
  const int32_t index = class_at_level - kClassFloor;
  if (index >= static_cast<int32_t>(kShrink.size())) return 1.0F;
  return kShrink[static_cast<size_t>(std::max(index, 0))];
}

}  // namespace reprise::progressive
