// What keeps pieces of the nvme tier from eviction, and what makes a tenant give up its own.

#include <algorithm>
#include <optional>
#include <vector>

#include "absl/strings/str_cat.h"

#include "common/limits.h"
#include "storage/index/random_place.h"
#include "storage/nvme/resident_pieces.h"

namespace reprise::storage {
namespace {

// Holds cover at most this share of what may live, those of one tenant half of that.
constexpr uint64_t kHoldShare = 2;
constexpr uint64_t kTenantHoldShare = 4;
// The same for pins, which last far longer; of a tenant's quota they may be half.
constexpr uint64_t kPinShare = 4;
constexpr uint64_t kTenantPinShare = 8;
constexpr uint64_t kQuotaPinShare = 2;

}  // namespace

Victim ResidentPieces::ChooseOf(TenantId tenant) {
  const Key start = RandomPlace(++choices_);
  std::vector<TrackedPiece*> seen;
  Victim victim;
  // False once a victim was found.
  const auto choose = [&] {
    if (!seen.empty()) victim = policy_->ChooseAmong(/*fresh_too=*/true, seen);
    seen.clear();
    return victim.piece == nullptr;
  };
  view_.Walk(tenant, &start, [&](Number piece) {
    seen.push_back(view_.tracked(piece));
    return seen.size() < kVictimsSeen || choose();
  });
  if (victim.piece != nullptr) return victim;
  view_.Walk(tenant, nullptr, [&](Number piece) {
    if (view_.key(piece) > start) return false;
    seen.push_back(view_.tracked(piece));
    return seen.size() < kVictimsSeen || choose();
  });
  if (victim.piece == nullptr) choose();
  return victim;
}

bool ResidentPieces::KeepWithinQuota(TenantId tenant, uint64_t bytes) {
  const uint64_t quota_bytes = tenants_[tenant].quota_bytes;
  if (quota_bytes == 0) return true;
  if (bytes > quota_bytes) return false;
  EndWhatPassed();
  while (tenants_[tenant].live_bytes > quota_bytes - bytes) {
    if (!Evict(tenant)) return false;
  }
  return true;
}

void ResidentPieces::SetQuota(TenantId tenant, uint64_t quota_bytes) {
  tenants_[tenant].quota_bytes = quota_bytes;
  static_cast<void>(KeepWithinQuota(tenant, 0));
}

absl::Status ResidentPieces::AboveQuota(TenantId tenant) const {
  const auto found = tenants_.find(tenant);
  const TenantUse use = found == tenants_.end() ? TenantUse{} : found->second;
  return absl::ResourceExhaustedError(absl::StrCat(
      "no room in its tenant's quota on the disk: of ", use.quota_bytes, " bytes, ", use.live_bytes,
      " are in pieces that cannot go, ", use.held_bytes, " of them held and ", use.pinned_bytes,
      " pinned; unpin some or raise the tenant's disk_quota"));
}

uint64_t ResidentPieces::TenantPinLimit(TenantId tenant) const {
  const uint64_t share = space_.live_limit_bytes() / kTenantPinShare;
  const auto found = tenants_.find(tenant);
  const uint64_t quota_bytes = found == tenants_.end() ? 0 : found->second.quota_bytes;
  return quota_bytes == 0 ? share : std::min(share, quota_bytes / kQuotaPinShare);
}

absl::Status ResidentPieces::Pin(TenantId tenant, const Key& key, Deadline until) {
  EndWhatPassed();
  const std::optional<Number> piece = FindLive(tenant, key);
  if (!piece.has_value()) {
    return absl::NotFoundError(absl::StrCat("piece ", key.digest.Hex(), " is not on the disk"));
  }
  const auto pin = pins_.find(*piece);
  if (pin == pins_.end()) {
    const uint64_t bytes = view_.record(*piece).run_bytes();
    if (!MayPin(tenant, bytes)) {
      return absl::ResourceExhaustedError(absl::StrCat(
          "piece ", key.digest.Hex(), " of ", bytes,
          " bytes cannot be pinned: its tenant has pinned ", tenants_[tenant].pinned_bytes,
          " of at most ", TenantPinLimit(tenant), " bytes of the disk, all tenants ", pinned_bytes_,
          " of at most ", space_.live_limit_bytes() / kPinShare, ", in ", pins_.size(),
          " of at most ", max_pieces_ / kPinnedPiecesShare,
          " pieces; unpin some, or give the store more disk"));
    }
  }
  const TimePoint end = std::min(until.at(), clock_.Now() + kMaxPin);
  if (pin == pins_.end() || pin->second < end) SetPin(*piece, end);
  return absl::OkStatus();
}

bool ResidentPieces::MayPin(TenantId tenant, uint64_t bytes) {
  return pinned_bytes_ + bytes <= space_.live_limit_bytes() / kPinShare &&
         tenants_[tenant].pinned_bytes + bytes <= TenantPinLimit(tenant) &&
         pins_.size() < max_pieces_ / kPinnedPiecesShare;
}

bool ResidentPieces::Unpin(TenantId tenant, const Key& key) {
  EndWhatPassed();
  const std::optional<Number> piece = FindLive(tenant, key);
  if (!piece.has_value() || !pins_.contains(*piece)) return false;
  EndPin(*piece);
  return true;
}

void ResidentPieces::SetPin(Number piece, TimePoint until) {
  if (pins_.contains(piece)) EndPin(piece);
  const uint64_t bytes = view_.record(piece).run_bytes();
  pins_.emplace(piece, until);
  pins_by_end_.insert({until, piece});
  pinned_bytes_ += bytes;
  tenants_[view_.tenant(piece)].pinned_bytes += bytes;
  TellWhetherKept(piece);
}

void ResidentPieces::EndPin(Number piece) {
  const auto pin = pins_.find(piece);
  // As when it was pinned: what is pinned gives up no planes.
  const uint64_t bytes = view_.record(piece).run_bytes();
  pinned_bytes_ -= bytes;
  tenants_[view_.tenant(piece)].pinned_bytes -= bytes;
  pins_by_end_.erase({pin->second, piece});
  pins_.erase(pin);
  TellWhetherKept(piece);
}

void ResidentPieces::TellWhetherKept(Number piece) {
  policy_->SetHeld(view_.tracked(piece), holds_.contains(piece) || pins_.contains(piece));
}

bool ResidentPieces::Hold(TenantId tenant, const Key& key, uint32_t level, Deadline until) {
  EndWhatPassed();
  const std::optional<Number> piece = FindLive(tenant, key);
  const TimePoint now = clock_.Now();
  if (!piece.has_value() || until.PassedAt(now)) return false;
  const PieceRecord record = view_.record(*piece);
  if (record.summary.planes_held <= level) return false;
  const TimePoint end = std::min(until.at(), now + kMaxHold);
  const auto held = holds_.find(*piece);
  if (held != holds_.end()) {
    if (held->second.until < end) {
      holds_by_end_.erase({held->second.until, *piece});
      held->second.until = end;
      holds_by_end_.insert({end, *piece});
    }
    return true;
  }
  const uint64_t bytes = record.run_bytes();
  const uint64_t limit = space_.live_limit_bytes();
  const uint64_t of_tenant = tenants_[tenant].held_bytes;
  if (held_bytes_ + bytes > limit / kHoldShare || of_tenant + bytes > limit / kTenantHoldShare) {
    return false;
  }
  held_bytes_ += bytes;
  tenants_[tenant].held_bytes += bytes;
  holds_.emplace(*piece, Holding{.until = end, .bytes = bytes});
  holds_by_end_.insert({end, *piece});
  TellWhetherKept(*piece);
  return true;
}

bool ResidentPieces::HeldWithOther(TenantId tenant, const Key& key, const ContentId& content) {
  EndWhatPassed();
  const std::optional<Number> piece = view_.Find(tenant, key);
  return piece.has_value() && holds_.contains(*piece) &&
         view_.record(*piece).summary.content_id != content;
}

void ResidentPieces::EndHold(Number piece) {
  const auto held = holds_.find(piece);
  held_bytes_ -= held->second.bytes;
  tenants_[view_.tenant(piece)].held_bytes -= held->second.bytes;
  holds_by_end_.erase({held->second.until, piece});
  holds_.erase(held);
  TellWhetherKept(piece);
}

void ResidentPieces::EndWhatPassed() {
  const TimePoint now = clock_.Now();
  while (!holds_by_end_.empty() && holds_by_end_.begin()->first <= now) {
    EndHold(holds_by_end_.begin()->second);
  }
  while (!pins_by_end_.empty() && pins_by_end_.begin()->first <= now) {
    EndPin(pins_by_end_.begin()->second);
  }
}

}  // namespace reprise::storage
