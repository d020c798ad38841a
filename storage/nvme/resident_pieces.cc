#include "storage/nvme/resident_pieces.h"

#include <algorithm>
#include <cstdlib>

#include "common/limits.h"

namespace reprise::storage {
namespace {

// Names looked at under one lock when a namespace goes.
constexpr size_t kForgetBatch = 1024;
// Pieces that have expired and go before room is made, under one lock.
constexpr size_t kExpireBatch = 64;
// Of a pin, in a table and a tree that may be half empty; over all pieces.
constexpr size_t kPinBytes = 64;
constexpr size_t kPinBytesPerPiece = kPinBytes / ResidentPieces::kPinnedPiecesShare;

}  // namespace

size_t ResidentPieces::MaxPieces(uint64_t memory_bytes, const PolicyFactory& make_policy) {
  // Policies size tables for the pieces they are told to expect: two sizes show what one more
  // costs.
  constexpr size_t kFew = 1024;
  constexpr size_t kMore = 16 * kFew;
  const std::unique_ptr<EvictionPolicy> few = make_policy(kFew);
  const std::unique_ptr<EvictionPolicy> more = make_policy(kMore);
  const uint64_t fixed = few->fixed_bytes();
  const uint64_t table =
      more->fixed_bytes() > fixed ? (more->fixed_bytes() - fixed) / (kMore - kFew) + 1 : 0;
  const uint64_t each =
      PieceView::kBytesPerPiece + kPinBytesPerPiece + few->bytes_per_piece() + table;
  return memory_bytes > fixed ? (memory_bytes - fixed) / each : 0;
}

ResidentPieces::ResidentPieces(size_t max_pieces, const PolicyFactory& make_policy,
                               SegmentSpace& space, const Clock& clock)
    : max_pieces_(max_pieces),
      space_(space),
      clock_(clock),
      view_(max_pieces),
      policy_(make_policy(max_pieces)) {}

ResidentPieces::~ResidentPieces() = default;

uint64_t ResidentPieces::memory_bytes() const {
  return view_.bytes() + policy_->fixed_bytes() + view_.size() * policy_->bytes_per_piece() +
         pins_.size() * kPinBytes;
}

std::optional<ResidentPieces::Number> ResidentPieces::Find(TenantId tenant, const Key& key,
                                                           const ContentId& content) const {
  const std::optional<Number> piece = view_.Find(tenant, key);
  if (!piece.has_value() || view_.record(*piece).summary.content_id != content) {
    return std::nullopt;
  }
  return piece;
}

std::optional<ResidentPieces::Number> ResidentPieces::FindLive(TenantId tenant,
                                                               const Key& key) const {
  const std::optional<Number> piece = view_.Find(tenant, key);
  if (piece.has_value() && view_.HasExpired(*piece, clock_.WallSeconds())) return std::nullopt;
  return piece;
}

ListPage ResidentPieces::List(TenantId tenant, const Key* after, uint32_t limit,
                              const Digest* fingerprint) const {
  ListPage page;
  const uint32_t now_s = clock_.WallSeconds();
  view_.Walk(tenant, after, [&](Number piece) {
    if (view_.HasExpired(piece, now_s)) return true;
    if (fingerprint != nullptr && view_.fingerprint(piece) != *fingerprint) return true;
    if (page.pieces.size() == limit) {
      page.more = true;
      return false;
    }
    page.pieces.push_back({.key = view_.key(piece), .summary = view_.record(piece).summary});
    return true;
  });
  return page;
}

void ResidentPieces::AddFound(TenantId tenant, const Key& key, const PieceRecord& record) {
  while (view_.size() >= max_pieces_ && EvictOne()) {
  }
  const Number piece = view_.Insert(tenant, key, record);
  space_.AddFound(record.base, record.base_bytes(), piece);
  if (record.has_refinement()) {
    space_.AddFound(record.refinement, record.refinement_bytes(), piece);
  }
  Track(piece, record);
}

void ResidentPieces::Disown(TenantId tenant, const Key& key) {
  changes_.push_back({.tenant = tenant, .key = key, .pinned = {}});
  ++counts_.damaged;
}

void ResidentPieces::Install(TenantId tenant, const Key& key, const PieceRecord& record) {
  std::optional<TimePoint> held_until;
  std::optional<TimePoint> pinned_until;
  if (const std::optional<Number> old = view_.Find(tenant, key); old.has_value()) {
    if (const auto hold = holds_.find(*old); hold != holds_.end()) held_until = hold->second.until;
    if (const auto pin = pins_.find(*old); pin != pins_.end()) pinned_until = pin->second;
    Drop(*old, /*tell_catalog=*/false);
  }
  const Number piece = view_.Insert(tenant, key, record);
  Track(piece, record);
  space_.Publish(record.base, piece);
  if (record.has_refinement()) space_.Publish(record.refinement, piece);
  if (held_until.has_value()) {
    Hold(tenant, key, record.summary.planes_held - 1, Deadline(*held_until));
  }
  // What replaces a pinned piece may be far larger.
  if (pinned_until.has_value() && MayPin(tenant, record.run_bytes())) SetPin(piece, *pinned_until);
  // Other writes of the tenant may have been under way when this one was let in.
  static_cast<void>(KeepWithinQuota(tenant, 0));
}

void ResidentPieces::Track(Number piece, const PieceRecord& record) {
  view_.set_tracked(piece, policy_->Insert({.tenant = view_.tenant(piece),
                                            .key = view_.key(piece),
                                            .size_bytes = record.run_bytes(),
                                            .attributes = record.summary.attributes,
                                            .levels = record.summary.levels(),
                                            .planes_held = record.summary.planes_held,
                                            .tag = piece}));
  tenants_[view_.tenant(piece)].live_bytes += record.run_bytes();
}

void ResidentPieces::SetDurable(Number piece) {
  PieceRecord record = view_.record(piece);
  record.durable = true;
  view_.Update(piece, record);
}

void ResidentPieces::SetPlace(Number piece, RunKind kind, const RunPlace& to, uint64_t to_bytes) {
  PieceRecord record = view_.record(piece);
  RunPlace& place = kind == RunKind::kBase ? record.base : record.refinement;
  const uint64_t bytes = kind == RunKind::kBase ? record.base_bytes() : record.refinement_bytes();
  space_.Publish(to, piece);
  // Planes may have been given up since it was copied.
  if (to_bytes > bytes) space_.Release(to.segment, to_bytes - bytes);
  space_.Release(place.segment, bytes);
  place = to;
  view_.Update(piece, record);
}

void ResidentPieces::Use(Number piece) { policy_->Use(view_.tracked(piece)); }

void ResidentPieces::Forget(Number piece) { Drop(piece, /*tell_catalog=*/true); }

void ResidentPieces::ForgetDamaged(Number piece) {
  ++counts_.damaged;
  Forget(piece);
}

uint64_t ResidentPieces::ForgetNamespace(TenantId tenant, const Digest& fingerprint,
                                         std::optional<Key>& after, bool& more) {
  std::vector<Number> pieces;
  size_t seen = 0;
  more = false;
  std::optional<Key> last;
  view_.Walk(tenant, after.has_value() ? &*after : nullptr, [&](Number piece) {
    if (seen++ == kForgetBatch) {
      more = true;
      return false;
    }
    last = view_.key(piece);
    if (view_.fingerprint(piece) == fingerprint) pieces.push_back(piece);
    return true;
  });
  after = last;
  for (const Number piece : pieces) Forget(piece);
  return pieces.size();
}

void ResidentPieces::Drop(Number piece, bool tell_catalog) {
  const PieceRecord record = view_.record(piece);
  if (holds_.contains(piece)) EndHold(piece);
  if (pins_.contains(piece)) EndPin(piece);
  tenants_[view_.tenant(piece)].live_bytes -= record.run_bytes();
  policy_->Remove(view_.tracked(piece));
  if (tell_catalog) {
    Change change{.tenant = view_.tenant(piece), .key = view_.key(piece), .pinned = {}};
    // What the catalog still names must not be overwritten.
    space_.Pin(record.base.segment);
    change.pinned[0] = record.base.segment;
    if (record.has_refinement()) {
      space_.Pin(record.refinement.segment);
      change.pinned[1] = record.refinement.segment;
    }
    changes_.push_back(change);
  }
  view_.Erase(piece);
  ReleaseRuns(record);
}

void ResidentPieces::ReleaseRuns(const PieceRecord& record) {
  space_.Release(record.base.segment, record.base_bytes());
  if (record.has_refinement()) {
    space_.Release(record.refinement.segment, record.refinement_bytes());
  }
}

void ResidentPieces::Shed(Number piece, uint32_t planes) {
  PieceRecord record = view_.record(piece);
  // A policy that names planes that are not there would go on for ever.
  if (planes == 0 || planes >= record.summary.planes_held) std::abort();
  Change change{.tenant = view_.tenant(piece), .key = view_.key(piece), .pinned = {}};
  const uint64_t base_bytes = record.base_bytes();
  const uint64_t refinement_bytes = record.refinement_bytes();
  const uint64_t run_bytes = record.run_bytes();
  record.summary.planes_held = planes;
  if (base_bytes > record.base_bytes()) {
    space_.Pin(record.base.segment);
    change.pinned[0] = record.base.segment;
    space_.Release(record.base.segment, base_bytes - record.base_bytes());
  }
  if (refinement_bytes > record.refinement_bytes()) {
    space_.Pin(record.refinement.segment);
    change.pinned[1] = record.refinement.segment;
    space_.Release(record.refinement.segment, refinement_bytes - record.refinement_bytes());
  }
  changes_.push_back(change);
  view_.Update(piece, record);
  tenants_[view_.tenant(piece)].live_bytes -= run_bytes - record.run_bytes();
  policy_->Shed(view_.tracked(piece), planes, record.run_bytes());
  ++counts_.shed;
}

void ResidentPieces::ForgetIfExpired(TenantId tenant, const Key& key) {
  const std::optional<Number> piece = view_.Find(tenant, key);
  if (piece.has_value() && view_.HasExpired(*piece, clock_.WallSeconds())) Forget(*piece);
}

void ResidentPieces::ForgetExpired(size_t limit) {
  const uint32_t now_s = clock_.WallSeconds();
  for (size_t count = 0; count < limit; ++count) {
    const std::optional<Number> piece = view_.FirstExpired(now_s);
    if (!piece.has_value()) return;
    Forget(*piece);
  }
}

bool ResidentPieces::MakeRoom(uint64_t bytes) {
  EndWhatPassed();
  ForgetExpired(kExpireBatch);
  const uint64_t limit = space_.live_limit_bytes();
  if (bytes > limit) return false;
  while (space_.live_bytes() > limit - bytes || view_.size() >= max_pieces_) {
    if (!EvictOne()) return false;
  }
  return true;
}

bool ResidentPieces::Evict(std::optional<TenantId> tenant) {
  if (const std::optional<Number> expired = view_.FirstExpired(clock_.WallSeconds())) {
    Forget(*expired);
    return true;
  }
  const Victim victim =
      tenant.has_value()
          ? ChooseOf(*tenant)
          : policy_->ChooseVictim(/*fresh_too=*/true, [](const TrackedPiece&) { return true; });
  if (victim.piece == nullptr) return false;
  const Number piece = static_cast<Number>(victim.piece->tag());
  if (victim.keep_planes > 0) {
    Shed(piece, victim.keep_planes);
    return true;
  }
  ++counts_.evicted;
  Forget(piece);
  return true;
}

void ResidentPieces::Doubt(TenantId tenant, const Key& key, uint32_t segment,
                           std::optional<uint32_t> other) {
  space_.Pin(segment);
  if (other.has_value()) space_.Pin(*other);
  changes_.push_back({.tenant = tenant, .key = key, .pinned = {segment, other}});
}

void ResidentPieces::ReturnChanges(std::vector<Change> changes) {
  changes.insert(changes.end(), changes_.begin(), changes_.end());
  changes_ = std::move(changes);
}

}  // namespace reprise::storage
