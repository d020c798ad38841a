// How the host tier makes room: what an upload needs, and what goes for it.

#include <algorithm>
#include <cstdlib>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"

#include "common/limits.h"
#include "storage/host/host_store.h"
#include "storage/host/host_upload.h"

namespace reprise::storage {

absl::StatusOr<HostStore::Room> HostStore::MakeRoom(TenantId tenant, const UploadOffer& offer) {
  const uint64_t total_bytes = offer.total_bytes;
  if (total_bytes == 0 || total_bytes > kMaxPieceMetaBytes + kMaxPieceBodyBytes ||
      offer.quality.planes == 0 || offer.quality.planes > kMaxPlanes) {
    return absl::InvalidArgumentError(
        absl::StrCat("piece ", offer.key.digest.Hex(), " of ", total_bytes, " bytes and ",
                     offer.quality.planes, " planes: pieces have 1 to ",
                     kMaxPieceMetaBytes + kMaxPieceBodyBytes, " and 1 to ", kMaxPlanes));
  }
  const uint64_t need = ExtentAllocator::OccupiedBytes(total_bytes);
  Arena& arena = *memory_->arena;
  if (need > arena.capacity_bytes()) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "a piece of ", total_bytes, " bytes is larger than the ", arena.capacity_bytes(),
        " bytes that this store has for pieces; raise its --memory"));
  }
  EndPassedHolds();
  // Referenced from here on, so that making room does not evict it.
  REPRISE_ASSIGN_OR_RETURN(std::shared_ptr<HostPiece> restored, FindToRestore(tenant, offer));
  ByteCharge charge(memory_->metadata);
  std::optional<Extent> extent;
  const uint64_t metadata = piece_overhead_bytes_ + sizeof(HostUpload) + kObjectOverheadBytes;
  const auto fits = [&] {
    if (!extent.has_value()) extent = arena.Allocate(total_bytes);
    return extent.has_value() && (charge.bytes() > 0 || charge.TryGrow(metadata));
  };
  if (!MayMakeRoom(need, metadata) || !EvictUntil(fits)) {
    return Annotate(NoRoom(total_bytes), absl::StrCat("piece ", offer.key.digest.Hex()));
  }
  return Room{*std::move(extent), std::move(charge), std::move(restored)};
}

absl::StatusOr<std::shared_ptr<HostPiece>> HostStore::FindToRestore(
    TenantId tenant, const UploadOffer& offer) const {
  std::shared_ptr<HostPiece> held = index_->Find(tenant, offer.key);
  if (held == nullptr || held->meta().header().content_id != offer.quality.content_id ||
      held->level() + 1 >= offer.quality.planes) {
    return nullptr;
  }
  const PieceMeta& meta = held->meta();
  const uint32_t planes = offer.quality.planes;
  if (planes > meta.level_count() || meta.bytes_to(planes - 1) != offer.total_bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("piece ", offer.key.digest.Hex(), " is offered with ", planes, " planes in ",
                     offer.total_bytes, " bytes, but the held directory of the same content has ",
                     planes > meta.level_count() ? meta.level_count() : planes, " planes in ",
                     meta.bytes_to(std::min(planes, meta.level_count()) - 1)));
  }
  return held;
}

absl::Status HostStore::GrowCharge(ByteCharge& charge, uint64_t by_bytes) {
  MutexLock lock(mutex_);
  EndPassedHolds();
  if (MayMakeRoom(0, by_bytes) && EvictUntil([&] { return charge.TryGrow(by_bytes); })) {
    return absl::OkStatus();
  }
  ++refused_uploads_;
  return absl::ResourceExhaustedError(
      absl::StrCat("no room for ", by_bytes, " bytes of header and directory now: of ",
                   memory_->metadata.limit_bytes(), " bytes for those and the index, ",
                   memory_->metadata.used_bytes(), " are in use, of which ",
                   linked_.metadata_bytes - held_.metadata_bytes,
                   " could be evicted; give the store more memory"));
}

bool HostStore::MayMakeRoom(uint64_t arena_bytes, uint64_t metadata_bytes) const {
  const Arena& arena = *memory_->arena;
  const ByteBudget& metadata = memory_->metadata;
  return arena_bytes <= arena.capacity_bytes() - arena.used_bytes() + linked_.arena_bytes -
                            held_.arena_bytes &&
         metadata_bytes <= metadata.limit_bytes() - metadata.used_bytes() + linked_.metadata_bytes -
                               held_.metadata_bytes;
}

bool HostStore::EvictUntil(absl::FunctionRef<bool()> fits) {
  while (!fits()) {
    // Evicting what somebody still reads would free nothing now.
    const Victim victim = policy_->ChooseVictim(/*fresh_too=*/true, [](const TrackedPiece& tracked) {
      return HostPiece::Of(tracked).weak_from_this().use_count() == 1;
    });
    if (victim.piece == nullptr) return false;
    HostPiece& piece = HostPiece::Of(*victim.piece);
    if (victim.keep_planes > 0) {
      Shed(piece, victim.keep_planes);
      continue;
    }
    Unlink(piece);
    ++evicted_pieces_;
  }
  return true;
}

void HostStore::Shed(HostPiece& piece, uint32_t planes) {
  // A policy that names planes that are not there, or a held piece, would go on forever.
  if (planes > piece.level() || piece.tracking.held_until.has_value()) std::abort();
  // Taking and dropping a reference orders what the last reader did before what follows.
  static_cast<void>(piece.shared_from_this());
  linked_ -= piece.footprint();
  piece.Shed(planes);
  linked_ += piece.footprint();
  policy_->Shed(piece.tracking.policy_record, planes, piece.footprint().total());
}

absl::Status HostStore::NoRoom(uint64_t bytes) {
  const uint64_t used = memory_->arena->used_bytes();
  const uint64_t pinned = memory_->pinned_bytes.load(std::memory_order_relaxed);
  return absl::ResourceExhaustedError(absl::StrCat(
      "no room for ", bytes, " bytes now: of ", memory_->arena->capacity_bytes(), " bytes, ", used,
      " are in use, of which ", held_.arena_bytes, " are held for readers, ", pinned,
      " removed but still being read, and ", used - std::min(used, linked_.arena_bytes + pinned),
      " in ", memory_->uploads.load(std::memory_order_relaxed), " uploads; of ",
      memory_->metadata.limit_bytes(), " bytes for records, ", memory_->metadata.used_bytes(),
      " are in use; try later"));
}

}  // namespace reprise::storage
