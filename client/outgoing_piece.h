// Pieces as Publish sends them: encoded, with what the store wants to know about them.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "chunk/quality.h"
#include "client/operation.h"
#include "client/reprise.h"
#include "common/bytes.h"
#include "common/status.h"

namespace reprise::client {

struct OutgoingPiece {
  Key key;
  std::optional<Key> parent;  // the piece of the chunk before, same slot
  uint64_t position = 0;
  double recompute_seconds = 0;
  SharedBytes container;
  PieceQuality quality;  // of the planes that the container has

  // Whether a store that holds `state` under the key would have no use for this piece.
  bool IsReachedBy(const PieceState& state) const;
  // Whether it would have the first planes of this very piece.
  bool IsBegunBy(const PieceState& state) const {
    return state.content_id == quality.content_id && state.planes_held < quality.planes;
  }
};

// Encodes every piece of `chunk_count` chunks from options.first_chunk on, on the caller's thread.
// The encoded bytes count against options.send_bytes of the client until they are sent:
// RESOURCE_EXHAUSTED beyond. INVALID_ARGUMENT when chunks or views do not match the keys.
absl::StatusOr<std::vector<OutgoingPiece>> EncodeChunks(Core& core, const PrefixKeys& keys,
                                                        uint32_t chunk_count,
                                                        std::span<const GroupViews> views,
                                                        const PublishOptions& options);

// A container, whole or cut to a level, under the key in its header. DATA_LOSS or UNIMPLEMENTED as
// PieceMeta::Parse, DATA_LOSS when it ends elsewhere than its levels do.
absl::StatusOr<OutgoingPiece> WrapContainer(SharedBytes container, uint64_t position);

}  // namespace reprise::client
