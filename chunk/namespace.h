// The namespace: everything that makes two KV tensors interchangeable.
//
// Two engines may exchange KV only when their namespaces have equal canonical encodings. No rank,
// no engine tensor layout and no secret belong in it. docs/keys.md gives the encoding byte by byte.
// Plain values, not thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "chunk/rope.h"
#include "common/bytes.h"
#include "common/sha256.h"
#include "common/status.h"

namespace reprise {

enum class Dtype : uint8_t { kOpaque = 0, kBf16 = 1, kFp16 = 2, kFp32 = 3 };
// Bytes of one value: 2, 2, 4; 1 for kOpaque.
size_t DtypeBytes(Dtype dtype);

enum class GroupKind : uint8_t {
  kFullAttention = 1,
  kSlidingWindow = 2,
  kLatent = 3,  // MLA: one latent per token, no separate V
  kState = 4,   // linear attention, Mamba: opaque bytes
  kOpaque = 5,
};

// True for kState and kOpaque: their tensors are bytes (Dtype::kOpaque) whatever the namespace's
// dtype, and have no V.
bool IsOpaque(GroupKind kind);

// Layers of one kind, and how a chunk of them is cut into pieces.
struct LayerGroup {
  GroupKind kind = GroupKind::kFullAttention;
  std::vector<uint32_t> layers;  // the model's layer indices, ascending
  uint32_t kv_heads = 0;
  uint32_t key_dim = 0;
  uint32_t value_dim = 0;      // 0: no V (latent, state, opaque)
  uint32_t window_tokens = 0;  // sliding window only
  // The piece partition: a piece holds this many consecutive layers and KV heads; the last may hold
  // fewer.
  uint32_t layers_per_piece = 0;
  uint32_t heads_per_piece = 0;
  // Of these layers: groups may differ (Gemma 3: theta 10,000 in sliding layers, 1,000,000 in full
  // ones). Layers without rope beside layers with it are a group of their own.
  Rope rope;

  friend bool operator==(const LayerGroup&, const LayerGroup&) = default;
};

struct Namespace {
  std::string tenant = "default";
  std::string model;
  std::string revision;
  std::string adapter;
  std::string weight_quantization;
  Dtype kv_dtype = Dtype::kOpaque;
  uint32_t chunk_tokens = 256;
  std::vector<LayerGroup> groups;
  std::string profile;  // content hash of the codec profile, hexadecimal; empty for none

  friend bool operator==(const Namespace&, const Namespace&) = default;
};

// INVALID_ARGUMENT, naming the field and its value, when the namespace breaks a limit of
// common/limits.h or makes no sense (no groups, a layer in two groups, a partition of zero, a
// window of zero in a sliding group, ...), and when it is a second spelling of another namespace (a
// partition larger than the group, and what ValidateRope refuses).
absl::Status Validate(const Namespace& name_space);

// The canonical, length-prefixed encoding; equal exactly when the namespaces are equal. Validates
// first.
absl::StatusOr<std::vector<std::byte>> CanonicalEncoding(const Namespace& name_space);

// SHA-256 of the canonical encoding: what a piece's header carries.
absl::StatusOr<Digest> Fingerprint(const Namespace& name_space);

// The namespace that `reprise put` keeps plain files in: one opaque group, no tokens.
Namespace FileNamespace(std::string tenant);

}  // namespace reprise
