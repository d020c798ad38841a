// What is known of a piece besides its bytes: whose it is and what publishing said about it. Plain
// values.
#pragma once

#include <cstdint>
#include <optional>

#include "chunk/keys.h"

namespace reprise::storage {

// Small numbers that the service gives to tenants.
using TenantId = uint32_t;

// What publishing says about a piece, for the policy.
struct PieceAttributes {
  std::optional<Key> parent{};  // the piece of the chunk before, same slot; nullopt for a first chunk
  uint64_t position = 0;      // the chunk's number in its sequence
  double recompute_seconds = 0;
};

}  // namespace reprise::storage
