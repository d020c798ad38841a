// The numbers of the progressive format, version 1, frozen (docs/codec-format.md gives every
// field): what encoder, decoder and kernels of every instruction set must agree on.
//
// One layer's K or V of a piece is a matrix [tokens, channels], channels being heads x dims. It is
// cut into tiles of at most 256 tokens x 256 channels; a tile is coded on its own. Every channel of
// a tile has a class, its standard deviation in quarter octaves of the base step. The class decides
// in which plane the channel enters and which table codes it there; every later plane adds one bit.
//
// Constants and pure functions.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace reprise::progressive {

inline constexpr uint8_t kFormatVersion = 1;

inline constexpr uint32_t kTileTokens = 256;
inline constexpr uint32_t kTileChannels = 256;
// A row is what 32 lanes code in one step: 32 consecutive tokens of one channel.
inline constexpr uint32_t kLanes = 32;
inline constexpr uint32_t kTileRows = kTileTokens / kLanes;
// Streams side by side, because one alone waits for its own arithmetic. Row r of a channel belongs
// to stream r % streams. The lossless plane has two, as it has more to do besides.
inline constexpr uint32_t kStreams = 4;

// Lossy planes; the lossless plane follows. Plane p has cells of step / 2^p.
inline constexpr uint32_t kLossyPlanes = 5;
inline constexpr uint32_t kPlanes = kLossyPlanes + 1;

// The first tokens of a sequence are attention sinks: as they are, in plane 0.
inline constexpr uint32_t kSinkTokens = 4;

// rANS: 32-bit states in [2^16, 2^32), 16-bit words, frequencies of 128.
inline constexpr uint32_t kStateFloor = 1u << 16;
inline constexpr uint32_t kSlotBits = 7;
inline constexpr uint32_t kSlots = 1u << kSlotBits;

// Base symbols: cell n of [-7, 6] is n + 7; others are kEscape, and the cell follows as 16 bits.
inline constexpr int32_t kCellOffset = 7;
inline constexpr uint32_t kEscape = 14;
inline constexpr uint32_t kSymbols = 15;

// Classes, in quarter octaves. A channel enters when its deviation is at least kClassFloor of the
// plane's step; above kClassCeiling it has raw bits besides its symbol.
inline constexpr int32_t kClassesPerOctave = 4;
inline constexpr int32_t kClassFloor = -2;
inline constexpr int32_t kClassCeiling = 3;
inline constexpr uint32_t kTables = kClassCeiling - kClassFloor + 1;
// A class is stored as class + kClassBias in one byte; 0 is a channel that never enters.
inline constexpr int32_t kClassBias = 32;
inline constexpr int32_t kClassMaximum = 27;  // 6 octaves above the ceiling: 6 raw bits

// Cells of the last lossy plane are held to this magnitude; what lies beyond is far off in lossy
// levels and exact in the lossless one.
inline constexpr int32_t kCellLimit = (1 << 14) - 1;

// How a channel of a class is coded.
struct ClassCode {
  uint32_t entry = kLossyPlanes;  // the plane of its symbol; kLossyPlanes: never
  uint32_t extra = 0;             // raw bits with the symbol, only in plane 0
  uint32_t table = 0;
};

constexpr int32_t CeilDivide(int32_t a, int32_t b) { return a > 0 ? (a + b - 1) / b : -(-a / b); }

// `stored`: the byte, at most kClassMaximum + kClassBias.
constexpr ClassCode CodeOf(uint32_t stored) {
  ClassCode code;
  if (stored == 0) return code;
  code.entry = 0;
  int32_t value = static_cast<int32_t>(stored) - kClassBias;
  if (value < kClassFloor) {
    code.entry = static_cast<uint32_t>(CeilDivide(kClassFloor - value, kClassesPerOctave));
    value += static_cast<int32_t>(code.entry) * kClassesPerOctave;
  } else if (value > kClassCeiling) {
    code.extra = static_cast<uint32_t>(CeilDivide(value - kClassCeiling, kClassesPerOctave));
    value -= static_cast<int32_t>(code.extra) * kClassesPerOctave;
  }
  if (code.entry > kLossyPlanes) code.entry = kLossyPlanes;
  code.table = static_cast<uint32_t>(value - kClassFloor);
  return code;
}

// A channel's step is the base step times 2^-octaves, octaves from -kOctaveLimit - 1 to
// kOctaveLimit.
inline constexpr int32_t kOctaveLimit = 7;

// The lossless plane: symbols of 16 in prefix codes of at most 6 bits, then raw bits. tail.h has
// what they mean.
inline constexpr uint32_t kTailSymbols = 16;  // distances -8 to 6 in units, and the escape
inline constexpr int32_t kTailOffset = 8;
inline constexpr uint32_t kTailEscape = 15;
inline constexpr uint32_t kTailSlotBits = 6;
inline constexpr uint32_t kTailSlots = 1u << kTailSlotBits;

}  // namespace reprise::progressive
