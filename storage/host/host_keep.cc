// What keeps pieces of the host tier from eviction, and for how long: holds, pins, times to live.

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"

#include "common/limits.h"
#include "storage/host/host_store.h"

namespace reprise::storage {
namespace {

// Pieces that have expired and go under one lock; more wait until room is wanted.
constexpr int kExpireBatch = 64;

}  // namespace

void HostStore::Pin(TenantId tenant, const Key& key, Deadline until, Pinned done) {
  std::move(done)(PinNow(tenant, key, until));
}

absl::Status HostStore::PinNow(TenantId tenant, const Key& key, Deadline until) {
  MutexLock lock(mutex_);
  EndWhatPassed();
  const std::shared_ptr<HostPiece> piece = FindLive(tenant, key);
  if (piece == nullptr) {
    return absl::NotFoundError(absl::StrCat("piece ", key.digest.Hex(), " is not held"));
  }
  const std::optional<TimePoint>& pinned_until = piece->tracking.until(Keep::kPin);
  const uint64_t bytes = piece->footprint().arena_bytes;
  if (!pinned_until.has_value() && !MayKeep(Keep::kPin, tenant, bytes)) {
    const TenantUse& use = tenants_[tenant];
    return absl::ResourceExhaustedError(absl::StrCat(
        "piece ", key.digest.Hex(), " of ", bytes,
        " bytes cannot be pinned: its tenant has pinned ",
        use.kept_bytes[static_cast<size_t>(Keep::kPin)], " of at most ", TenantPinLimit(use),
        " bytes of memory, all tenants ", kept_bytes_[static_cast<size_t>(Keep::kPin)],
        " of at most ", memory_->arena->capacity_bytes() / kPinShare,
        "; unpin some, or give the store more memory or a disk"));
  }
  const TimePoint end = std::min(until.at(), clock_.Now() + kMaxPin);
  if (!pinned_until.has_value() || *pinned_until < end) SetKeep(*piece, Keep::kPin, end);
  return absl::OkStatus();
}

bool HostStore::Unpin(TenantId tenant, const Key& key) {
  MutexLock lock(mutex_);
  EndWhatPassed();
  const std::shared_ptr<HostPiece> piece = FindLive(tenant, key);
  if (piece == nullptr || !piece->tracking.until(Keep::kPin).has_value()) return false;
  EndKeep(*piece, Keep::kPin);
  return true;
}

void HostStore::SetQuota(TenantId tenant, const TenantQuota& quota) {
  MutexLock lock(mutex_);
  tenants_[tenant].quota_bytes = quota.memory_bytes;
  static_cast<void>(KeepWithinQuota(tenant, 0, /*fresh_too=*/true));
}

uint64_t HostStore::TenantPinLimit(const TenantUse& use) const {
  const uint64_t share = memory_->arena->capacity_bytes() / kTenantPinShare;
  return use.quota_bytes == 0 ? share : std::min(share, use.quota_bytes / kQuotaPinShare);
}

bool HostStore::MayKeep(Keep keep, TenantId tenant, uint64_t bytes) {
  const size_t at = static_cast<size_t>(keep);
  const uint64_t capacity = memory_->arena->capacity_bytes();
  const TenantUse& use = tenants_[tenant];
  const bool pin = keep == Keep::kPin;
  const uint64_t limit = capacity / (pin ? kPinShare : kHoldShare);
  const uint64_t tenant_limit = pin ? TenantPinLimit(use) : capacity / kTenantHoldShare;
  return kept_bytes_[at] + bytes <= limit && use.kept_bytes[at] + bytes <= tenant_limit;
}

void HostStore::SetKeep(HostPiece& piece, Keep keep, TimePoint until) {
  EndKeep(piece, keep);
  const Footprint footprint = piece.footprint();
  TenantUse& use = tenants_[piece.tenant()];
  if (!piece.tracking.kept()) {
    kept_ += footprint;
    use.immovable_bytes += footprint.arena_bytes;
    policy_->SetHeld(piece.tracking.policy_record, true);
  }
  const size_t at = static_cast<size_t>(keep);
  piece.tracking.until(keep) = until;
  keeps_[at].emplace(until, &piece);
  kept_bytes_[at] += footprint.arena_bytes;
  use.kept_bytes[at] += footprint.arena_bytes;
}

void HostStore::EndKeep(HostPiece& piece, Keep keep) {
  std::optional<TimePoint>& until = piece.tracking.until(keep);
  if (!until.has_value()) return;
  const Footprint footprint = piece.footprint();
  TenantUse& use = tenants_[piece.tenant()];
  const size_t at = static_cast<size_t>(keep);
  keeps_[at].erase({*until, &piece});
  until.reset();
  kept_bytes_[at] -= footprint.arena_bytes;
  use.kept_bytes[at] -= footprint.arena_bytes;
  if (piece.tracking.kept()) return;
  kept_ -= footprint;
  use.immovable_bytes -= footprint.arena_bytes;
  policy_->SetHeld(piece.tracking.policy_record, false);
}

uint64_t HostStore::BytesKept(Keep keep) const {
  const size_t at = static_cast<size_t>(keep);
  uint64_t bytes = kept_bytes_[at];
  // What has passed goes with the next upload, hold or pin; until then it counts no more.
  const TimePoint now = clock_.Now();
  for (auto it = keeps_[at].begin(); it != keeps_[at].end() && it->first <= now; ++it) {
    bytes -= it->second->footprint().arena_bytes;
  }
  return bytes;
}

void HostStore::EndWhatPassed() {
  const TimePoint now = clock_.Now();
  for (const Keep keep : {Keep::kHold, Keep::kPin}) {
    const ByEnd& ends = keeps_[static_cast<size_t>(keep)];
    while (!ends.empty() && ends.begin()->first <= now) EndKeep(*ends.begin()->second, keep);
  }
  for (int i = 0; i < kExpireBatch && DropOneExpired(); ++i) {
  }
}

bool HostStore::DropOneExpired() {
  if (expiring_.empty() || !HasExpired(**expiring_.begin())) return false;
  Unlink(**expiring_.begin());
  return true;
}

}  // namespace reprise::storage
