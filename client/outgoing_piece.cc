#include "client/outgoing_piece.h"

#include <atomic>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"

#include "client/views.h"
#include "codec/codec.h"

namespace reprise::client {
namespace {

uint64_t ViewBytes(const TensorView& view) {
  if (!view.present()) return 0;
  uint64_t bytes = DtypeBytes(view.dtype);
  for (const uint32_t axis : view.shape) bytes *= axis;
  return bytes;
}

}  // namespace

uint64_t OutgoingPiece::TensorBytes() const {
  return ViewBytes(tensors.key) + ViewBytes(tensors.value);
}

bool OutgoingPiece::IsReachedBy(const PieceState& state) const {
  return Reaches({.content_id = state.content_id,
                  .planes = state.planes_held,
                  .distortion = state.distortions[state.planes_held - 1]},
                 quality);
}

bool IsExact(const PieceState& state) {
  return state.distortions[state.planes_held - 1] == Distortion{};
}

std::vector<std::byte> SpareMemory::Take() {
  MutexLock lock(mutex_);
  if (spare_.empty()) return {};
  std::vector<std::byte> memory = std::move(spare_.back());
  spare_.pop_back();
  return memory;
}

void SpareMemory::Give(std::vector<std::byte> memory) {
  MutexLock lock(mutex_);
  spare_.push_back(std::move(memory));
}

std::shared_ptr<UnsentBytes> UnsentBytes::Reserve(Core& core, uint64_t bytes,
                                                  std::shared_ptr<SpareMemory> spare) {
  const uint64_t before = core.unsent_bytes->fetch_add(bytes);
  std::shared_ptr<UnsentBytes> room(new UnsentBytes(core.unsent_bytes, bytes, std::move(spare)));
  if (before + bytes > core.options.send_bytes) room.reset();
  return room;
}

UnsentBytes::~UnsentBytes() {
  Release();
  if (!encoded_.empty()) spare_->Give(std::move(encoded_));
}

void UnsentBytes::Release() { total_->fetch_sub(reserved_.exchange(0)); }

SharedBytes UnsentBytes::Keep(std::shared_ptr<UnsentBytes> self, std::vector<std::byte> encoded) {
  total_->fetch_add(encoded.size());
  total_->fetch_sub(reserved_.exchange(encoded.size()));
  encoded_ = std::move(encoded);
  return SharedBytes(ByteSpan(encoded_), std::move(self));
}

absl::Status CheckTtl(std::chrono::seconds ttl) {
  if (ttl.count() >= 0 && ttl.count() <= UINT32_MAX) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("a time to live of ", ttl.count(),
                                                 " seconds; 0 to ", UINT32_MAX, " are allowed"));
}

absl::StatusOr<std::vector<OutgoingPiece>> PlanChunks(const PrefixKeys& keys, uint32_t chunk_count,
                                                      std::span<const GroupViews> views,
                                                      const PublishOptions& options) {
  const Namespace& name_space = keys.name_space();
  REPRISE_RETURN_IF_ERROR(CheckChunks(keys, options.first_chunk, chunk_count));
  REPRISE_RETURN_IF_ERROR(CheckViews(name_space, chunk_count, views));
  REPRISE_RETURN_IF_ERROR(CheckProfile(name_space, options.profile.get()));
  REPRISE_RETURN_IF_ERROR(CheckTtl(options.ttl));
  const uint32_t slots = static_cast<uint32_t>(keys.pieces_per_chunk());
  std::vector<OutgoingPiece> pieces;
  pieces.reserve(size_t{chunk_count} * slots);
  for (uint32_t chunk = options.first_chunk; chunk < options.first_chunk + chunk_count; ++chunk) {
    for (uint32_t slot = 0; slot < slots; ++slot) {
      OutgoingPiece& piece = pieces.emplace_back();
      piece.key = keys.key(chunk, slot);
      if (chunk > 0) piece.parent = keys.key(chunk - 1, slot);
      piece.position = chunk;
      piece.recompute_seconds = options.recompute_seconds_per_chunk / slots;
      piece.identity = PieceIdentity{.key = piece.key,
                                     .namespace_fingerprint = keys.fingerprint(),
                                     .slot = keys.slots()[slot],
                                     .token_begin = uint64_t{chunk} * name_space.chunk_tokens};
      piece.tensors =
          PieceViews(name_space, views, keys.slots()[slot], chunk - options.first_chunk);
      piece.codec = options.codec;
      piece.profile = options.profile;
    }
  }
  return pieces;
}

absl::Status Encode(const Namespace& name_space, std::shared_ptr<UnsentBytes> room,
                    OutgoingPiece& piece) {
  REPRISE_ASSIGN_OR_RETURN(
      std::vector<std::byte> encoded,
      EncodePiece(name_space, *piece.identity, piece.tensors.key, piece.tensors.value, piece.codec,
                  piece.profile.get(), room->TakeMemory()));
  REPRISE_ASSIGN_OR_RETURN(const PieceMeta meta, PieceMeta::Parse(encoded));
  piece.quality = QualityOf(meta, meta.level_count());
  piece.container = room->Keep(room, std::move(encoded));
  piece.room = std::move(room);
  return absl::OkStatus();
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
                       .identity = {},
                       .tensors = {},
                       .codec = {},
                       .profile = {},
                       .room = {},
                       .container = std::move(container),
                       .quality = QualityOf(meta, *level + 1)};
}

}  // namespace reprise::client
