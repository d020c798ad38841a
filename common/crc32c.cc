#include "common/crc32c.h"

#include <algorithm>
#include <cstddef>

#include <isa-l/crc.h>

namespace reprise {

uint32_t Crc32c(ByteSpan bytes) { return ExtendCrc32c(0, bytes); }

uint32_t ExtendCrc32c(uint32_t crc, ByteSpan bytes) {
  // ISA-L takes an int length and leaves the two inversions of the standard to the caller.
  constexpr size_t kMaxStep = size_t{1} << 30;
  unsigned int state = ~crc;
  while (!bytes.empty()) {
    const size_t step = std::min(bytes.size(), kMaxStep);
    // The parameter is not const in ISA-L's prototype, but is only read.
    auto* data = const_cast<unsigned char*>(reinterpret_cast<const unsigned char*>(bytes.data()));
    state = crc32_iscsi(data, static_cast<int>(step), state);
    bytes = bytes.subspan(step);
  }
  return ~state;
}

}  // namespace reprise
