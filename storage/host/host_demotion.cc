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
  EndPassedHolds();
  const std::shared_ptr<HostPiece> held = index_->Find(piece->tenant(), piece->key());
  if (held != nullptr && (held->meta().header().content_id != piece->meta().header().content_id ||
                          held->level() >= piece->level())) {
    return held;
  }
  piece->tracking.copy = HostPiece::Copy::kMade;
  Replace(held.get(), piece, replaced);
  policy_->SetDemoted(piece->tracking.policy_record);
  return piece;
}

std::vector<std::shared_ptr<const HostPiece>> HostStore::BeginDemotion(uint64_t ahead_bytes,
                                                                       size_t limit) {
  std::vector<std::shared_ptr<const HostPiece>> found;
  std::vector<HostPiece*> chain;
  absl::flat_hash_set<const HostPiece*> seen;
  MutexLock lock(mutex_);
  uint64_t reached = memory_->arena->capacity_bytes() - memory_->arena->used_bytes();
  const auto enough = [&] {
    return reached >= ahead_bytes || found.size() >= limit || seen.size() >= kMaxPiecesSeen;
  };
  if (enough()) return found;
  policy_->ChooseVictim(/*fresh_too=*/true, [&](const TrackedPiece& tracked) {
    // When a piece has gone, the one that it builds on is next.
    chain.clear();
    std::shared_ptr<HostPiece> piece = HostPiece::Of(tracked).shared_from_this();
    while (piece != nullptr && reached < ahead_bytes && seen.insert(piece.get()).second) {
      reached += piece->footprint().arena_bytes;
      chain.push_back(piece.get());
      const PieceAttributes& attributes = piece->attributes();
      piece = attributes.parent.has_value() ? index_->Find(piece->tenant(), *attributes.parent)
                                            : nullptr;
    }
    // Under one that has a copy, all should have one: a prefix with a hole is worth nothing.
    bool worth = false;
    const size_t first = found.size();
    for (HostPiece* link : chain) {
      worth = worth || policy_->WorthDemoting(*link->tracking.policy_record);
      if (!worth || link->tracking.copy != HostPiece::Copy::kNone) continue;
      found.push_back(link->shared_from_this());
    }
    std::reverse(found.begin() + static_cast<ptrdiff_t>(first), found.end());
    return enough();
  });
  if (found.size() > limit) found.resize(limit);
  for (const std::shared_ptr<const HostPiece>& piece : found) {
    HostPiece::Of(*piece->tracking.policy_record).tracking.copy = HostPiece::Copy::kBeingMade;
  }
  return found;
}

void HostStore::EndDemotion(const HostPiece& piece, bool copied) {
  MutexLock lock(mutex_);
  if (piece.tracking.unlinked) return;
  HostPiece::Of(*piece.tracking.policy_record).tracking.copy =
      copied ? HostPiece::Copy::kMade : HostPiece::Copy::kNone;
  if (copied) policy_->SetDemoted(piece.tracking.policy_record);
}

}  // namespace reprise::storage
