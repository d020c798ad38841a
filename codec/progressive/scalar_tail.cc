// The lossless plane's kernels, the reference.

#include <cstdint>

#include "codec/progressive/scalar_rans.h"
#include "codec/progressive/tail.h"

namespace reprise::progressive {
namespace {

constexpr uint32_t kSign = 0x8000;

// Grows with the value; magnitudes below the floor count as the floor.
uint16_t OrderOf(uint32_t floor, uint32_t bits) {
  const uint32_t folded = std::max(bits & (kSign - 1), floor) - floor;
  return static_cast<uint16_t>((bits & kSign) != 0 ? ~folded : folded);
}

uint16_t BitsOf(uint32_t floor, uint16_t order) {
  const bool negative = order >= kSign;
  const uint32_t folded = static_cast<uint16_t>(negative ? ~order : order);
  return static_cast<uint16_t>(((folded + floor) & (kSign - 1)) | (negative ? kSign : 0));
}

// What a guess says before anything is decoded.
struct Guess {
  Guess(const TailFormat& format, uint32_t token, uint16_t bits) {
    const uint32_t mantissa = format.mantissa_bits;
    const uint32_t step_exponent = format.step_exponents[token];
    const int32_t above = static_cast<int32_t>((bits & (kSign - 1)) >> mantissa) -
                          static_cast<int32_t>(step_exponent);
    context = TailContextOf(mantissa, above);
    low_bits = LowBitsOf(mantissa, above);
    floor = MagnitudeFloor(mantissa, step_exponent);
    origin = context == kTailNear ? uint16_t{0} : OrderOf(floor, bits);
    sign = (bits & kSign) != 0 ? uint16_t{0xFFFF} : uint16_t{0};
  }

  TailContext context;
  uint32_t low_bits;
  uint32_t floor;
  uint16_t origin;
  uint16_t sign;  // all ones where it is negative: away from zero is positive on both sides
};

}  // namespace

uint32_t SplitTailScalar(const TailFormat& format, const TailCode& code, const uint16_t* guess,
                         const uint16_t* exact, uint32_t rows, TailBits* bits, uint8_t* escapes) {
  uint32_t escaped = 0;
  for (uint32_t i = 0; i < rows * kLanes; ++i) {
    const Guess from(format, i, guess[i]);
    const auto order = OrderOf(from.floor, exact[i]);
    const auto distance = static_cast<int16_t>((order - from.origin) ^ from.sign);
    const int32_t symbol = (distance >> from.low_bits) + kTailOffset;
    const bool known = symbol >= 0 && symbol < static_cast<int32_t>(kTailEscape) &&
                       (exact[i] & (kSign - 1)) >= from.floor;
    const uint16_t* codes = code.by_symbol.data() + from.context * kTailSymbols;
    const uint16_t escape = codes[kTailEscape];
    const uint16_t own = known ? codes[symbol] : escape;
    if (own == kNoCode) return kUncodable;
    uint32_t low = static_cast<uint16_t>(distance) & ((1U << from.low_bits) - 1);
    if (own == escape) {
      StoreWord(escapes, escaped++, exact[i]);
      low = 0;
    }
    const uint32_t length = own >> 8;
    bits->bits[i] = static_cast<uint16_t>(low << length | (own & 0xFF));
    bits->lengths[i] = static_cast<uint8_t>(length + from.low_bits);
  }
  return escaped;
}

uint32_t DecodeTailScalar(const TailFormat& format, const TailCode& code,
                          std::span<StreamReader> streams, const uint8_t* escapes,
                          uint32_t escape_count, uint32_t rows, uint16_t* guess) {
  uint32_t used = 0;
  for (uint32_t row = 0; row < rows; ++row) {
    StreamReader& stream = streams[row % streams.size()];
    for (uint32_t lane = 0; lane < kLanes; ++lane) {
      uint16_t& value = guess[row * kLanes + lane];
      const Guess from(format, row * kLanes + lane, value);
      uint32_t& state = stream.states[lane];
      const uint16_t entry = code.by_slot[from.context * kTailSlots + (state & (kTailSlots - 1))];
      const uint32_t length = entry >> 8;
      const uint32_t low = (state & 0xFFFF) >> length & ((1U << from.low_bits) - 1);
      state >>= length + from.low_bits;
      const uint32_t symbol = entry & 0xFF;
      if (symbol == kTailEscape) {
        if (used == escape_count) return escape_count + 1;
        value = LoadWord(escapes, used++);
        continue;
      }
      const uint32_t distance = (symbol - kTailOffset) << from.low_bits | low;
      value = BitsOf(from.floor, static_cast<uint16_t>(from.origin + (distance ^ from.sign)));
    }
    for (uint32_t& state : stream.states) Refill(state, stream);
  }
  return used;
}

void EncodeTailScalar(std::span<const TailBits> channels, std::span<StreamWriter> streams,
                      uint32_t rows) {
  for (size_t channel = channels.size(); channel-- > 0;) {
    const TailBits& tail = channels[channel];
    for (uint32_t row = rows; row-- > 0;) {
      StreamWriter& stream = streams[row % streams.size()];
      for (uint32_t i = (row + 1) * kLanes; i-- > row * kLanes;) {
        Spill(stream.states[i % kLanes], stream, 1, tail.lengths[i]);
      }
      for (uint32_t i = row * kLanes; i < (row + 1) * kLanes; ++i) {
        uint32_t& state = stream.states[i % kLanes];
        state = state << tail.lengths[i] | tail.bits[i];
      }
    }
  }
}

}  // namespace reprise::progressive
