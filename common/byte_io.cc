#include "common/byte_io.h"

#include <bit>

namespace reprise {

uint64_t ByteReader::Unsigned(size_t size) {
  const ByteSpan field = Bytes(size);
  uint64_t value = 0;
  for (size_t i = field.size(); i > 0; --i) {
    value = (value << 8) | std::to_integer<uint64_t>(field[i - 1]);
  }
  return value;
}

float ByteReader::F32() { return std::bit_cast<float>(U32()); }
double ByteReader::F64() { return std::bit_cast<double>(U64()); }

ByteSpan ByteReader::Bytes(uint64_t size) {
  if (!ok_ || size > remaining()) {
    ok_ = false;
    return {};
  }
  const ByteSpan result = bytes_.subspan(position_, size);
  position_ += size;
  return result;
}

ByteSpan ByteReader::LengthPrefixed(uint32_t max_size) {
  const uint32_t size = U32();
  if (size > max_size) ok_ = false;
  return Bytes(size);
}

void ByteWriter::Unsigned(uint64_t value, size_t size) {
  for (size_t i = 0; i < size; ++i) {
    bytes_.push_back(static_cast<std::byte>(value >> (8 * i)));
  }
}

void ByteWriter::F32(float value) { U32(std::bit_cast<uint32_t>(value)); }
void ByteWriter::F64(double value) { U64(std::bit_cast<uint64_t>(value)); }

void ByteWriter::Bytes(ByteSpan bytes) { bytes_.insert(bytes_.end(), bytes.begin(), bytes.end()); }

void ByteWriter::LengthPrefixed(ByteSpan bytes) {
  U32(static_cast<uint32_t>(bytes.size()));
  Bytes(bytes);
}

std::optional<uint64_t> CheckedAdd(uint64_t a, uint64_t b) {
  uint64_t sum = 0;
  if (__builtin_add_overflow(a, b, &sum)) return std::nullopt;
  return sum;
}

std::optional<uint64_t> CheckedMultiply(uint64_t a, uint64_t b) {
  uint64_t product = 0;
  if (__builtin_mul_overflow(a, b, &product)) return std::nullopt;
  return product;
}

}  // namespace reprise
