#include "storage/host/host_store.h"

#include <algorithm>
#include <cstdlib>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

#include "common/limits.h"
#include "common/log.h"
#include "storage/host/host_upload.h"
#include "storage/index/memory_index.h"
#include "storage/lru.h"

namespace reprise::storage {
namespace {

// Of the budget, what is kept for the store's own records; a piece of more than about 36 KiB takes
// less than that share.
constexpr uint64_t kMetadataShare = 32;
constexpr uint64_t kMinMetadataBytes = 256 * kKiB;
// Pieces dropped under one lock when a whole namespace goes.
constexpr size_t kRemoveBatch = 256;
// The places of a hold and a pin in trees whose nodes may be half empty.
constexpr uint64_t kKeepsBytes = HostPiece::kKeeps * 3 * sizeof(std::pair<TimePoint, HostPiece*>);
// The place of a piece that expires in such a tree.
constexpr uint64_t kExpiryBytes = 3 * sizeof(HostPiece*);
// The smallest a piece can be, for sizing tables: one page of header and directory and one byte of
// body.
constexpr uint64_t kMinMetadataPerPiece = 1 * kKiB;

}  // namespace

absl::StatusOr<std::unique_ptr<HostStore>> HostStore::Create(const HostStoreOptions& options) {
  if (options.budget_bytes < kMinBudgetBytes) {
    return absl::InvalidArgumentError(absl::StrCat("a memory budget of ", options.budget_bytes,
                                                   " bytes is too small; give at least ",
                                                   kMinBudgetBytes));
  }
  const uint64_t metadata_bytes =
      std::max(options.budget_bytes / kMetadataShare, kMinMetadataBytes);
  REPRISE_ASSIGN_OR_RETURN(std::unique_ptr<Arena> arena,
                           Arena::Create(options.budget_bytes - metadata_bytes));
  const size_t max_pieces = metadata_bytes / kMinMetadataPerPiece;
  auto index = std::make_unique<MemoryIndex<HostPiece>>(max_pieces);
  std::unique_ptr<EvictionPolicy> policy = options.make_policy
                                               ? options.make_policy(max_pieces)
                                               : std::make_unique<LruPolicy>(max_pieces);
  const uint64_t tables = index->fixed_bytes() + policy->fixed_bytes();
  auto memory = std::make_shared<HostMemory>(std::move(arena), metadata_bytes - tables);
  return std::unique_ptr<HostStore>(new HostStore(options.budget_bytes, *options.clock,
                                                  std::move(memory), std::move(index),
                                                  std::move(policy)));
}

HostStore::HostStore(uint64_t budget_bytes, const Clock& clock, std::shared_ptr<HostMemory> memory,
                     std::unique_ptr<PieceIndex<HostPiece>> index,
                     std::unique_ptr<EvictionPolicy> policy)
    : budget_bytes_(budget_bytes),
      clock_(clock),
      memory_(std::move(memory)),
      piece_overhead_bytes_(sizeof(HostPiece) + kObjectOverheadBytes +
                            Arena::kBookkeepingBytesPerExtent + kKeepsBytes + kExpiryBytes +
                            index->bytes_per_piece() + policy->bytes_per_piece()),
      index_(std::move(index)),
      policy_(std::move(policy)) {}

HostStore::~HostStore() = default;

absl::StatusOr<std::unique_ptr<Upload>> HostStore::BeginUpload(TenantId tenant,
                                                               const UploadOffer& offer) {
  const uint64_t need = ExtentAllocator::OccupiedBytes(offer.total_bytes);
  std::optional<Room> room;
  {
    MutexLock lock(mutex_);
    const uint64_t capacity = memory_->arena->capacity_bytes();
    const uint64_t uploading = tenants_[tenant].uploading_bytes;
    if (uploading > 0 && uploading + need > capacity / kTenantUploadShare) {
      ++refused_uploads_;
      return absl::ResourceExhaustedError(absl::StrCat(
          "piece ", offer.key.digest.Hex(), " of ", offer.total_bytes, " bytes: its tenant has ",
          uploading, " bytes of uploads under way, of at most ", capacity / kTenantUploadShare,
          "; finish some first"));
    }
    absl::StatusOr<Room> made = MakeRoom(tenant, offer, /*fresh_too=*/true);
    if (!made.ok()) {
      if (absl::IsResourceExhausted(made.status())) ++refused_uploads_;
      return made.status();
    }
    room.emplace(*std::move(made));
    tenants_[tenant].uploading_bytes += need;
  }
  return MakeUpload(*std::move(room), tenant, offer, need);
}

absl::StatusOr<std::unique_ptr<HostUpload>> HostStore::BeginLoad(TenantId tenant,
                                                                 const UploadOffer& offer,
                                                                 bool fresh_too) {
  std::optional<Room> room;
  {
    MutexLock lock(mutex_);
    EndWhatPassed();
    const uint64_t need = ExtentAllocator::OccupiedBytes(offer.total_bytes);
    // No other load has to wait for what this tenant alone may not have.
    if (!KeepWithinQuota(tenant, need, fresh_too)) {
      return absl::FailedPreconditionError(AboveQuota(tenant, offer.total_bytes).message());
    }
    REPRISE_ASSIGN_OR_RETURN(Room made, MakeRoom(tenant, offer, fresh_too));
    room.emplace(std::move(made));
  }
  return MakeUpload(*std::move(room), tenant, offer, 0);
}

std::unique_ptr<HostUpload> HostStore::MakeUpload(Room room, TenantId tenant,
                                                  const UploadOffer& offer,
                                                  uint64_t tenant_share_bytes) {
  return std::make_unique<HostUpload>(*this, memory_, std::move(room.extent),
                                      std::move(room.charge), piece_overhead_bytes_, tenant, offer,
                                      room.restored.get(), tenant_share_bytes);
}

absl::StatusOr<CommitOutcome> HostStore::Publish(std::shared_ptr<HostPiece> piece) {
  std::shared_ptr<HostPiece> replaced;  // dropped after the lock
  MutexLock lock(mutex_);
  EndWhatPassed();
  const std::shared_ptr<HostPiece> held = index_->Find(piece->tenant(), piece->key());
  if (held != nullptr && !HasExpired(*held)) {
    if (Reaches(QualityOf(held->meta(), held->level() + 1),
                QualityOf(piece->meta(), piece->level() + 1))) {
      return CommitOutcome::kAlreadyHeld;
    }
    if (held->tracking.until(Keep::kHold).has_value() &&
        held->meta().header().content_id != piece->meta().header().content_id) {
      ++refused_uploads_;
      return absl::ResourceExhaustedError(
          absl::StrCat("piece ", piece->key().digest.Hex(),
                       " is held for a reader with other content; publish again when the hold is "
                       "over"));
    }
  }
  Replace(held.get(), std::move(piece), replaced);
  return CommitOutcome::kStored;
}

void HostStore::Replace(HostPiece* held, std::shared_ptr<HostPiece> piece,
                        std::shared_ptr<HostPiece>& replaced) {
  HostPiece::Tracking before;
  if (held != nullptr) {
    before = held->tracking;
    replaced = Unlink(*held);
  }
  HostPiece& linked = *piece;
  Link(std::move(piece));
  for (const Keep keep : {Keep::kHold, Keep::kPin}) {
    if (!before.until(keep).has_value()) continue;
    // What replaces a pinned piece may be far larger.
    const bool fits = MayKeep(keep, linked.tenant(), linked.footprint().arena_bytes);
    if (keep == Keep::kHold || fits) SetKeep(linked, keep, *before.until(keep));
  }
}

void HostStore::RemoveIfDamaged(TenantId tenant, const Key& key) {
  const PieceRef held = Peek(tenant, key);
  if (held == nullptr) return;
  const bool intact = PieceMeta::Parse(held->meta_bytes()).ok() &&
                      held->meta().VerifyBody(held->body(), held->level()).ok();
  if (intact || !Remove(tenant, key, held.get())) return;
  LogError("dropped a corrupt piece", {{"tenant", std::to_string(tenant)},
                                       {"key", key.digest.Hex()},
                                       {"reason", "an upload was to complete it"}});
}

std::optional<PieceSummary> HostStore::Describe(TenantId tenant, const Key& key) const {
  const PieceRef held = Peek(tenant, key);
  if (held == nullptr) return std::nullopt;
  return held->Summarize();
}

PieceRef HostStore::Find(TenantId tenant, const Key& key) {
  MutexLock lock(mutex_);
  std::shared_ptr<HostPiece> piece = FindLive(tenant, key);
  if (piece != nullptr) policy_->Use(piece->tracking.policy_record);
  return piece;
}

PieceRef HostStore::Peek(TenantId tenant, const Key& key) const {
  MutexLock lock(mutex_);
  return FindLive(tenant, key);
}

std::shared_ptr<HostPiece> HostStore::FindLive(TenantId tenant, const Key& key) const {
  std::shared_ptr<HostPiece> piece = index_->Find(tenant, key);
  if (piece != nullptr && HasExpired(*piece)) return nullptr;
  return piece;
}

bool HostStore::HasExpired(const HostPiece& piece) const {
  // Most pieces never do, and asking for the time is not free.
  return piece.attributes().expires_at_s != 0 && piece.attributes().ExpiredAt(clock_.WallSeconds());
}

void HostStore::Open(TenantId tenant, const Key& key, uint32_t /*level*/, Opened opened) {
  std::move(opened)(Find(tenant, key));
}

void HostStore::Warm(TenantId tenant, const Key& key, uint32_t level, Opened opened) {
  Open(tenant, key, level, std::move(opened));
}

void HostStore::Persist(TenantId /*tenant*/, const Key& /*key*/, const ContentId& /*content*/,
                        Persisted done) {
  std::move(done)(absl::FailedPreconditionError(
      "this store keeps pieces in memory only; start it with --disk to make them durable"));
}

absl::StatusOr<TenantId> HostStore::TenantFor(std::string_view name) {
  MutexLock lock(mutex_);
  const auto found = tenant_names_.find(std::string(name));
  if (found != tenant_names_.end()) return found->second;
  if (tenant_names_.size() == kMaxTenants) {
    return absl::ResourceExhaustedError(
        absl::StrCat("a store knows at most ", kMaxTenants, " tenants"));
  }
  const TenantId number = static_cast<TenantId>(tenant_names_.size()) + 1;
  tenant_names_.emplace(name, number);
  return number;
}

bool HostStore::Hold(TenantId tenant, const Key& key, uint32_t level, Deadline until) {
  MutexLock lock(mutex_);
  EndWhatPassed();
  const std::shared_ptr<HostPiece> piece = FindLive(tenant, key);
  if (piece == nullptr || piece->level() < level) return false;
  const TimePoint now = clock_.Now();
  if (until.PassedAt(now)) return false;
  const std::optional<TimePoint>& held_until = piece->tracking.until(Keep::kHold);
  if (!held_until.has_value() && !MayKeep(Keep::kHold, tenant, piece->footprint().arena_bytes)) {
    return false;
  }
  const TimePoint end = std::min(until.at(), now + kMaxHold);
  if (!held_until.has_value() || *held_until < end) SetKeep(*piece, Keep::kHold, end);
  return true;
}

bool HostStore::Remove(TenantId tenant, const Key& key, const HeldPiece* expected) {
  std::shared_ptr<HostPiece> removed;  // dropped after the lock
  MutexLock lock(mutex_);
  const std::shared_ptr<HostPiece> piece = index_->Find(tenant, key);
  if (piece == nullptr) return false;
  if (expected != nullptr && piece.get() != expected) return false;
  const bool live = !HasExpired(*piece);
  removed = Unlink(*piece);
  return live;
}

uint64_t HostStore::RemoveNamespace(TenantId tenant, const Digest& fingerprint) {
  uint64_t removed = 0;
  std::optional<Key> after;
  for (;;) {
    // In batches, so that others get the lock in between; the pieces themselves are dropped outside
    // it.
    PieceIndex<HostPiece>::Page page;
    {
      MutexLock lock(mutex_);
      page =
          index_->List(tenant, after.has_value() ? &*after : nullptr, kRemoveBatch, &fingerprint);
      for (const std::shared_ptr<HostPiece>& piece : page.pieces) Unlink(*piece);
    }
    removed += page.pieces.size();
    if (!page.more) return removed;
    after = page.pieces.back()->key();
  }
}

ListPage HostStore::List(TenantId tenant, const Key* after, uint32_t limit,
                         const Digest* fingerprint) const {
  ListPage page;
  std::optional<Key> from;
  do {
    // Of a page, what has expired is left out; whoever merges pages counts on full ones.
    PieceIndex<HostPiece>::Page found;
    {
      MutexLock lock(mutex_);
      found = index_->List(tenant, from.has_value() ? &*from : after,
                           limit - static_cast<uint32_t>(page.pieces.size()), fingerprint);
    }
    page.more = found.more;
    page.pieces.reserve(found.pieces.size());
    for (const std::shared_ptr<HostPiece>& piece : found.pieces) {
      if (!HasExpired(*piece)) page.pieces.push_back({piece->key(), piece->Summarize()});
    }
    if (found.pieces.empty()) break;
    from = found.pieces.back()->key();
  } while (page.pieces.size() < limit && page.more);
  return page;
}

StoreUsage HostStore::usage() const {
  MutexLock lock(mutex_);
  StoreUsage usage;
  usage.pieces = index_->size();
  usage.bytes_used = memory_->arena->used_bytes() + memory_->metadata.used_bytes();
  usage.bytes_budget = budget_bytes_;
  usage.bytes_metadata = memory_->metadata.used_bytes();
  usage.bytes_held = BytesKept(Keep::kHold);
  usage.bytes_under_pins = BytesKept(Keep::kPin);
  usage.bytes_pinned = memory_->pinned_bytes.load(std::memory_order_relaxed);
  usage.uploads = memory_->uploads.load(std::memory_order_relaxed);
  usage.evicted_pieces = evicted_pieces_;
  usage.refused_uploads = refused_uploads_;
  return usage;
}

void HostStore::EndUpload(TenantId tenant, uint64_t arena_bytes) {
  MutexLock lock(mutex_);
  tenants_[tenant].uploading_bytes -= arena_bytes;
}

void HostStore::Link(std::shared_ptr<HostPiece> piece) {
  HostPiece& linked = *piece;
  if (!index_->Insert(std::move(piece))) std::abort();  // the caller has just seen it absent
  linked_ += linked.footprint();
  tenants_[linked.tenant()].linked_bytes += linked.footprint().arena_bytes;
  if (linked.attributes().expires_at_s != 0) expiring_.insert(&linked);
  const PieceSummary summary = linked.Summarize();
  linked.tracking.policy_record =
      policy_->Insert({.tenant = linked.tenant(),
                       .key = linked.key(),
                       .size_bytes = linked.footprint().total(),
                       .attributes = linked.attributes(),
                       .levels = summary.levels(),
                       .planes_held = summary.planes_held,
                       .tag = static_cast<uint64_t>(reinterpret_cast<uintptr_t>(&linked))});
}

std::shared_ptr<HostPiece> HostStore::Unlink(HostPiece& piece) {
  for (const Keep keep : {Keep::kHold, Keep::kPin}) EndKeep(piece, keep);
  if (piece.attributes().expires_at_s != 0) expiring_.erase(&piece);
  policy_->Remove(std::exchange(piece.tracking.policy_record, nullptr));
  linked_ -= piece.footprint();
  tenants_[piece.tenant()].linked_bytes -= piece.footprint().arena_bytes;
  piece.tracking.unlinked = true;
  memory_->pinned_bytes.fetch_add(piece.footprint().total(), std::memory_order_relaxed);
  return index_->Erase(piece.tenant(), piece.key());
}

}  // namespace reprise::storage
