// The lossless plane's kernels, the reference.

#include <cstdint>

#include "codec/progressive/scalar_rans.h"
#include "codec/progressive/tail.h"

namespace reprise::progressive {
namespace {

constexpr uint32_t kSign = 0x8000;

// Grows with the value; magnitudes below the floor count as the floor.
int32_t OrderOf(uint32_t floor, uint32_t bits) {
  const uint32_t magnitude = std::max(bits & (kSign - 1), floor);
  const auto folded = static_cast<int32_t>(magnitude - floor);
  return (bits & kSign) != 0 ? ~folded : folded;
}

uint16_t BitsOf(uint32_t floor, int32_t order) {
  const uint32_t sign = order < 0 ? kSign : 0;
  const uint32_t folded = static_cast<uint32_t>(order < 0 ? ~order : order);
  return static_cast<uint16_t>(((folded + floor) & (kSign - 1)) | sign);
}

}  // namespace

uint32_t SplitTailScalar(const TailFormat& format, const uint16_t* guess, const uint16_t* exact,
                         uint32_t rows, TailSymbols* symbols, uint8_t* escapes) {
  uint32_t escaped = 0;
  for (uint32_t i = 0; i < rows * kLanes; ++i) {
    const uint32_t step_exponent = format.step_exponents[i];
    const uint32_t floor = MagnitudeFloor(format, step_exponent);
    const TailContext context = ContextOf(format, step_exponent, guess[i] & (kSign - 1));
    const int32_t origin = context.context == 0 ? 0 : OrderOf(floor, guess[i]);
    // Away from zero is positive on both sides.
    const int32_t sign = (guess[i] & kSign) != 0 ? -1 : 0;
    const int32_t distance = (OrderOf(floor, exact[i]) - origin) ^ sign;
    const int32_t symbol = (distance >> context.low_bits) + kTailOffset;
    const bool inside = symbol >= 0 && symbol < static_cast<int32_t>(kTailEscape) &&
                        (exact[i] & (kSign - 1)) >= floor;
    symbols->context[i] = static_cast<uint8_t>(context.context);
    symbols->symbol[i] = inside ? static_cast<uint8_t>(symbol) : uint8_t{kTailEscape};
    symbols->low[i] = static_cast<uint32_t>(distance) & ((1U << context.low_bits) - 1);
    if (!inside) {
      StoreWord(escapes, escaped++, exact[i]);
      symbols->low[i] = 0;
    }
  }
  return escaped;
}

uint32_t DecodeTailScalar(const TailFormat& format, const TailTables& tables,
                          std::span<StreamReader> streams, const uint8_t* escapes,
                          uint32_t escape_count, uint32_t rows, uint16_t* guess) {
  uint32_t used = 0;
  for (uint32_t row = 0; row < rows; ++row) {
    StreamReader& stream = streams[row % streams.size()];
    uint16_t* values = guess + row * kLanes;
    std::array<TailContext, kLanes> contexts;
    std::array<uint32_t, kLanes> symbols;
    for (uint32_t lane = 0; lane < kLanes; ++lane) {
      contexts[lane] =
          ContextOf(format, format.step_exponents[row * kLanes + lane], values[lane] & (kSign - 1));
      uint32_t& state = stream.states[lane];
      const uint32_t entry =
          tables.packed[contexts[lane].context * kSlots + (state & (kSlots - 1))];
      state = (entry >> 8 & 0xFF) * (state >> kSlotBits) + (entry >> 16);
      symbols[lane] = entry & 0xFF;
    }
    for (uint32_t& state : stream.states) Refill(state, stream);
    for (uint32_t lane = 0; lane < kLanes; ++lane) {
      // Escaped lanes pop too: one rule for all lanes.
      const uint32_t low = PopBits(contexts[lane].low_bits, stream.states[lane]);
      const uint32_t floor = MagnitudeFloor(format, format.step_exponents[row * kLanes + lane]);
      const int32_t origin = contexts[lane].context == 0 ? 0 : OrderOf(floor, values[lane]);
      const int32_t units = static_cast<int32_t>(symbols[lane]) - kTailOffset;
      const int32_t distance =
          static_cast<int32_t>(static_cast<uint32_t>(units) << contexts[lane].low_bits | low);
      const int32_t sign = (values[lane] & kSign) != 0 ? -1 : 0;
      values[lane] = BitsOf(floor, origin + (distance ^ sign));
      if (symbols[lane] == kTailEscape) {
        if (used == escape_count) return escape_count + 1;
        values[lane] = LoadWord(escapes, used++);
      }
    }
    for (uint32_t& state : stream.states) Refill(state, stream);
  }
  return used;
}

void EncodeTailScalar(const TailFormat& format, const TailSymbolTables& tables,
                      std::span<StreamWriter> streams, uint32_t rows, const TailSymbols& symbols) {
  for (uint32_t row = rows; row-- > 0;) {
    StreamWriter& stream = streams[row % streams.size()];
    const uint32_t first = row * kLanes;
    for (uint32_t lane = kLanes; lane-- > 0;) {
      const uint32_t count = LowBitsOf(format, symbols.context[first + lane]);
      Spill(stream.states[lane], stream, 1, count);
    }
    for (uint32_t lane = 0; lane < kLanes; ++lane) {
      const uint32_t count = LowBitsOf(format, symbols.context[first + lane]);
      PushBits(symbols.low[first + lane], count, stream.states[lane]);
    }
    const auto entry_of = [&](uint32_t lane) {
      return tables
          .packed[symbols.context[first + lane] * kTailSymbols + symbols.symbol[first + lane]];
    };
    for (uint32_t lane = kLanes; lane-- > 0;) {
      Spill(stream.states[lane], stream, entry_of(lane) & 0xFF, kSlotBits);
    }
    for (uint32_t lane = 0; lane < kLanes; ++lane) {
      const uint32_t frequency = entry_of(lane) & 0xFF;
      uint32_t& state = stream.states[lane];
      state = ((state / frequency) << kSlotBits) + state % frequency + (entry_of(lane) >> 8);
    }
  }
}

}  // namespace reprise::progressive
