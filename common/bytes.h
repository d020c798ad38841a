// Spans of raw bytes, and bytes whose lifetime is shared.
//
// Every layer that hands memory on without copying it speaks in these types. ByteSpan and
// MutableByteSpan borrow: the callee must not keep them. SharedBytes owns: the memory stays valid,
// and is not reused, until the last copy is gone. All are plain values; SharedBytes is as
// thread-safe as the shared_ptr inside.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>

namespace reprise {

using ByteSpan = std::span<const std::byte>;
using MutableByteSpan = std::span<std::byte>;

// The bytes of a string, without copying it.
inline ByteSpan AsBytes(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}
inline std::string_view AsText(ByteSpan bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// Immutable bytes kept alive by `owner`. Dropping the last copy of `owner` is how a buffer returns
// to its pool, an extent to its arena, and (for received bulk) how credit returns to the sender.
class SharedBytes {
 public:
  SharedBytes() = default;
  SharedBytes(ByteSpan bytes, std::shared_ptr<const void> owner)
      : bytes_(bytes), owner_(std::move(owner)) {}

  // Copies `bytes` into memory of their own. For tests and small messages, not for the data path.
  static SharedBytes CopyOf(ByteSpan bytes);

  ByteSpan bytes() const { return bytes_; }
  const std::byte* data() const { return bytes_.data(); }
  size_t size() const { return bytes_.size(); }
  bool empty() const { return bytes_.empty(); }

  // A part of these bytes that keeps the same owner alive. `offset + size` must lie within size().
  SharedBytes Slice(size_t offset, size_t size) const {
    return {bytes_.subspan(offset, size), owner_};
  }

 private:
  ByteSpan bytes_;
  std::shared_ptr<const void> owner_;
};

// Lower-case hexadecimal. FromHex gives false, leaving `out` unspecified, unless `hex` is exactly 2
// * out.size() hex digits.
std::string ToHex(ByteSpan bytes);
[[nodiscard]] bool FromHex(std::string_view hex, MutableByteSpan out);

}  // namespace reprise
