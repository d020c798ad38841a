#include "client/outgoing_piece.h"

#include <atomic>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"

#include "client/views.h"
#include "codec/codec.h"

namespace reprise::client {
namespace {

// An encoded piece that counts as unsent while it lives.
class UnsentBytes {
 public:
  UnsentBytes(std::vector<std::byte> bytes, std::shared_ptr<std::atomic<uint64_t>> total)
      : bytes_(std::move(bytes)), total_(std::move(total)) {}
  ~UnsentBytes() { total_->fetch_sub(bytes_.size()); }
  UnsentBytes(const UnsentBytes&) = delete;
  UnsentBytes& operator=(const UnsentBytes&) = delete;

  ByteSpan bytes() const { return bytes_; }

 private:
  const std::vector<std::byte> bytes_;
  const std::shared_ptr<std::atomic<uint64_t>> total_;
};

absl::StatusOr<SharedBytes> CountUnsent(Core& core, std::vector<std::byte> bytes) {
  const uint64_t before = core.unsent_bytes->fetch_add(bytes.size());
  const size_t size = bytes.size();
  auto counted = std::make_shared<const UnsentBytes>(std::move(bytes), core.unsent_bytes);
  if (before + size > core.options.send_bytes) {
    return absl::ResourceExhaustedError(
        absl::StrCat("encoded pieces of ", before, " bytes wait to be sent and ", size,
                     " more would exceed the ", core.options.send_bytes,
                     " of send_bytes; publish less at once, or later"));
  }
  return SharedBytes(counted->bytes(), counted);
}

}  // namespace

bool OutgoingPiece::IsReachedBy(const PieceState& state) const {
  return Reaches({.content_id = state.content_id,
                  .planes = state.planes_held,
                  .distortion = state.distortions[state.planes_held - 1]},
                 quality);
}

absl::StatusOr<std::vector<OutgoingPiece>> EncodeChunks(Core& core, const PrefixKeys& keys,
                                                        uint32_t chunk_count,
                                                        std::span<const GroupViews> views,
                                                        const PublishOptions& options) {
  const Namespace& name_space = keys.name_space();
  REPRISE_RETURN_IF_ERROR(CheckChunks(keys, options.first_chunk, chunk_count));
  REPRISE_RETURN_IF_ERROR(CheckViews(name_space, chunk_count, views));
  const uint32_t slots = static_cast<uint32_t>(keys.pieces_per_chunk());
  std::vector<OutgoingPiece> pieces;
  pieces.reserve(size_t{chunk_count} * slots);
  for (uint32_t chunk = options.first_chunk; chunk < options.first_chunk + chunk_count; ++chunk) {
    for (uint32_t slot = 0; slot < slots; ++slot) {
      const PieceIdentity identity{.key = keys.key(chunk, slot),
                                   .namespace_fingerprint = keys.fingerprint(),
                                   .slot = keys.slots()[slot],
                                   .token_begin = uint64_t{chunk} * name_space.chunk_tokens};
      const GroupViews tensors =
          PieceViews(name_space, views, identity.slot, chunk - options.first_chunk);
      REPRISE_ASSIGN_OR_RETURN(std::vector<std::byte> encoded,
                               EncodePiece(name_space, identity, tensors.key, tensors.value));
      REPRISE_ASSIGN_OR_RETURN(SharedBytes container, CountUnsent(core, std::move(encoded)));
      REPRISE_ASSIGN_OR_RETURN(OutgoingPiece piece, WrapContainer(std::move(container), chunk));
      if (chunk > 0) piece.parent = keys.key(chunk - 1, slot);
      piece.recompute_seconds = options.recompute_seconds_per_chunk / slots;
      pieces.push_back(std::move(piece));
    }
  }
  return pieces;
}

absl::StatusOr<OutgoingPiece> WrapContainer(SharedBytes container, uint64_t position) {
  REPRISE_ASSIGN_OR_RETURN(const PieceMeta meta, PieceMeta::Parse(container.bytes()));
  const std::optional<uint32_t> level = meta.LevelEndingAt(container.size());
  if (!level.has_value()) {
    return absl::DataLossError(
        absl::StrCat("the piece has ", container.size(), " bytes, which is the end of none of its ",
                     meta.level_count(), " levels; by its header it has ", meta.total_bytes(),
                     " with all of them: it was truncated or something follows it"));
  }
  return OutgoingPiece{.key = meta.header().key,
                       .parent = {},
                       .position = position,
                       .recompute_seconds = 0,
                       .container = std::move(container),
                       .quality = QualityOf(meta, *level + 1)};
}

}  // namespace reprise::client
