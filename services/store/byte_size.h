// Sizes as people write them: "512MiB", "8GB", "4096".
//
// For flags, configuration files and messages. Pure functions.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "common/status.h"

namespace reprise::store {

// A whole number of bytes, with an optional unit: KiB, MiB, GiB, TiB (powers of 1024) or kB, MB,
// GB, TB (powers of 1000). INVALID_ARGUMENT, quoting `text`, for anything else and for what does
// not fit 64 bits.
absl::StatusOr<uint64_t> ParseByteSize(std::string_view text);

// The largest binary unit that divides `bytes` to at most one decimal: "1.5 GiB", "300 MiB", "17
// B".
std::string FormatByteSize(uint64_t bytes);

}  // namespace reprise::store
