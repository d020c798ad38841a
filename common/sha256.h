// SHA-256 (FIPS 180-4) through OpenSSL, and the 32-byte digests that name everything in Reprise.
#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "common/bytes.h"

namespace reprise {

// 32 bytes of SHA-256. Ordered and hashable; the hash is the first eight bytes, which are already
// uniform.
struct Digest {
  std::array<std::byte, 32> bytes{};

  std::string Hex() const { return ToHex(bytes); }
  // nullopt unless `hex` is 64 hexadecimal digits.
  static std::optional<Digest> FromHex(std::string_view hex);
  // nullopt unless `bytes` is exactly 32 bytes long.
  static std::optional<Digest> FromBytes(std::string_view bytes);
  std::string_view AsString() const { return AsText(bytes); }

  friend auto operator<=>(const Digest&, const Digest&) = default;

  template <typename H>
  friend H AbslHashValue(H state, const Digest& digest) {
    uint64_t head = 0;
    std::memcpy(&head, digest.bytes.data(), sizeof(head));
    return H::combine(std::move(state), head);
  }
};

// Incremental hashing. Not thread-safe; one object hashes one message.
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(const Sha256&) = delete;
  Sha256& operator=(const Sha256&) = delete;

  Sha256& Update(ByteSpan bytes);
  Sha256& Update(std::string_view text) { return Update(AsBytes(text)); }
  // Ends the message; the object must not be used again.
  Digest Finish();

  static Digest Of(ByteSpan bytes) { return Sha256().Update(bytes).Finish(); }

 private:
  struct Context;
  std::unique_ptr<Context> context_;
};

}  // namespace reprise
