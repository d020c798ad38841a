#include "chunk/namespace.h"

#include <algorithm>
#include <bitset>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

#include "common/byte_io.h"
#include "common/limits.h"

namespace reprise {
namespace {

// Version of the canonical encoding (docs/keys.md); a new one changes every key.
constexpr uint32_t kEncodingVersion = 1;
// A profile is named by its SHA-256 in hexadecimal.
constexpr size_t kProfileHexDigits = 64;

template <typename... Parts>
absl::Status Invalid(absl::string_view field, const Parts&... parts) {
  return absl::InvalidArgumentError(absl::StrCat("namespace field ", field, " ", parts...));
}

template <typename... Parts>
absl::Status InvalidInGroup(size_t group, absl::string_view field, const Parts&... parts) {
  return Invalid(absl::StrCat("groups[", group, "].", field), parts...);
}

bool IsKnown(Dtype dtype) { return dtype <= Dtype::kFp32; }
bool IsKnown(GroupKind kind) {
  return kind >= GroupKind::kFullAttention && kind <= GroupKind::kOpaque;
}

uint64_t CeilDivide(uint64_t a, uint64_t b) { return (a + b - 1) / b; }

absl::Status ValidateGroupRope(size_t index, const LayerGroup& group) {
  const absl::Status status = ValidateRope(group.rope, group.key_dim);
  if (status.ok()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("namespace field groups[", index, "].", status.message()));
}

absl::Status ValidateDims(size_t index, const LayerGroup& group) {
  if (group.kv_heads == 0 || group.kv_heads > kMaxKvHeads) {
    return InvalidInGroup(index, "kv_heads", "is ", group.kv_heads, "; allowed are 1 to ",
                          kMaxKvHeads);
  }
  if (group.key_dim > kMaxHeadDim || group.value_dim > kMaxHeadDim) {
    return InvalidInGroup(index, "key_dim", "is ", group.key_dim, " and value_dim ",
                          group.value_dim, "; at most ", kMaxHeadDim, " are allowed");
  }
  if (!IsOpaque(group.kind) && group.key_dim == 0) {
    return InvalidInGroup(index, "key_dim", "is 0, but the group holds K or a latent");
  }
  const bool wants_value =
      group.kind == GroupKind::kFullAttention || group.kind == GroupKind::kSlidingWindow;
  if (wants_value != (group.value_dim != 0)) {
    return InvalidInGroup(index, "value_dim", "is ", group.value_dim,
                          wants_value ? ", but an attention group holds V"
                                      : ", but latent, state and opaque groups have no V");
  }
  if (group.kind == GroupKind::kLatent && group.kv_heads != 1) {
    return InvalidInGroup(index, "kv_heads", "is ", group.kv_heads,
                          ", but a latent group has one latent a token: set 1");
  }
  if ((group.kind == GroupKind::kSlidingWindow) != (group.window_tokens != 0)) {
    return InvalidInGroup(index, "window_tokens", "is ", group.window_tokens,
                          "; it must be above 0 in sliding-window groups and 0 in others");
  }
  return absl::OkStatus();
}

absl::Status ValidatePartition(size_t index, const LayerGroup& group, uint32_t chunk_tokens,
                               Dtype dtype) {
  // A partition larger than the group would be a second spelling of the same partition.
  if (group.layers_per_piece == 0 || group.layers_per_piece > group.layers.size()) {
    return InvalidInGroup(index, "layers_per_piece", "is ", group.layers_per_piece,
                          "; allowed are 1 to the group's ", group.layers.size(), " layers");
  }
  if (group.heads_per_piece == 0 || group.heads_per_piece > group.kv_heads) {
    return InvalidInGroup(index, "heads_per_piece", "is ", group.heads_per_piece,
                          "; allowed are 1 to the group's ", group.kv_heads, " KV heads");
  }
  if (IsOpaque(group.kind)) return absl::OkStatus();
  // All factors are bounded above: at most 2^10 * 2^13 * 2^10 * 2^13 * 2^2 bytes.
  const uint64_t head_bytes = DtypeBytes(dtype);
  const uint64_t row_bytes =
      group.heads_per_piece * head_bytes * std::max(group.key_dim, group.value_dim);
  if (row_bytes > kMaxPartBytes) {
    return InvalidInGroup(index, "heads_per_piece", "is ", group.heads_per_piece,
                          ", so that one token of one layer takes ", row_bytes,
                          " bytes; a segment holds at most ", kMaxPartBytes);
  }
  const uint64_t piece_bytes = head_bytes * (uint64_t{group.key_dim} + group.value_dim) *
                               group.heads_per_piece * group.layers_per_piece * chunk_tokens;
  if (piece_bytes > kMaxPieceBodyBytes) {
    return InvalidInGroup(index, "layers_per_piece", "is ", group.layers_per_piece,
                          " and heads_per_piece ", group.heads_per_piece,
                          ", so that a piece of one chunk takes ", piece_bytes, " bytes; at most ",
                          kMaxPieceBodyBytes, " are allowed: use fewer layers or heads a piece");
  }
  return absl::OkStatus();
}

using LayerSet = std::bitset<kMaxLayers>;

absl::Status ValidateLayers(size_t index, const LayerGroup& group, LayerSet& taken) {
  if (group.layers.empty()) return InvalidInGroup(index, "layers", "is empty");
  std::optional<uint32_t> before;
  for (const uint32_t layer : group.layers) {
    if (layer >= kMaxLayers) {
      return InvalidInGroup(index, "layers", "names layer ", layer, "; the last allowed is ",
                            kMaxLayers - 1);
    }
    if (before.has_value() && layer <= *before) {
      return InvalidInGroup(index, "layers", "is not ascending: ", layer, " follows ", *before);
    }
    if (taken.test(layer)) {
      return InvalidInGroup(index, "layers", "names layer ", layer,
                            ", which another group holds already");
    }
    taken.set(layer);
    before = layer;
  }
  return absl::OkStatus();
}

absl::Status ValidateGroup(size_t index, const Namespace& name_space, LayerSet& taken_layers) {
  const LayerGroup& group = name_space.groups[index];
  if (!IsKnown(group.kind)) {
    return InvalidInGroup(index, "kind", "is ", static_cast<int>(group.kind), ", unknown");
  }
  if (!IsOpaque(group.kind) && name_space.kv_dtype == Dtype::kOpaque) {
    return Invalid("kv_dtype", "is opaque, but groups[", index,
                   "] holds floats; use bf16, fp16 or fp32, or an opaque group");
  }
  if (group.kind != GroupKind::kOpaque && name_space.chunk_tokens == 0) {
    return Invalid("chunk_tokens", "is 0; only a namespace of opaque groups has no tokens");
  }
  REPRISE_RETURN_IF_ERROR(ValidateLayers(index, group, taken_layers));
  REPRISE_RETURN_IF_ERROR(ValidateDims(index, group));
  REPRISE_RETURN_IF_ERROR(ValidateGroupRope(index, group));
  return ValidatePartition(index, group, name_space.chunk_tokens, name_space.kv_dtype);
}

absl::Status ValidateNames(const Namespace& name_space) {
  if (name_space.tenant.empty() || name_space.tenant.size() > kMaxTenantNameBytes) {
    return Invalid("tenant", "is ", name_space.tenant.size(), " bytes long; allowed are 1 to ",
                   kMaxTenantNameBytes);
  }
  if (name_space.model.empty()) return Invalid("model", "is empty");
  const std::string& profile = name_space.profile;
  const bool is_hex = std::all_of(profile.begin(), profile.end(), [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
  });
  if (!profile.empty() && (profile.size() != kProfileHexDigits || !is_hex)) {
    return Invalid("profile", "is '", profile, "'; it must be empty or ", kProfileHexDigits,
                   " lower-case hexadecimal digits");
  }
  return absl::OkStatus();
}

void EncodeGroup(const LayerGroup& group, ByteWriter& out) {
  out.U8(static_cast<uint8_t>(group.kind));
  out.U32(static_cast<uint32_t>(group.layers.size()));
  for (const uint32_t layer : group.layers) out.U32(layer);
  out.U32(group.kv_heads);
  out.U32(group.key_dim);
  out.U32(group.value_dim);
  out.U32(group.window_tokens);
  out.U32(group.layers_per_piece);
  out.U32(group.heads_per_piece);
  out.U8(static_cast<uint8_t>(group.rope.pairing));
  out.U32(group.rope.rotated_dims);
  out.F64(group.rope.theta);
  out.U8(static_cast<uint8_t>(group.rope.scaling));
  out.U32(static_cast<uint32_t>(group.rope.scaling_parameters.size()));
  for (const double parameter : group.rope.scaling_parameters) out.F64(parameter);
}

std::vector<std::byte> Encode(const Namespace& name_space) {
  ByteWriter out;
  out.U32(kEncodingVersion);
  out.LengthPrefixed(name_space.tenant);
  out.LengthPrefixed(name_space.model);
  out.LengthPrefixed(name_space.revision);
  out.LengthPrefixed(name_space.adapter);
  out.LengthPrefixed(name_space.weight_quantization);
  out.U8(static_cast<uint8_t>(name_space.kv_dtype));
  out.U32(name_space.chunk_tokens);
  out.LengthPrefixed(name_space.profile);
  out.U32(static_cast<uint32_t>(name_space.groups.size()));
  for (const LayerGroup& group : name_space.groups) EncodeGroup(group, out);
  return std::move(out).Take();
}

// Length of Encode's result, without making it: strings of a hostile namespace may be huge.
uint64_t EncodedBytes(const Namespace& name_space) {
  constexpr uint64_t kFixedBytes = 4 + 5 * 4 + 1 + 4 + 4 + 4;
  constexpr uint64_t kFixedGroupBytes = 1 + 4 + 6 * 4 + 1 + 4 + 8 + 1 + 4;
  uint64_t size = kFixedBytes + name_space.tenant.size() + name_space.model.size() +
                  name_space.revision.size() + name_space.adapter.size() +
                  name_space.weight_quantization.size() + name_space.profile.size();
  for (const LayerGroup& group : name_space.groups) {
    size += kFixedGroupBytes + 4 * group.layers.size() + 8 * group.rope.scaling_parameters.size();
  }
  return size;
}

}  // namespace

size_t DtypeBytes(Dtype dtype) {
  switch (dtype) {
    case Dtype::kBf16:
    case Dtype::kFp16:
      return 2;
    case Dtype::kFp32:
      return 4;
    case Dtype::kOpaque:
      break;
  }
  return 1;
}

bool IsOpaque(GroupKind kind) { return kind == GroupKind::kState || kind == GroupKind::kOpaque; }

absl::Status Validate(const Namespace& name_space) {
  REPRISE_RETURN_IF_ERROR(ValidateNames(name_space));
  if (!IsKnown(name_space.kv_dtype)) {
    return Invalid("kv_dtype", "is ", static_cast<int>(name_space.kv_dtype), ", unknown");
  }
  if (name_space.chunk_tokens > kMaxTokensPerChunk) {
    return Invalid("chunk_tokens", "is ", name_space.chunk_tokens, "; at most ", kMaxTokensPerChunk,
                   " are allowed");
  }
  if (name_space.groups.empty()) return Invalid("groups", "is empty");
  LayerSet taken_layers;
  uint64_t pieces = 0;
  for (size_t i = 0; i < name_space.groups.size(); ++i) {
    REPRISE_RETURN_IF_ERROR(ValidateGroup(i, name_space, taken_layers));
    const LayerGroup& group = name_space.groups[i];
    pieces += CeilDivide(group.layers.size(), group.layers_per_piece) *
              CeilDivide(group.kv_heads, group.heads_per_piece);
  }
  if (pieces > kMaxKeysPerLookup) {
    return Invalid("groups", "cuts a chunk into ", pieces, " pieces; at most ", kMaxKeysPerLookup,
                   " fit in one lookup: use more layers or heads a piece");
  }
  if (const uint64_t size = EncodedBytes(name_space); size > kMaxNamespaceBytes) {
    return absl::InvalidArgumentError(absl::StrCat("the namespace takes ", size,
                                                   " bytes encoded; at most ", kMaxNamespaceBytes,
                                                   " are allowed: shorten its names"));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::byte>> CanonicalEncoding(const Namespace& name_space) {
  REPRISE_RETURN_IF_ERROR(Validate(name_space));
  return Encode(name_space);
}

absl::StatusOr<Digest> Fingerprint(const Namespace& name_space) {
  REPRISE_ASSIGN_OR_RETURN(const std::vector<std::byte> encoding, CanonicalEncoding(name_space));
  return Sha256::Of(encoding);
}

Namespace FileNamespace(std::string tenant) {
  Namespace name_space;
  name_space.tenant = std::move(tenant);
  name_space.model = "file";
  name_space.chunk_tokens = 0;
  LayerGroup group;
  group.kind = GroupKind::kOpaque;
  group.layers = {0};
  group.kv_heads = 1;
  group.layers_per_piece = 1;
  group.heads_per_piece = 1;
  name_space.groups.push_back(std::move(group));
  return name_space;
}

}  // namespace reprise
