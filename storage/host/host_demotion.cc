// What the host tier does for a slower one below it.

#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"

#include "storage/host/host_store.h"

namespace reprise::storage {
namespace {

// Pieces looked at under one lock, about a tenth of a microsecond each.
constexpr size_t kMaxPiecesSeen = 2048;
// Of a tenant's quota, what is kept ready to be dropped.
constexpr uint64_t kQuotaAheadShare = 8;
// Victims that are chosen for one tenant under one lock, about 30 microseconds each.
constexpr size_t kMaxQuotaLooks = 16;

void MarkBeingCopied(const std::vector<std::shared_ptr<const HostPiece>>& pieces) {
  for (const std::shared_ptr<const HostPiece>& piece : pieces) {
    HostPiece::Of(*piece->tracking.policy_record).tracking.copy = HostPiece::Copy::kBeingMade;
  }
}

}  // namespace

absl::StatusOr<PieceRef> HostStore::PublishLoaded(std::shared_ptr<HostPiece> piece,
                                                  const std::atomic<bool>& cancelled) {
  std::shared_ptr<HostPiece> replaced;  // dropped after the lock
  MutexLock lock(mutex_);
  // Whoever removes the piece sets this before it takes the lock.
  if (cancelled.load(std::memory_order_relaxed)) {
    return absl::CancelledError(
        absl::StrCat("piece ", piece->key().digest.Hex(), " was removed while it was loaded"));
  }
  EndWhatPassed();
  const std::shared_ptr<HostPiece> held = index_->Find(piece->tenant(), piece->key());
  if (held != nullptr && !HasExpired(*held) &&
      (held->meta().header().content_id != piece->meta().header().content_id ||
       held->level() >= piece->level())) {
    return held;
  }
  piece->tracking.copy = HostPiece::Copy::kMade;
  Replace(held.get(), piece, replaced);
  policy_->SetDemoted(piece->tracking.policy_record);
  // Other loads of the tenant were under way when this one was let in; `piece` keeps it from going.
  static_cast<void>(KeepWithinQuota(piece->tenant(), 0, /*fresh_too=*/true));
  return piece;
}

std::vector<std::shared_ptr<const HostPiece>> HostStore::BeginDemotion(uint64_t ahead_bytes,
                                                                       size_t limit) {
  std::vector<std::shared_ptr<const HostPiece>> found;
  std::vector<HostPiece*> chain;
  absl::flat_hash_set<const HostPiece*> seen;
  uint64_t reached = 0;
  uint64_t until = ahead_bytes;
  const auto enough = [&] {
    return reached >= until || found.size() >= limit || seen.size() >= kMaxPiecesSeen;
  };
  MutexLock lock(mutex_);
  const auto look = [&](const TrackedPiece& tracked) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    // When a piece has gone, the one that it builds on is next.
    chain.clear();
    std::shared_ptr<HostPiece> piece = HostPiece::Of(tracked).shared_from_this();
    while (piece != nullptr && reached < until && seen.insert(piece.get()).second) {
      reached += piece->footprint().arena_bytes;
      chain.push_back(piece.get());
      piece = ParentOf(*piece);
    }
    AddWorthDemoting(chain, found);
    return enough();
  };
  reached = memory_->arena->capacity_bytes() - memory_->arena->used_bytes();
  if (!enough()) policy_->ChooseVictim(/*fresh_too=*/true, look);
  // What a tenant brings within its quota pushes out its own pieces, wherever the policy has them.
  for (const auto& [tenant, use] : tenants_) {
    if (use.quota_bytes == 0) continue;
    const uint64_t used = std::min(use.quota_bytes, use.linked_bytes + use.uploading_bytes);
    reached = use.quota_bytes - used;
    until = std::min(ahead_bytes, use.quota_bytes / kQuotaAheadShare);
    for (size_t looks = 0; looks < kMaxQuotaLooks && !enough(); ++looks) {
      const Victim victim = ChooseOf(tenant, /*fresh_too=*/true, [&](const HostPiece& piece) {
        return !seen.contains(&piece);
      });
      if (victim.piece == nullptr) break;
      look(*victim.piece);
    }
  }
  if (found.size() > limit) found.resize(limit);
  MarkBeingCopied(found);
  return found;
}

std::vector<std::shared_ptr<const HostPiece>> HostStore::BeginDemotionOf(const HostPiece& piece) {
  std::vector<std::shared_ptr<const HostPiece>> found;
  std::vector<HostPiece*> chain;
  MutexLock lock(mutex_);
  if (piece.tracking.unlinked) return found;
  HostPiece* link = &HostPiece::Of(*piece.tracking.policy_record);
  while (link != nullptr) {
    chain.push_back(link);
    const uint64_t position = link->attributes().position;
    link = ParentOf(*link).get();
    // Publishers may make up a circle.
    if (link != nullptr && link->attributes().position >= position) break;
  }
  AddWorthDemoting(chain, found);
  MarkBeingCopied(found);
  return found;
}

std::vector<std::shared_ptr<const HostPiece>> HostStore::EvictionOrder() {
  std::vector<std::shared_ptr<const HostPiece>> order;
  absl::flat_hash_set<const HostPiece*> seen;
  MutexLock lock(mutex_);
  for (const Keep keep : {Keep::kHold, Keep::kPin}) {
    const ByEnd& ends = keeps_[static_cast<size_t>(keep)];
    while (!ends.empty()) EndKeep(*ends.begin()->second, keep);
  }
  policy_->ChooseVictim(/*fresh_too=*/true, [&](const TrackedPiece& tracked) {
    HostPiece& piece = HostPiece::Of(tracked);
    // Policies come back to what they first passed over.
    if (seen.insert(&piece).second) order.push_back(piece.shared_from_this());
    return false;
  });
  return order;
}

std::shared_ptr<HostPiece> HostStore::ParentOf(const HostPiece& piece) const {
  const std::optional<Key>& parent = piece.attributes().parent;
  return parent.has_value() ? index_->Find(piece.tenant(), *parent) : nullptr;
}

void HostStore::AddWorthDemoting(const std::vector<HostPiece*>& chain,
                                 std::vector<std::shared_ptr<const HostPiece>>& found) const {
  // Under one that has a copy, all should have one: a prefix with a hole is worth nothing.
  bool worth = false;
  const size_t first = found.size();
  for (HostPiece* link : chain) {
    if (HasExpired(*link)) continue;
    worth = worth || policy_->WorthDemoting(*link->tracking.policy_record);
    if (!worth || link->tracking.copy != HostPiece::Copy::kNone) continue;
    found.push_back(link->shared_from_this());
  }
  std::reverse(found.begin() + static_cast<ptrdiff_t>(first), found.end());
}

void HostStore::EndDemotion(const HostPiece& piece, bool copied) {
  MutexLock lock(mutex_);
  if (piece.tracking.unlinked) return;
  HostPiece::Of(*piece.tracking.policy_record).tracking.copy =
      copied ? HostPiece::Copy::kMade : HostPiece::Copy::kNone;
  if (copied) policy_->SetDemoted(piece.tracking.policy_record);
}

}  // namespace reprise::storage
