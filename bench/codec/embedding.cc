#include "bench/codec/embedding.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <span>
#include <vector>

#include "codec/progressive/kernels.h"
#include "codec/progressive/tables.h"
#include "codec/progressive/tiling.h"

namespace reprise::bench {

using progressive::Kernels;
using progressive::kLanes;
using progressive::kLossyPlanes;
using progressive::StreamReader;

// Decodes as the scalar kernels do, and counts. What is counted goes to the one object that asked.
struct CountingKernels {
  static Kernels Make() {
    Kernels kernels = progressive::ScalarKernels();
    kernels.decode_symbols = DecodeSymbols;
    kernels.reconstruct = Reconstruct;
    return kernels;
  }

  static void DecodeSymbols(const progressive::SlotTable& decoded_table,
                            std::span<StreamReader> streams, uint32_t rows, uint8_t* symbols) {
    table = 0;
    while (!std::ranges::equal(progressive::BaseFrequencies(table), decoded_table.frequency_of)) {
      ++table;
    }
    for (const StreamReader& stream : streams) payload_bits -= 16 * Position(stream);
    progressive::ScalarKernels().decode_symbols(decoded_table, streams, rows, symbols);
    for (const StreamReader& stream : streams) payload_bits += 16 * Position(stream);
    stream_count = streams.size();
  }

  static uint32_t Reconstruct(const uint8_t* symbols, const uint8_t* escapes, uint32_t escape_count,
                              std::span<const uint8_t* const> planes, uint32_t rows,
                              const progressive::Placement& placement, float* values) {
    // Every plane behind the symbol has brought the class an octave up.
    const int32_t level_class =
        static_cast<int32_t>(table) + progressive::kClassFloor +
        static_cast<int32_t>(planes.size()) * progressive::kClassesPerOctave;
    EmbeddingCost::Cells& cells = to->by_class[level_class];
    const uint8_t* escape = escapes;
    for (uint32_t i = 0; i < rows * kLanes; ++i) {
      int32_t cell = int32_t{symbols[i]} - progressive::kCellOffset;
      if (symbols[i] == progressive::kEscape) {
        int16_t word = 0;
        std::memcpy(&word, escape, sizeof(word));
        escape += sizeof(word);
        cell = word;
      }
      for (const uint8_t* plane : planes) {
        uint32_t row_bits = 0;
        std::memcpy(&row_bits, plane + i / kLanes * sizeof(row_bits), sizeof(row_bits));
        cell = 2 * cell + static_cast<int32_t>(row_bits >> i % kLanes & 1);
      }
      ++cells[cell];
    }
    payload_bits += static_cast<int64_t>(planes.size() * rows * kLanes);
    payload_bits += 8 * (escape - escapes);
    return progressive::ScalarKernels().reconstruct(symbols, escapes, escape_count, planes, rows,
                                                    placement, values);
  }

  static int64_t Position(const StreamReader& stream) {
    return static_cast<int64_t>(reinterpret_cast<uintptr_t>(stream.words) / sizeof(uint16_t));
  }

  static inline EmbeddingCost::Plane* to = nullptr;
  static inline uint32_t table = 0;
  static inline int64_t payload_bits = 0;  // words, bits and escapes of what was decoded
  static inline size_t stream_count = 0;
};

void EmbeddingCost::Add(const progressive::BlockShape& shape, const TensorView& view,
                        uint64_t position, const progressive::EncodedBlock& block) {
  static const Kernels kernels = CountingKernels::Make();
  progressive::BlockDecoder decoder(shape, kernels);
  std::vector<std::byte> memory(size_t{2} * view.shape[1] * shape.heads * shape.dims);
  TensorView to = view;
  to.data = memory.data();
  values_ += memory.size() / 2;
  std::array<ByteSpan, kLossyPlanes> planes;
  uint64_t stored_bits = 0;
  uint64_t side_bits = 0;
  const size_t tiles = progressive::SpanCount(view.shape[1]) *
                       progressive::Tiling::Of(shape.heads, shape.dims, shape.rope).tiles.size();
  for (uint32_t plane = 0; plane < kLossyPlanes; ++plane) {
    planes[plane] = std::as_bytes(std::span(block.planes[plane]));
    stored_bits += 8 * planes[plane].size();
    CountingKernels::to = &planes_[plane];
    CountingKernels::payload_bits = 0;
    CountingKernels::stream_count = 0;
    if (!decoder.Decode(std::span(planes).first(plane + 1), position, to).ok()) continue;
    if (plane == 0) {
      // A state has 24 bits more than what its lane codes, of 32: 16 that it begins with, and 8 on
      // the average that it could still have taken. The others are payload.
      side_bits = stored_bits - static_cast<uint64_t>(CountingKernels::payload_bits) -
                  8 * kLanes * CountingKernels::stream_count * tiles;
    }
    planes_[plane].stored_bits += stored_bits;
    planes_[plane].side_bits += side_bits;
  }
}

double EmbeddingCost::EmbeddedBits(uint32_t plane) const {
  return static_cast<double>(planes_[plane].stored_bits);
}

double EmbeddingCost::SingleRateBits(uint32_t plane) const {
  auto bits = static_cast<double>(planes_[plane].side_bits);
  for (const auto& [level_class, cells] : planes_[plane].by_class) {
    double total = 0;
    for (const auto& [cell, count] : cells) total += static_cast<double>(count);
    for (const auto& [cell, count] : cells) {
      bits += static_cast<double>(count) * std::log2(total / static_cast<double>(count));
    }
  }
  return bits;
}

}  // namespace reprise::bench
