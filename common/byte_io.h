// Little-endian reading and writing of binary formats, with every length checked.
//
// ByteReader never reads outside its span and never overflows: after a failed read it stays failed,
// so a parser may read a whole fixed structure and test ok() once, before it uses any value.
// ByteWriter appends to a vector that it owns. Neither is thread-safe.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "common/bytes.h"

namespace reprise {

class ByteReader {
 public:
  explicit ByteReader(ByteSpan bytes) : bytes_(bytes) {}

  uint8_t U8() { return static_cast<uint8_t>(Unsigned(1)); }
  uint16_t U16() { return static_cast<uint16_t>(Unsigned(2)); }
  uint32_t U32() { return static_cast<uint32_t>(Unsigned(4)); }
  uint64_t U64() { return Unsigned(8); }
  float F32();
  double F64();
  // Borrows the next `size` bytes; empty, and failed, when fewer are left.
  ByteSpan Bytes(uint64_t size);
  // A u32 length of at most `max_size`, then that many bytes.
  ByteSpan LengthPrefixed(uint32_t max_size);

  bool ok() const { return ok_; }
  // True when all reads succeeded and nothing is left.
  bool AtEnd() const { return ok_ && position_ == bytes_.size(); }
  size_t position() const { return position_; }
  size_t remaining() const { return bytes_.size() - position_; }

 private:
  uint64_t Unsigned(size_t size);

  ByteSpan bytes_;
  size_t position_ = 0;
  bool ok_ = true;
};

class ByteWriter {
 public:
  void U8(uint8_t value) { Unsigned(value, 1); }
  void U16(uint16_t value) { Unsigned(value, 2); }
  void U32(uint32_t value) { Unsigned(value, 4); }
  void U64(uint64_t value) { Unsigned(value, 8); }
  void F32(float value);
  void F64(double value);
  void Bytes(ByteSpan bytes);
  // A u32 length, then the bytes. `bytes` must be shorter than 4 GiB.
  void LengthPrefixed(ByteSpan bytes);
  void LengthPrefixed(std::string_view text) { LengthPrefixed(AsBytes(text)); }
  void Zeros(size_t count) { bytes_.resize(bytes_.size() + count); }

  size_t size() const { return bytes_.size(); }
  ByteSpan bytes() const { return bytes_; }
  std::vector<std::byte> Take() && { return std::move(bytes_); }

 private:
  void Unsigned(uint64_t value, size_t size);

  std::vector<std::byte> bytes_;
};

// Sums and products of hostile lengths; nullopt on overflow.
std::optional<uint64_t> CheckedAdd(uint64_t a, uint64_t b);
std::optional<uint64_t> CheckedMultiply(uint64_t a, uint64_t b);

// `value` rounded up to a multiple of `alignment` (a power of two). `value` must be below 2^63.
constexpr uint64_t AlignUp(uint64_t value, uint64_t alignment) {
  return (value + alignment - 1) & ~(alignment - 1);
}

}  // namespace reprise
