// From the tensors of a call to the tensors of one piece. Pure functions.
#pragma once

#include <cstdint>
#include <span>

#include "chunk/keys.h"
#include "chunk/namespace.h"
#include "client/reprise.h"
#include "common/status.h"

namespace reprise::client {

// INVALID_ARGUMENT, naming the group and what differs, unless `views` has the namespace's groups,
// each as ShapeOf says for `chunk_count` chunks.
absl::Status CheckViews(const Namespace& name_space, uint32_t chunk_count,
                        std::span<const GroupViews> views);

// INVALID_ARGUMENT unless chunks [first, first + count), at least one, are among those of `keys`.
absl::Status CheckChunks(const PrefixKeys& keys, uint32_t first, uint32_t count);

// The part of checked `views` that piece `slot` of chunk `chunk` (counted from the views' first)
// covers.
GroupViews PieceViews(const Namespace& name_space, std::span<const GroupViews> views,
                      const PieceSlot& slot, uint32_t chunk);

}  // namespace reprise::client
