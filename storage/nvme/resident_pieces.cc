#include "storage/nvme/resident_pieces.h"

#include <algorithm>
#include <cstdlib>

#include "common/limits.h"

namespace reprise::storage {
namespace {

// Names looked at under one lock when a namespace goes.
constexpr size_t kForgetBatch = 1024;
// Holds cover at most this share of what may live, those of one tenant half of that.
constexpr uint64_t kHoldShare = 2;
constexpr uint64_t kTenantHoldShare = 4;

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
  const uint64_t each = PieceView::kBytesPerPiece + few->bytes_per_piece() + table;
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
  return view_.bytes() + policy_->fixed_bytes() + view_.size() * policy_->bytes_per_piece();
}

std::optional<ResidentPieces::Number> ResidentPieces::Find(TenantId tenant, const Key& key,
                                                           const ContentId& content) const {
  const std::optional<Number> piece = view_.Find(tenant, key);
  if (!piece.has_value() || view_.record(*piece).summary.content_id != content) {
    return std::nullopt;
  }
  return piece;
}

ListPage ResidentPieces::List(TenantId tenant, const Key* after, uint32_t limit,
                              const Digest* fingerprint) const {
  ListPage page;
  view_.Walk(tenant, after, [&](Number piece) {
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
  if (const std::optional<Number> old = view_.Find(tenant, key); old.has_value()) {
    if (const auto hold = holds_.find(*old); hold != holds_.end()) held_until = hold->second.until;
    Drop(*old, /*tell_catalog=*/false);
  }
  const Number piece = view_.Insert(tenant, key, record);
  Track(piece, record);
  space_.Publish(record.base, piece);
  if (record.has_refinement()) space_.Publish(record.refinement, piece);
  if (held_until.has_value()) {
    Hold(tenant, key, record.summary.planes_held - 1, Deadline(*held_until));
  }
}

void ResidentPieces::Track(Number piece, const PieceRecord& record) {
  view_.set_tracked(piece, policy_->Insert({.tenant = view_.tenant(piece),
                                            .key = view_.key(piece),
                                            .size_bytes = record.run_bytes(),
                                            .attributes = record.summary.attributes,
                                            .levels = record.summary.levels(),
                                            .planes_held = record.summary.planes_held,
                                            .tag = piece}));
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
  policy_->Shed(view_.tracked(piece), planes, record.run_bytes());
  ++counts_.shed;
}

bool ResidentPieces::MakeRoom(uint64_t bytes) {
  EndPassedHolds();
  const uint64_t limit = space_.live_limit_bytes();
  if (bytes > limit) return false;
  while (space_.live_bytes() > limit - bytes || view_.size() >= max_pieces_) {
    if (!EvictOne()) return false;
  }
  return true;
}

bool ResidentPieces::EvictOne() {
  const Victim victim =
      policy_->ChooseVictim(/*fresh_too=*/true, [](const TrackedPiece&) { return true; });
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

bool ResidentPieces::Hold(TenantId tenant, const Key& key, uint32_t level, Deadline until) {
  EndPassedHolds();
  const std::optional<Number> piece = view_.Find(tenant, key);
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
  const auto found = held_bytes_of_tenant_.find(tenant);
  const uint64_t of_tenant = found == held_bytes_of_tenant_.end() ? 0 : found->second;
  if (held_bytes_ + bytes > limit / kHoldShare || of_tenant + bytes > limit / kTenantHoldShare) {
    return false;
  }
  held_bytes_ += bytes;
  held_bytes_of_tenant_[tenant] += bytes;
  holds_.emplace(*piece, Holding{.until = end, .bytes = bytes});
  holds_by_end_.insert({end, *piece});
  policy_->SetHeld(view_.tracked(*piece), true);
  return true;
}

bool ResidentPieces::HeldWithOther(TenantId tenant, const Key& key, const ContentId& content) {
  EndPassedHolds();
  const std::optional<Number> piece = view_.Find(tenant, key);
  return piece.has_value() && holds_.contains(*piece) &&
         view_.record(*piece).summary.content_id != content;
}

void ResidentPieces::EndHold(Number piece) {
  const auto held = holds_.find(piece);
  const auto of_tenant = held_bytes_of_tenant_.find(view_.tenant(piece));
  held_bytes_ -= held->second.bytes;
  of_tenant->second -= held->second.bytes;
  if (of_tenant->second == 0) held_bytes_of_tenant_.erase(of_tenant);
  holds_by_end_.erase({held->second.until, piece});
  holds_.erase(held);
  policy_->SetHeld(view_.tracked(piece), false);
}

void ResidentPieces::EndPassedHolds() {
  const TimePoint now = clock_.Now();
  while (!holds_by_end_.empty() && holds_by_end_.begin()->first <= now) {
    EndHold(holds_by_end_.begin()->second);
  }
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
