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

// Of the budget, what is kept for the store's own records; a piece of more than about 32 KiB takes
// less than that share.
constexpr uint64_t kMetadataShare = 32;
constexpr uint64_t kMinMetadataBytes = 256 * kKiB;
// Pieces dropped under one lock when a whole namespace goes.
constexpr size_t kRemoveBatch = 256;
// Reference counts and allocator's headers around a piece or upload.
constexpr uint64_t kObjectOverheadBytes = 64;
// The place of a hold in a tree whose nodes may be half empty.
constexpr uint64_t kHoldBytes = 3 * sizeof(std::pair<TimePoint, HostPiece*>);
// The smallest a piece can be, for sizing tables: one page of header and directory and one byte of
// body.
constexpr uint64_t kMinMetadataPerPiece = 1 * kKiB;

HostPiece& PieceOf(const TrackedPiece& tracked) {
  // NOLINTNEXTLINE(performance-no-int-to-ptr): the policy's tag is a number for any kind of piece
  return *reinterpret_cast<HostPiece*>(static_cast<uintptr_t>(tracked.tag()));
}

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
                            Arena::kBookkeepingBytesPerExtent + kHoldBytes +
                            index->bytes_per_piece() + policy->bytes_per_piece()),
      index_(std::move(index)),
      policy_(std::move(policy)) {}

HostStore::~HostStore() = default;

absl::StatusOr<std::unique_ptr<Upload>> HostStore::BeginUpload(TenantId tenant,
                                                               const UploadOffer& offer) {
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
  ByteCharge charge(memory_->metadata);
  std::optional<Extent> extent;
  // Held from here on, so that making room does not evict it.
  std::shared_ptr<HostPiece> restored;
  {
    MutexLock lock(mutex_);
    if (need > arena.capacity_bytes()) {
      ++refused_uploads_;
      return absl::ResourceExhaustedError(absl::StrCat(
          "a piece of ", total_bytes, " bytes is larger than the ", arena.capacity_bytes(),
          " bytes that this store has for pieces; raise its --memory"));
    }
    EndPassedHolds();
    const uint64_t uploading = tenants_[tenant].uploading_bytes;
    if (uploading > 0 && uploading + need > arena.capacity_bytes() / kTenantUploadShare) {
      ++refused_uploads_;
      return absl::ResourceExhaustedError(absl::StrCat(
          "piece ", offer.key.digest.Hex(), " of ", total_bytes, " bytes: its tenant has ",
          uploading, " bytes of uploads under way, of at most ",
          arena.capacity_bytes() / kTenantUploadShare, "; finish some first"));
    }
    REPRISE_ASSIGN_OR_RETURN(restored, FindToRestore(tenant, offer));
    const uint64_t metadata = piece_overhead_bytes_ + sizeof(HostUpload) + kObjectOverheadBytes;
    const auto fits = [&] {
      if (!extent.has_value()) extent = arena.Allocate(total_bytes);
      return extent.has_value() && (charge.bytes() > 0 || charge.TryGrow(metadata));
    };
    if (!MayMakeRoom(need, metadata) || !EvictUntil(fits)) {
      ++refused_uploads_;
      return Annotate(NoRoom(total_bytes), absl::StrCat("piece ", offer.key.digest.Hex()));
    }
    tenants_[tenant].uploading_bytes += need;
  }
  return std::make_unique<HostUpload>(*this, memory_, *std::move(extent), std::move(charge),
                                      piece_overhead_bytes_, tenant, offer, restored.get());
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

absl::StatusOr<CommitOutcome> HostStore::Publish(std::shared_ptr<HostPiece> piece) {
  std::shared_ptr<HostPiece> replaced;  // dropped after the lock
  MutexLock lock(mutex_);
  EndPassedHolds();
  const std::shared_ptr<HostPiece> held = index_->Find(piece->tenant(), piece->key());
  std::optional<TimePoint> held_until;
  if (held != nullptr) {
    if (Reaches(QualityOf(held->meta(), held->level() + 1),
                QualityOf(piece->meta(), piece->level() + 1))) {
      return CommitOutcome::kAlreadyHeld;
    }
    held_until = held->tracking.held_until;
    if (held_until.has_value() &&
        held->meta().header().content_id != piece->meta().header().content_id) {
      ++refused_uploads_;
      return absl::ResourceExhaustedError(
          absl::StrCat("piece ", piece->key().digest.Hex(),
                       " is held for a reader with other content; publish again when the hold is "
                       "over"));
    }
    replaced = Unlink(*held);
  }
  Link(piece);
  if (held_until.has_value()) SetHold(*piece, *held_until);
  return CommitOutcome::kStored;
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
  std::shared_ptr<HostPiece> piece = index_->Find(tenant, key);
  if (piece != nullptr) policy_->Use(piece->tracking.policy_record);
  return piece;
}

PieceRef HostStore::Peek(TenantId tenant, const Key& key) const {
  MutexLock lock(mutex_);
  return index_->Find(tenant, key);
}

void HostStore::Open(TenantId tenant, const Key& key, uint32_t /*level*/, Opened opened) {
  std::move(opened)(Find(tenant, key));
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
  EndPassedHolds();
  const std::shared_ptr<HostPiece> piece = index_->Find(tenant, key);
  if (piece == nullptr || piece->level() < level) return false;
  const TimePoint now = clock_.Now();
  if (until.PassedAt(now)) return false;
  const std::optional<TimePoint>& held_until = piece->tracking.held_until;
  if (!held_until.has_value()) {
    const uint64_t bytes = piece->footprint().arena_bytes;
    const uint64_t capacity = memory_->arena->capacity_bytes();
    if (held_.arena_bytes + bytes > capacity / kHoldShare) return false;
    if (tenants_[tenant].held_bytes + bytes > capacity / kTenantHoldShare) return false;
  }
  const TimePoint end = std::min(until.at(), now + kMaxHold);
  if (!held_until.has_value() || *held_until < end) SetHold(*piece, end);
  return true;
}

bool HostStore::Remove(TenantId tenant, const Key& key, const HeldPiece* expected) {
  std::shared_ptr<HostPiece> removed;  // dropped after the lock
  MutexLock lock(mutex_);
  const std::shared_ptr<HostPiece> piece = index_->Find(tenant, key);
  if (piece == nullptr) return false;
  if (expected != nullptr && piece.get() != expected) return false;
  removed = Unlink(*piece);
  return true;
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
  PieceIndex<HostPiece>::Page found;
  {
    MutexLock lock(mutex_);
    found = index_->List(tenant, after, limit, fingerprint);
  }
  ListPage page;
  page.more = found.more;
  page.pieces.reserve(found.pieces.size());
  for (const std::shared_ptr<HostPiece>& piece : found.pieces) {
    page.pieces.push_back({piece->key(), piece->Summarize()});
  }
  return page;
}

StoreUsage HostStore::usage() const {
  MutexLock lock(mutex_);
  StoreUsage usage;
  usage.pieces = index_->size();
  usage.bytes_used = memory_->arena->used_bytes() + memory_->metadata.used_bytes();
  usage.bytes_budget = budget_bytes_;
  usage.bytes_metadata = memory_->metadata.used_bytes();
  // Holds that have passed go with the next upload or hold; until then they count no more.
  usage.bytes_held = held_.arena_bytes;
  const TimePoint now = clock_.Now();
  for (auto it = holds_.begin(); it != holds_.end() && it->first <= now; ++it) {
    usage.bytes_held -= it->second->footprint().arena_bytes;
  }
  usage.bytes_pinned = memory_->pinned_bytes.load(std::memory_order_relaxed);
  usage.uploads = memory_->uploads.load(std::memory_order_relaxed);
  usage.evicted_pieces = evicted_pieces_;
  usage.refused_uploads = refused_uploads_;
  return usage;
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
    const Victim victim = policy_->ChooseVictim([](const TrackedPiece& tracked) {
      return PieceOf(tracked).weak_from_this().use_count() == 1;
    });
    if (victim.piece == nullptr) return false;
    HostPiece& piece = PieceOf(*victim.piece);
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

void HostStore::EndUpload(TenantId tenant, uint64_t arena_bytes) {
  MutexLock lock(mutex_);
  tenants_[tenant].uploading_bytes -= arena_bytes;
}

void HostStore::Link(std::shared_ptr<HostPiece> piece) {
  HostPiece& linked = *piece;
  if (!index_->Insert(std::move(piece))) std::abort();  // the caller has just seen it absent
  linked_ += linked.footprint();
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
  if (piece.tracking.held_until.has_value()) EndHold(piece);
  policy_->Remove(std::exchange(piece.tracking.policy_record, nullptr));
  linked_ -= piece.footprint();
  piece.tracking.unlinked = true;
  memory_->pinned_bytes.fetch_add(piece.footprint().total(), std::memory_order_relaxed);
  return index_->Erase(piece.tenant(), piece.key());
}

void HostStore::SetHold(HostPiece& piece, TimePoint until) {
  if (piece.tracking.held_until.has_value()) EndHold(piece);
  piece.tracking.held_until = until;
  holds_.emplace(until, &piece);
  held_ += piece.footprint();
  tenants_[piece.tenant()].held_bytes += piece.footprint().arena_bytes;
  policy_->SetHeld(piece.tracking.policy_record, true);
}

void HostStore::EndHold(HostPiece& piece) {
  holds_.erase({*piece.tracking.held_until, &piece});
  piece.tracking.held_until.reset();
  held_ -= piece.footprint();
  tenants_[piece.tenant()].held_bytes -= piece.footprint().arena_bytes;
  policy_->SetHeld(piece.tracking.policy_record, false);
}

void HostStore::EndPassedHolds() {
  const TimePoint now = clock_.Now();
  while (!holds_.empty() && holds_.begin()->first <= now) EndHold(*holds_.begin()->second);
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
