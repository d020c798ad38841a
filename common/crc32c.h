// CRC-32C (Castagnoli, reflected polynomial 0x82F63B78, RFC 3720 section 12.1).
#pragma once

#include <cstdint>

#include "common/bytes.h"

namespace reprise {

// The checksum of `bytes`: Crc32c("123456789") is 0xE3069283.
uint32_t Crc32c(ByteSpan bytes);

// The checksum of a message whose first part has checksum `crc` and whose rest is `bytes`.
uint32_t ExtendCrc32c(uint32_t crc, ByteSpan bytes);

}  // namespace reprise
