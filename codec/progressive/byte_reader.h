// Reads hostile bytes front to back: every read is checked, a failed one makes all later ones fail.
// Not thread-safe; borrows the bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "common/bytes.h"

namespace reprise::progressive {

class ByteReader {
 public:
  ByteReader() = default;
  explicit ByteReader(ByteSpan bytes) : bytes_(bytes) {}

  bool ok() const { return ok_; }
  size_t left() const { return bytes_.size(); }

  // The next `size` bytes; null, and not ok from then on, when there are fewer.
  const uint8_t* Take(size_t size) {
    if (size > bytes_.size()) {
      ok_ = false;
      bytes_ = {};
      return nullptr;
    }
    const auto* taken = reinterpret_cast<const uint8_t*>(bytes_.data());
    bytes_ = bytes_.subspan(size);
    return taken;
  }

  // Little-endian; 0 when not ok.
  template <typename T>
  T Read() {
    T value{};
    if (const uint8_t* bytes = Take(sizeof(T)); bytes != nullptr) {
      std::memcpy(&value, bytes, sizeof(T));
    }
    return value;
  }

 private:
  ByteSpan bytes_;
  bool ok_ = true;
};

}  // namespace reprise::progressive
