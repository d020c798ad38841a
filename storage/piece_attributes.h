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
  std::optional<Key>
      parent{};  // the piece of the chunk before, same slot; nullopt for a first chunk
  // Of the wall clock, in seconds since 1970 (Clock::WallSeconds): from then on the piece is of no
  // use, and absent to everyone. 0: never.
  uint32_t expires_at_s = 0;
  uint64_t position = 0;  // the chunk's number in its sequence
  double recompute_seconds = 0;

  bool ExpiredAt(uint32_t now_s) const { return expires_at_s != 0 && expires_at_s <= now_s; }
};

}  // namespace reprise::storage
