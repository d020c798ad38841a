// From token ids to keys (DESIGN section 4; docs/keys.md has the test vectors).
//
//   prefix id[0]   = SHA-256("reprise/1" | canonical namespace | tenant secret)
//   prefix id[i+1] = SHA-256(prefix id[i] | tokens of chunk i as little-endian u32 | extras of
//   chunk i) key            = SHA-256("piece" | prefix id | layer group | layer range | KV-head
//   range)
//
// Keys come from token ids only: never from an engine's own block hashes, never from a hash seeded
// by a process. Plain values; const use is thread-safe.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "chunk/namespace.h"
#include "common/sha256.h"
#include "common/status.h"

namespace reprise {

// Distinct types, so that a content id is never taken for a key.
struct PrefixId {
  Digest digest;
  friend auto operator<=>(const PrefixId&, const PrefixId&) = default;
};
struct Key {
  Digest digest;
  friend auto operator<=>(const Key&, const Key&) = default;
  template <typename H>
  friend H AbslHashValue(H state, const Key& key) {
    return H::combine(std::move(state), key.digest);
  }
};
struct ContentId {
  Digest digest;
  friend auto operator<=>(const ContentId&, const ContentId&) = default;
};

// Which part of a chunk's KV a piece holds. Layers count within the group; ranges are half open.
struct PieceSlot {
  uint32_t group = 0;
  uint32_t layer_begin = 0;
  uint32_t layer_end = 0;
  uint32_t head_begin = 0;
  uint32_t head_end = 0;

  friend bool operator==(const PieceSlot&, const PieceSlot&) = default;
};

// Every piece of one chunk, in canonical order: by group, then layers, then heads. `name_space`
// must be valid.
std::vector<PieceSlot> PiecesPerChunk(const Namespace& name_space);

Key PieceKey(const PrefixId& prefix, const PieceSlot& slot);

// The keys of one token sequence under one namespace.
class PrefixKeys {
 public:
  // One digest per whole chunk of `tokens`; a last, partial chunk has none. `extras[i]` names what
  // the token ids of chunk i do not show (images, prompt embeddings); `extras` may be shorter than
  // the chunks, missing ones are empty. `tenant_secret` may be empty. INVALID_ARGUMENT for an
  // invalid namespace, one without tokens, or too many extras.
  static absl::StatusOr<PrefixKeys> Create(const Namespace& name_space,
                                           std::string_view tenant_secret,
                                           std::span<const uint32_t> tokens,
                                           std::span<const std::string> extras = {});

  size_t chunk_count() const { return prefix_ids_.size() - 1; }
  size_t pieces_per_chunk() const { return slots_.size(); }
  const Namespace& name_space() const { return name_space_; }
  const Digest& fingerprint() const { return fingerprint_; }
  const std::vector<PieceSlot>& slots() const { return slots_; }

  // The id of the prefix that ends with chunk `chunk` (0-based): what its pieces' keys are made of.
  const PrefixId& prefix_id(size_t chunk) const { return prefix_ids_[chunk + 1]; }
  // The id before any token.
  const PrefixId& root() const { return prefix_ids_[0]; }
  Key key(size_t chunk, size_t slot) const { return PieceKey(prefix_id(chunk), slots_[slot]); }
  // Of every piece of the first `chunks` chunks, chunk by chunk; at most chunk_count().
  std::vector<Key> AllKeys(size_t chunks) const;

 private:
  PrefixKeys() = default;

  Namespace name_space_;
  Digest fingerprint_;
  std::vector<PieceSlot> slots_;
  std::vector<PrefixId> prefix_ids_;
};

inline constexpr size_t kMaxFileNameBytes = 4096;

// The key of a plain file called `name` in FileNamespace(tenant): the name stands where token ids
// would. No secret goes in. INVALID_ARGUMENT for an empty or too long name or tenant.
absl::StatusOr<Key> FileKey(std::string_view tenant, std::string_view name);

}  // namespace reprise
