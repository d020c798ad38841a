#include "chunk/keys.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

#include "common/byte_io.h"
#include "common/limits.h"

namespace reprise {
namespace {

constexpr std::string_view kRootDomain = "reprise/1";
constexpr std::string_view kPieceDomain = "piece";

PrefixId RootOf(ByteSpan canonical_namespace, std::string_view tenant_secret) {
  return {Sha256().Update(kRootDomain).Update(canonical_namespace).Update(tenant_secret).Finish()};
}

void AppendSlots(uint32_t group_index, const LayerGroup& group, std::vector<PieceSlot>& slots) {
  const auto layer_count = static_cast<uint32_t>(group.layers.size());
  for (uint32_t layer = 0; layer < layer_count; layer += group.layers_per_piece) {
    for (uint32_t head = 0; head < group.kv_heads; head += group.heads_per_piece) {
      slots.push_back({.group = group_index,
                       .layer_begin = layer,
                       .layer_end = std::min(layer + group.layers_per_piece, layer_count),
                       .head_begin = head,
                       .head_end = std::min(head + group.heads_per_piece, group.kv_heads)});
    }
  }
}

}  // namespace

std::vector<PieceSlot> PiecesPerChunk(const Namespace& name_space) {
  std::vector<PieceSlot> slots;
  for (size_t i = 0; i < name_space.groups.size(); ++i) {
    AppendSlots(static_cast<uint32_t>(i), name_space.groups[i], slots);
  }
  return slots;
}

Key PieceKey(const PrefixId& prefix, const PieceSlot& slot) {
  ByteWriter message;
  message.Bytes(AsBytes(kPieceDomain));
  message.Bytes(prefix.digest.bytes);
  message.U32(slot.group);
  message.U32(slot.layer_begin);
  message.U32(slot.layer_end);
  message.U32(slot.head_begin);
  message.U32(slot.head_end);
  return {Sha256::Of(message.bytes())};
}

absl::StatusOr<PrefixKeys> PrefixKeys::Create(const Namespace& name_space,
                                              std::string_view tenant_secret,
                                              std::span<const uint32_t> tokens,
                                              std::span<const std::string> extras) {
  REPRISE_ASSIGN_OR_RETURN(const std::vector<std::byte> canonical, CanonicalEncoding(name_space));
  const size_t chunk_tokens = name_space.chunk_tokens;
  if (chunk_tokens == 0) {
    return absl::InvalidArgumentError(
        "the namespace has chunk_tokens 0, so token sequences have no keys in it; use FileKey");
  }
  const size_t chunks = tokens.size() / chunk_tokens;
  if (extras.size() > chunks) {
    return absl::InvalidArgumentError(absl::StrCat("extras are given for ", extras.size(),
                                                   " chunks, but ", tokens.size(),
                                                   " tokens make only ", chunks, " whole ones"));
  }
  PrefixKeys keys;
  keys.name_space_ = name_space;
  keys.fingerprint_ = Sha256::Of(canonical);
  keys.slots_ = PiecesPerChunk(name_space);
  keys.prefix_ids_.reserve(chunks + 1);
  keys.prefix_ids_.push_back(RootOf(canonical, tenant_secret));
  for (size_t chunk = 0; chunk < chunks; ++chunk) {
    ByteWriter message;
    message.Bytes(keys.prefix_ids_.back().digest.bytes);
    for (const uint32_t token : tokens.subspan(chunk * chunk_tokens, chunk_tokens)) {
      message.U32(token);
    }
    // The token count is fixed by the namespace, so where the extras begin is never ambiguous.
    if (chunk < extras.size()) message.Bytes(AsBytes(extras[chunk]));
    keys.prefix_ids_.push_back({Sha256::Of(message.bytes())});
  }
  return keys;
}

std::vector<Key> PrefixKeys::AllKeys(size_t chunks) const {
  std::vector<Key> keys;
  keys.reserve(chunks * slots_.size());
  for (size_t chunk = 0; chunk < chunks; ++chunk) {
    for (size_t slot = 0; slot < slots_.size(); ++slot) keys.push_back(key(chunk, slot));
  }
  return keys;
}

absl::StatusOr<Key> FileKey(std::string_view tenant, std::string_view name) {
  if (name.empty() || name.size() > kMaxFileNameBytes) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the file name is ", name.size(), " bytes long; allowed are 1 to ", kMaxFileNameBytes));
  }
  const Namespace name_space = FileNamespace(std::string(tenant));
  REPRISE_ASSIGN_OR_RETURN(const std::vector<std::byte> canonical, CanonicalEncoding(name_space));
  const PrefixId root = RootOf(canonical, {});
  const PrefixId prefix{Sha256().Update(root.digest.bytes).Update(name).Finish()};
  return PieceKey(prefix, PiecesPerChunk(name_space).front());
}

}  // namespace reprise
