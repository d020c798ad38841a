#include <algorithm>
#include <initializer_list>

#include "codec/progressive/tail.h"

namespace reprise::progressive {
namespace {

struct Length {
  uint32_t symbol;
  uint32_t bits;
};

// The canonical code of the given lengths, shortest first, read from the lowest bit. Lengths fill
// the space of codes.
void Set(TailCode& code, TailContext context, std::initializer_list<Length> lengths) {
  uint16_t* by_slot = code.by_slot.data() + context * kTailSlots;
  uint16_t* by_symbol = code.by_symbol.data() + context * kTailSymbols;
  std::fill(by_symbol, by_symbol + kTailSymbols, kNoCode);
  uint32_t next = 0;  // in units of 2^-6, from the highest bit
  for (const auto& [symbol, bits] : lengths) {
    uint32_t reversed = 0;
    for (uint32_t i = 0; i < kTailSlotBits; ++i)
      reversed |= (next >> i & 1) << (kTailSlotBits - 1 - i);
    by_symbol[symbol] = static_cast<uint16_t>(reversed | bits << 8);
    for (uint32_t slot = reversed; slot < kTailSlots; slot += 1U << bits) {
      by_slot[slot] = static_cast<uint16_t>(symbol | bits << 8);
    }
    next += kTailSlots >> bits;
  }
  const uint16_t escape = by_symbol[kTailEscape];
  std::replace(by_symbol, by_symbol + kTailSymbols, kNoCode, escape);
}

void SetChanges(TailCode& code) {
  const auto packed = [&](size_t i) {
    return (code.by_slot[i] & 0xFF) | code.by_slot[i] >> 8 << 4;
  };
  for (size_t i = 0; i < code.by_slot.size(); ++i) {
    const int before = i % (2 * kTailSlots) < 16 ? 0 : packed(i - 16);
    code.changes_by_slot[i] = static_cast<uint8_t>(packed(i) ^ before);
  }
}

// Near zero a symbol is an octave: 8 + octaves above the floor, 7 - the same for the other sign.
// Between zero and a step values are as good as uniform, so each octave has half of the next.
void SetNear(TailCode& code) {
  Set(code, kTailNear, {{13, 1}, {12, 2}, {11, 3}, {10, 4}, {9, 5}, {8, 6}, {kTailEscape, 6}});
}

TailCode MakeAligned() {
  TailCode code;
  SetNear(code);
  Set(code, kTailFine, {{8, 2}, {9, 2}, {10, 2}, {11, 2}});
  Set(code, kTailHalf, {{8, 1}, {9, 1}});
  Set(code, kTailWhole, {{8, 0}});
  SetChanges(code);
  return code;
}

TailCode MakeLoose() {
  TailCode code;
  SetNear(code);
  Set(code, kTailFine,
      {{8, 3}, {9, 3}, {10, 3}, {11, 3}, {12, 3}, {13, 3}, {7, 3}, {kTailEscape, 3}});
  Set(code, kTailHalf, {{8, 2}, {9, 2}, {10, 2}, {7, 3}, {kTailEscape, 3}});
  Set(code, kTailWhole, {{8, 1}, {9, 2}, {7, 3}, {kTailEscape, 3}});
  SetChanges(code);
  return code;
}

TailCode MakeTurned() {
  TailCode code;
  Set(code, kTailNear,
      {{13, 2},
       {12, 3},
       {14, 3},
       {11, 3},
       {3, 4},
       {10, 4},
       {kTailEscape, 4},
       {4, 5},
       {5, 5},
       {9, 5},
       {2, 5},
       {6, 6},
       {7, 6},
       {8, 6},
       {1, 6}});
  Set(code, kTailFine,
      {{7, 2},
       {8, 2},
       {6, 3},
       {9, 3},
       {5, 4},
       {10, 4},
       {4, 5},
       {11, 5},
       {3, 6},
       {12, 6},
       {kTailEscape, 5}});
  Set(code, kTailHalf, {{8, 2}, {7, 2}, {9, 2}, {6, 3}, {10, 4}, {kTailEscape, 4}});
  Set(code, kTailWhole, {{8, 1}, {7, 2}, {9, 3}, {kTailEscape, 3}});
  SetChanges(code);
  return code;
}

}  // namespace

const TailCode& TailCodeOf(TailKind kind) {
  static const std::array<TailCode, 3> codes = {MakeTurned(), MakeAligned(), MakeLoose()};
  return codes[static_cast<size_t>(kind)];
}

}  // namespace reprise::progressive
