// The bytes of a container's header and directory (docs/container.md): reading, writing, and the
// content id.
//
// Internal to chunk and its tests: everybody else uses container.h, which never gives out a
// PieceMeta whose content id does not match. Pure functions, thread-safe.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "chunk/container.h"
#include "common/bytes.h"
#include "common/status.h"

namespace reprise {

// Where the 32 bytes of the content id stand; they are left out of what it is computed from.
inline constexpr size_t kContentIdOffset = 16;

// A header and directory that are well formed, but whose content id has not been compared.
struct ParsedMeta {
  PieceHeader header;
  std::vector<Segment> segments;
  size_t meta_bytes = 0;   // padding included
  size_t field_bytes = 0;  // header and directory without padding
};

// Everything PieceMeta::Parse checks, except the content id. Same errors.
absl::StatusOr<ParsedMeta> ParseFields(ByteSpan bytes);

// Header and directory without padding. The header and segments have passed the rules of
// container_rules.h.
std::vector<std::byte> WriteFields(const PieceHeader& header, std::span<const Segment> segments);

// Length of what WriteFields gives.
size_t FieldBytes(const PieceHeader& header, size_t segment_count);

// The content id of header and directory `fields`, without padding: SHA-256 of all but the content
// id itself.
ContentId ComputeContentId(ByteSpan fields);

// True when all bytes are zero.
bool IsZero(ByteSpan bytes);

}  // namespace reprise
