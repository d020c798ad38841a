// How the host tier makes room: what an upload needs, and what goes for it.

#include <algorithm>
#include <cstdlib>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"

#include "common/limits.h"
#include "storage/host/host_store.h"
#include "storage/host/host_upload.h"
#include "storage/index/random_place.h"

namespace reprise::storage {

namespace {

// Of a tenant's pieces, for one that needs no copy, before any of them goes.
constexpr size_t kMostLooks = 1024;

}  // namespace

absl::StatusOr<HostStore::Room> HostStore::MakeRoom(TenantId tenant, const UploadOffer& offer,
                                                    bool fresh_too) {
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
  EndWhatPassed();
  // Referenced from here on, so that making room does not evict it.
  REPRISE_ASSIGN_OR_RETURN(std::shared_ptr<HostPiece> restored, FindToRestore(tenant, offer));
  if (!KeepWithinQuota(tenant, need, fresh_too)) {
    return Annotate(AboveQuota(tenant, total_bytes),
                    absl::StrCat("piece ", offer.key.digest.Hex()));
  }
  ByteCharge charge(memory_->metadata);
  std::optional<Extent> extent;
  const uint64_t metadata = piece_overhead_bytes_ + sizeof(HostUpload) + kObjectOverheadBytes;
  const auto fits = [&] {
    if (!extent.has_value()) extent = arena.Allocate(total_bytes);
    return extent.has_value() && (charge.bytes() > 0 || charge.TryGrow(metadata));
  };
  if (!MayMakeRoom(need, metadata) || !EvictUntil({.fresh_too = fresh_too}, fits)) {
    return Annotate(NoRoom(total_bytes), absl::StrCat("piece ", offer.key.digest.Hex()));
  }
  return Room{*std::move(extent), std::move(charge), std::move(restored)};
}

absl::StatusOr<std::shared_ptr<HostPiece>> HostStore::FindToRestore(
    TenantId tenant, const UploadOffer& offer) const {
  std::shared_ptr<HostPiece> held = FindLive(tenant, offer.key);
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
  EndWhatPassed();
  if (MayMakeRoom(0, by_bytes) && EvictUntil({}, [&] { return charge.TryGrow(by_bytes); })) {
    return absl::OkStatus();
  }
  ++refused_uploads_;
  return absl::ResourceExhaustedError(
      absl::StrCat("no room for ", by_bytes, " bytes of header and directory now: of ",
                   memory_->metadata.limit_bytes(), " bytes for those and the index, ",
                   memory_->metadata.used_bytes(), " are in use, of which ",
                   linked_.metadata_bytes - kept_.metadata_bytes,
                   " could be evicted; give the store more memory"));
}

bool HostStore::MayMakeRoom(uint64_t arena_bytes, uint64_t metadata_bytes) const {
  const Arena& arena = *memory_->arena;
  const ByteBudget& metadata = memory_->metadata;
  return arena_bytes <= arena.capacity_bytes() - arena.used_bytes() + linked_.arena_bytes -
                            kept_.arena_bytes &&
         metadata_bytes <= metadata.limit_bytes() - metadata.used_bytes() + linked_.metadata_bytes -
                               kept_.metadata_bytes;
}

Victim HostStore::ChooseVictim(const VictimScope& scope) {
  if (!scope.tenant.has_value()) {
    // Evicting what somebody still reads would free nothing now.
    return policy_->ChooseVictim(scope.fresh_too, [](const TrackedPiece& tracked) {
      return HostPiece::Of(tracked).weak_from_this().use_count() == 1;
    });
  }
  // The policy does not say long before what of a tenant's goes next, so that a copy of it could be
  // made: first goes what needs none.
  size_t looked = 0;
  const Victim victim = ChooseOf(*scope.tenant, scope.fresh_too, [&](const HostPiece& piece) {
    return ++looked > kMostLooks || piece.tracking.copy == HostPiece::Copy::kMade ||
           !policy_->WorthDemoting(*piece.tracking.policy_record);
  });
  if (victim.piece != nullptr) return victim;
  return ChooseOf(*scope.tenant, scope.fresh_too, [](const HostPiece&) { return true; });
}

Victim HostStore::ChooseOf(TenantId tenant, bool fresh_too,
                           absl::FunctionRef<bool(const HostPiece&)> may_go) {
  // Keys are digests, so any number in their place is a random one.
  const Key start = RandomPlace(++choices_);
  std::optional<Key> after = start;
  bool from_the_start = false;
  std::vector<TrackedPiece*> seen;
  for (bool all_seen = false; !all_seen;) {
    const PieceIndex<HostPiece>::Page page = index_->List(
        tenant, after.has_value() ? &*after : nullptr, kVictimsSeen, /*fingerprint=*/nullptr);
    for (const std::shared_ptr<HostPiece>& piece : page.pieces) {
      all_seen = from_the_start && piece->key() > start;
      if (all_seen) break;
      // The index's reference and the page's.
      if (piece.use_count() == 2 && may_go(*piece)) seen.push_back(piece->tracking.policy_record);
    }
    if (page.more) {
      after = page.pieces.back()->key();
    } else if (from_the_start) {
      all_seen = true;
    } else {
      from_the_start = true;
      after.reset();
    }
    if (seen.size() < kVictimsSeen && !all_seen) continue;
    const Victim victim = policy_->ChooseAmong(fresh_too, seen);
    if (victim.piece != nullptr) return victim;
    seen.clear();
  }
  return {};
}

bool HostStore::EvictUntil(const VictimScope& scope, absl::FunctionRef<bool()> fits) {
  while (!fits()) {
    if (DropOneExpired()) continue;
    const Victim victim = ChooseVictim(scope);
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

bool HostStore::KeepWithinQuota(TenantId tenant, uint64_t more_bytes, bool fresh_too) {
  const auto fits = [&](const TenantUse& use, uint64_t linked_bytes) {
    return use.quota_bytes == 0 ||
           linked_bytes + use.uploading_bytes + more_bytes <= use.quota_bytes;
  };
  const TenantUse& now = tenants_[tenant];
  if (!fits(now, now.immovable_bytes)) return false;
  return EvictUntil({.tenant = tenant, .fresh_too = fresh_too},
                    [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
                      const TenantUse& use = tenants_[tenant];
                      return fits(use, use.linked_bytes);
                    });
}

absl::Status HostStore::AboveQuota(TenantId tenant, uint64_t bytes) {
  const TenantUse& use = tenants_[tenant];
  return absl::ResourceExhaustedError(
      absl::StrCat("no room for ", bytes, " bytes in its tenant's quota: of ", use.quota_bytes,
                   " bytes, ", use.linked_bytes, " are in pieces, of which ", use.immovable_bytes,
                   " are held for readers or pinned, and ", use.uploading_bytes,
                   " in uploads; unpin some, try later or raise the tenant's memory_quota"));
}

void HostStore::Shed(HostPiece& piece, uint32_t planes) {
  // A policy that names planes that are not there, or a kept piece, would go on forever.
  if (planes > piece.level() || piece.tracking.kept()) std::abort();
  // Taking and dropping a reference orders what the last reader did before what follows.
  static_cast<void>(piece.shared_from_this());
  TenantUse& use = tenants_[piece.tenant()];
  linked_ -= piece.footprint();
  use.linked_bytes -= piece.footprint().arena_bytes;
  piece.Shed(planes);
  linked_ += piece.footprint();
  use.linked_bytes += piece.footprint().arena_bytes;
  policy_->Shed(piece.tracking.policy_record, planes, piece.footprint().total());
}

absl::Status HostStore::NoRoom(uint64_t bytes) {
  const uint64_t used = memory_->arena->used_bytes();
  const uint64_t pinned = memory_->pinned_bytes.load(std::memory_order_relaxed);
  return absl::ResourceExhaustedError(absl::StrCat(
      "no room for ", bytes, " bytes now: of ", memory_->arena->capacity_bytes(), " bytes, ", used,
      " are in use, of which ", kept_.arena_bytes, " are held for readers or pinned, ", pinned,
      " removed but still being read, and ", used - std::min(used, linked_.arena_bytes + pinned),
      " in ", memory_->uploads.load(std::memory_order_relaxed), " uploads; of ",
      memory_->metadata.limit_bytes(), " bytes for records, ", memory_->metadata.used_bytes(),
      " are in use; try later"));
}

}  // namespace reprise::storage
