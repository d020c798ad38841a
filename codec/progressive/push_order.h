// The order in which vector kernels push rows onto interleaved streams: the last channel and row
// first, since what was pushed last is popped first. Streams that take turns evenly are kept in
// registers together.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "codec/progressive/format.h"
#include "codec/progressive/kernels.h"

namespace reprise::progressive {
// Unnamed: what is compiled for some instructions must not be merged with another file's.
namespace {  // NOLINT(google-build-namespaces)

// `Lanes` are a stream's states, made from a StreamWriter and saved to it; `Table` is made of a
// channel's SymbolTable once and has PushRow(symbols, lanes).
template <typename Table, typename Lanes>
inline void PushSymbols(std::span<const CodedSymbols> channels, std::span<StreamWriter> streams,
                        uint32_t rows) {
  if (streams.size() != kStreams || rows % kStreams != 0) {
    for (size_t channel = channels.size(); channel-- > 0;) {
      const Table table(*channels[channel].table);
      for (uint32_t row = rows; row-- > 0;) {
        StreamWriter& stream = streams[row % streams.size()];
        Lanes lanes(stream);
        table.PushRow(channels[channel].symbols + row * kLanes, lanes);
        lanes.Save(stream);
      }
    }
    return;
  }
  Lanes s0(streams[0]);
  Lanes s1(streams[1]);
  Lanes s2(streams[2]);
  Lanes s3(streams[3]);
  for (size_t channel = channels.size(); channel-- > 0;) {
    const Table table(*channels[channel].table);
    for (uint32_t row = rows; row > 0; row -= kStreams) {
      const uint8_t* symbols = channels[channel].symbols + (row - kStreams) * kLanes;
      table.PushRow(symbols + 3 * kLanes, s3);
      table.PushRow(symbols + 2 * kLanes, s2);
      table.PushRow(symbols + kLanes, s1);
      table.PushRow(symbols, s0);
    }
  }
  s0.Save(streams[0]);
  s1.Save(streams[1]);
  s2.Save(streams[2]);
  s3.Save(streams[3]);
}

// Of the lossless plane, by push_row(tail, row, lanes).
template <typename Lanes, typename PushRow>
inline void PushTails(std::span<const TailBits> channels, std::span<StreamWriter> streams,
                      uint32_t rows, PushRow push_row) {
  if (streams.size() == 2 && rows % 2 == 0) {
    Lanes even(streams[0]);
    Lanes odd(streams[1]);
    for (size_t channel = channels.size(); channel-- > 0;) {
      for (uint32_t row = rows; row > 0; row -= 2) {
        push_row(channels[channel], row - 1, odd);
        push_row(channels[channel], row - 2, even);
      }
    }
    even.Save(streams[0]);
    odd.Save(streams[1]);
    return;
  }
  for (size_t channel = channels.size(); channel-- > 0;) {
    for (uint32_t row = rows; row-- > 0;) {
      Lanes lanes(streams[row % streams.size()]);
      push_row(channels[channel], row, lanes);
      lanes.Save(streams[row % streams.size()]);
    }
  }
}

}  // namespace
}  // namespace reprise::progressive
