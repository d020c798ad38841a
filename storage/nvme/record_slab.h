// Memory for very many small blocks of a few sizes, each named by a 32-bit number.
//
// A million records in blocks of their own from malloc would cost 16 bytes each for their headers
// and 8 for every pointer to one. Here a block costs its bytes rounded up to 8 and its number 4.
// Blocks of one size are carved from chunks of kChunkBytes; a chunk keeps its size for ever, so
// that a number whose block was freed can still be looked at: the block's first word is then 0.
// Not thread-safe.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include "common/bytes.h"

namespace reprise::storage {

class RecordSlab {
 public:
  using Number = uint32_t;

  static constexpr size_t kUnitBytes = 8;
  static constexpr size_t kMaxBlockBytes = 512;

  // `bytes` is 12 to kMaxBlockBytes. The block's content is undefined; its first word must be made
  // other than 0. Aligned to kUnitBytes.
  Number Allocate(size_t bytes) {
    const size_t units = (bytes + kUnitBytes - 1) / kUnitBytes;
    Number& first = free_[units];
    if (first == kNone) AddChunk(units);
    const Number number = first;
    std::memcpy(&first, Block(number) + sizeof(uint32_t), sizeof(first));
    return number;
  }

  void Free(Number number) {
    std::byte* block = Block(number);
    Number& first = free_[chunks_[number / kUnitsPerChunk].units];
    std::memset(block, 0, sizeof(uint32_t));
    std::memcpy(block + sizeof(uint32_t), &first, sizeof(first));
    first = number;
  }

  std::byte* Block(Number number) {
    return chunks_[number / kUnitsPerChunk].bytes.get() + number % kUnitsPerChunk * kUnitBytes;
  }
  const std::byte* Block(Number number) const {
    return const_cast<RecordSlab*>(this)->Block(number);
  }

  // The length it was allocated with, rounded up.
  size_t BlockBytes(Number number) const {
    return chunks_[number / kUnitsPerChunk].units * kUnitBytes;
  }

  // Of all chunks.
  size_t bytes() const { return chunks_.size() * kChunkBytes; }

 private:
  static constexpr size_t kChunkBytes = 64 << 10;
  static constexpr size_t kUnitsPerChunk = kChunkBytes / kUnitBytes;
  static constexpr Number kNone = UINT32_MAX;
  struct Chunk {
    std::unique_ptr<std::byte[]> bytes;
    size_t units;
  };

  void AddChunk(size_t units) {
    const Number base = static_cast<Number>(chunks_.size() * kUnitsPerChunk);
    chunks_.push_back({std::make_unique<std::byte[]>(kChunkBytes), units});
    // From the last to the first, so that the first is taken first.
    for (size_t at = kUnitsPerChunk / units; at > 0; --at) {
      Free(base + static_cast<Number>((at - 1) * units));
    }
  }

  static constexpr std::array<Number, kMaxBlockBytes / kUnitBytes + 1> AllNone() {
    std::array<Number, kMaxBlockBytes / kUnitBytes + 1> none{};
    for (Number& one : none) one = kNone;
    return none;
  }

  std::vector<Chunk> chunks_;
  std::array<Number, kMaxBlockBytes / kUnitBytes + 1> free_ = AllNone();  // by units
};

}  // namespace reprise::storage
