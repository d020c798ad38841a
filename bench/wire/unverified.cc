// Linked into wire_client_bare in the place of PieceMeta::VerifySegment (see CMakeLists.txt), so
// that no build that users run has a way to leave verification out.

#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

#include "chunk/container.h"

namespace reprise::bench {

// The name below is made of these types.
static_assert(std::is_same_v<decltype(&PieceMeta::VerifySegment),
                             absl::Status (PieceMeta::*)(uint32_t, ByteSpan) const>);
static_assert(std::is_same_v<ByteSpan, std::span<const std::byte>>);

absl::Status Unverified(const PieceMeta* meta, uint32_t index, ByteSpan bytes) asm(
    "__wrap__ZNK7reprise9PieceMeta13VerifySegmentEjSt4spanIKSt4byteLm18446744073709551615EE");

absl::Status Unverified(const PieceMeta* /*meta*/, uint32_t /*index*/, ByteSpan /*bytes*/) {
  return absl::OkStatus();
}

}  // namespace reprise::bench
