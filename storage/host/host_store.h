// The host tier: pieces in one arena of host memory; an eviction policy names what goes first.
//
// `budget_bytes` covers everything the store allocates: the arena, and beside it what the store
// keeps per piece (parsed header and directory, index, policy) and per upload. All of it is charged
// before it is allocated and refused beyond the budget. Removed and evicted pieces stay charged
// until the last reference to them is gone, and dropping that reference is cheap and may happen on
// any thread.
//
// Thread-safe. One mutex guards index, policy and holds, for well under a microsecond in Find;
// copying and verifying bytes happen outside it. Uploads must be destroyed before the store; pieces
// may outlive it.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/btree_set.h"
#include "absl/container/flat_hash_map.h"
#include "absl/functional/function_ref.h"

#include "common/mutex.h"
#include "storage/host/host_piece.h"
#include "storage/index/piece_index.h"
#include "storage/piece_store.h"
#include "storage/policy.h"

namespace reprise::storage {

struct HostStoreOptions {
  uint64_t budget_bytes = 0;
  PolicyFactory make_policy = {};         // LruPolicy when empty
  const Clock* clock = &Clock::Steady();  // for holds; must outlive the store
};

class HostUpload;

class HostStore final : public PieceStore {
 public:
  static constexpr uint64_t kMinBudgetBytes = 1 << 20;
  // Holds together cover at most 1 / kHoldShare of the arena, so that publishing goes on beside
  // them, and those of one tenant at most 1 / kTenantHoldShare, so that it cannot keep others from
  // holding by renewing its own.
  static constexpr uint64_t kHoldShare = 2;
  static constexpr uint64_t kTenantHoldShare = 4;
  // The same for pins, which last far longer; of a tenant's quota they may be half.
  static constexpr uint64_t kPinShare = 4;
  static constexpr uint64_t kTenantPinShare = 8;
  static constexpr uint64_t kQuotaPinShare = 2;
  // Uploads of one tenant cover at most 1 / kTenantUploadShare of the arena together; one alone may
  // be larger.
  static constexpr uint64_t kTenantUploadShare = 2;

  // Maps the arena. INVALID_ARGUMENT below kMinBudgetBytes; RESOURCE_EXHAUSTED when the kernel
  // refuses the memory.
  static absl::StatusOr<std::unique_ptr<HostStore>> Create(const HostStoreOptions& options);
  ~HostStore() override;
  HostStore(const HostStore&) = delete;
  HostStore& operator=(const HostStore&) = delete;

  // All memory that pieces live in, for registration with carriers. Writing into it is for tests
  // that damage stored bytes: a piece's meta_bytes() and body() are parts of it.
  MutableByteSpan arena() const { return memory_->arena->bytes(); }
  PageKind page_kind() const { return memory_->arena->page_kind(); }

  // ---- for a slower tier below this one ----

  // As BeginUpload, for a piece that a slower tier has: no part of the tenant's share of uploads,
  // and not counted as refused. Unless `fresh_too`, nothing that came or was used last goes for it.
  // FAILED_PRECONDITION when it is the tenant's quota that leaves no room.
  absl::StatusOr<std::unique_ptr<HostUpload>> BeginLoad(TenantId tenant, const UploadOffer& offer,
                                                        bool fresh_too) ABSL_LOCKS_EXCLUDED(mutex_);
  // What eviction will come to within the next `ahead_bytes`, as far as those are not free already,
  // and that the policy thinks worth a copy in a slower tier and that has none: at most `limit`
  // pieces, those that others build on first. Each comes back in EndDemotion once, and is not told
  // of again before. Looks at a bounded number of pieces.
  std::vector<std::shared_ptr<const HostPiece>> BeginDemotion(uint64_t ahead_bytes, size_t limit)
      ABSL_LOCKS_EXCLUDED(mutex_);
  // The same of one piece and those that it builds on, wherever eviction is.
  std::vector<std::shared_ptr<const HostPiece>> BeginDemotionOf(const HostPiece& piece)
      ABSL_LOCKS_EXCLUDED(mutex_);
  // Whatever eviction may name, in its order. Ends holds and pins: for a store that serves no more.
  std::vector<std::shared_ptr<const HostPiece>> EvictionOrder() ABSL_LOCKS_EXCLUDED(mutex_);
  // Whether the slower tier has the piece now, as it was when it was told of.
  void EndDemotion(const HostPiece& piece, bool copied) ABSL_LOCKS_EXCLUDED(mutex_);

  absl::StatusOr<std::unique_ptr<Upload>> BeginUpload(TenantId tenant,
                                                      const UploadOffer& offer) override
      ABSL_LOCKS_EXCLUDED(mutex_);
  std::optional<PieceSummary> Describe(TenantId tenant, const Key& key) const override
      ABSL_LOCKS_EXCLUDED(mutex_);
  PieceRef Find(TenantId tenant, const Key& key) override ABSL_LOCKS_EXCLUDED(mutex_);
  PieceRef Peek(TenantId tenant, const Key& key) const override ABSL_LOCKS_EXCLUDED(mutex_);
  void Open(TenantId tenant, const Key& key, uint32_t level, Opened opened) override
      ABSL_LOCKS_EXCLUDED(mutex_);
  void Warm(TenantId tenant, const Key& key, uint32_t level, Opened opened) override
      ABSL_LOCKS_EXCLUDED(mutex_);
  void Persist(TenantId tenant, const Key& key, const ContentId& content, Persisted done) override;
  absl::StatusOr<TenantId> TenantFor(std::string_view name) override ABSL_LOCKS_EXCLUDED(mutex_);
  bool Hold(TenantId tenant, const Key& key, uint32_t level, Deadline until) override
      ABSL_LOCKS_EXCLUDED(mutex_);
  void Pin(TenantId tenant, const Key& key, Deadline until, Pinned done) override
      ABSL_LOCKS_EXCLUDED(mutex_);
  bool Unpin(TenantId tenant, const Key& key) override ABSL_LOCKS_EXCLUDED(mutex_);
  void SetQuota(TenantId tenant, const TenantQuota& quota) override ABSL_LOCKS_EXCLUDED(mutex_);
  bool Remove(TenantId tenant, const Key& key, const HeldPiece* expected) override
      ABSL_LOCKS_EXCLUDED(mutex_);
  uint64_t RemoveNamespace(TenantId tenant, const Digest& fingerprint) override
      ABSL_LOCKS_EXCLUDED(mutex_);
  ListPage List(TenantId tenant, const Key* after, uint32_t limit,
                const Digest* fingerprint) const override ABSL_LOCKS_EXCLUDED(mutex_);
  StoreUsage usage() const override ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  friend class HostUpload;

  // Reference counts and allocator's headers around a piece or upload.
  static constexpr uint64_t kObjectOverheadBytes = 64;

  using Keep = HostPiece::Keep;
  using KeptBytes = std::array<uint64_t, HostPiece::kKeeps>;  // by Keep

  // Of the arena, by one tenant.
  struct TenantUse {
    uint64_t linked_bytes = 0;
    uint64_t uploading_bytes = 0;
    KeptBytes kept_bytes{};
    uint64_t immovable_bytes = 0;  // of linked_bytes, kept for one reason or both
    uint64_t quota_bytes = 0;      // 0: none
  };

  HostStore(uint64_t budget_bytes, const Clock& clock, std::shared_ptr<HostMemory> memory,
            std::unique_ptr<PieceIndex<HostPiece>> index, std::unique_ptr<EvictionPolicy> policy);

  // Room for an upload, and what is held of the same content.
  struct Room {
    Extent extent;
    ByteCharge charge;
    std::shared_ptr<HostPiece> restored;
  };
  absl::StatusOr<Room> MakeRoom(TenantId tenant, const UploadOffer& offer, bool fresh_too)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  std::unique_ptr<HostUpload> MakeUpload(Room room, TenantId tenant, const UploadOffer& offer,
                                         uint64_t tenant_share_bytes);

  // Grows an upload's charge before it parses what came, evicting for it.
  absl::Status GrowCharge(ByteCharge& charge, uint64_t by_bytes) ABSL_LOCKS_EXCLUDED(mutex_);
  // Makes a verified piece visible.
  absl::StatusOr<CommitOutcome> Publish(std::shared_ptr<HostPiece> piece)
      ABSL_LOCKS_EXCLUDED(mutex_);
  absl::StatusOr<PieceRef> PublishLoaded(std::shared_ptr<HostPiece> piece,
                                         const std::atomic<bool>& cancelled)
      ABSL_LOCKS_EXCLUDED(mutex_);
  // What is held under the key, unless it has expired.
  std::shared_ptr<HostPiece> FindLive(TenantId tenant, const Key& key) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool HasExpired(const HostPiece& piece) const;
  // Puts it in the place of what is held under its key.
  void Replace(HostPiece* held, std::shared_ptr<HostPiece> piece,
               std::shared_ptr<HostPiece>& replaced) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // What is held of the offered content with fewer planes; null when nothing is. INVALID_ARGUMENT
  // when the offer contradicts the directory that is held.
  absl::StatusOr<std::shared_ptr<HostPiece>> FindToRestore(TenantId tenant,
                                                           const UploadOffer& offer) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Drops what is held under the key if its bytes no longer match their checksums.
  void RemoveIfDamaged(TenantId tenant, const Key& key) ABSL_LOCKS_EXCLUDED(mutex_);

  // False, evicting nothing, when not even evicting every piece that may go would free that much.
  bool MayMakeRoom(uint64_t arena_bytes, uint64_t metadata_bytes) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Gives up what has expired, then what the policy names, until `fits`; false when that fails.
  struct VictimScope {
    std::optional<TenantId> tenant{};  // only this one's
    bool fresh_too = true;             // as EvictionPolicy's
  };
  bool EvictUntil(const VictimScope& scope, absl::FunctionRef<bool()> fits)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  Victim ChooseVictim(const VictimScope& scope) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // What is worth least of the first kVictimsSeen pieces of the tenant from a random place on that
  // `may_go` says yes to; of all where none of those may go. No step past another tenant's.
  static constexpr size_t kVictimsSeen = 128;
  Victim ChooseOf(TenantId tenant, bool fresh_too, absl::FunctionRef<bool(const HostPiece&)> may_go)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Gives up the tenant's own pieces until it may have `more_bytes`; if it never may, none, false.
  bool KeepWithinQuota(TenantId tenant, uint64_t more_bytes, bool fresh_too)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status AboveQuota(TenantId tenant, uint64_t bytes) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Shed(HostPiece& piece, uint32_t planes) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The destructor of an upload of `arena_bytes`.
  void EndUpload(TenantId tenant, uint64_t arena_bytes) ABSL_LOCKS_EXCLUDED(mutex_);
  void Link(std::shared_ptr<HostPiece> piece) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Takes the piece out of everything; the caller drops what is returned.
  std::shared_ptr<HostPiece> Unlink(HostPiece& piece) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status PinNow(TenantId tenant, const Key& key, Deadline until) ABSL_LOCKS_EXCLUDED(mutex_);
  // Whether so much more may be kept beside what is.
  bool MayKeep(Keep keep, TenantId tenant, uint64_t bytes) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  uint64_t TenantPinLimit(const TenantUse& use) const;
  // Anew, or to another end.
  void SetKeep(HostPiece& piece, Keep keep, TimePoint until) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Nothing when there is none.
  void EndKeep(HostPiece& piece, Keep keep) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Of those that have not passed.
  uint64_t BytesKept(Keep keep) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Ends holds and pins that have passed and drops some of what has expired.
  void EndWhatPassed() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // False when nothing has expired.
  bool DropOneExpired() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The piece that this one builds on; null when it is not in memory.
  std::shared_ptr<HostPiece> ParentOf(const HostPiece& piece) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Adds what is worth a copy and has none of a chain, which begins with its last; the first first.
  void AddWorthDemoting(const std::vector<HostPiece*>& chain,
                        std::vector<std::shared_ptr<const HostPiece>>& found) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status NoRoom(uint64_t bytes) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const uint64_t budget_bytes_;
  const Clock& clock_;
  const std::shared_ptr<HostMemory> memory_;
  // What every piece is charged beside its arena bytes and its parsed header and directory.
  const uint64_t piece_overhead_bytes_;

  mutable Mutex mutex_;
  const std::unique_ptr<PieceIndex<HostPiece>> index_ ABSL_PT_GUARDED_BY(mutex_);
  const std::unique_ptr<EvictionPolicy> policy_ ABSL_PT_GUARDED_BY(mutex_);
  using ByEnd = absl::btree_set<std::pair<TimePoint, HostPiece*>>;
  std::array<ByEnd, HostPiece::kKeeps> keeps_ ABSL_GUARDED_BY(mutex_);
  KeptBytes kept_bytes_ ABSL_GUARDED_BY(mutex_){};
  absl::btree_set<HostPiece*, HostPiece::ByExpiry> expiring_
      ABSL_GUARDED_BY(mutex_);  // those that ever do
  Footprint linked_ ABSL_GUARDED_BY(mutex_);
  Footprint kept_ ABSL_GUARDED_BY(mutex_);  // of linked_, for one reason or both
  // An entry for each tenant seen; the service knows a fixed number of them.
  absl::flat_hash_map<TenantId, TenantUse> tenants_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_map<std::string, TenantId> tenant_names_ ABSL_GUARDED_BY(mutex_);
  uint64_t choices_ ABSL_GUARDED_BY(mutex_) = 0;  // of a tenant's victims, for random places
  uint64_t evicted_pieces_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t refused_uploads_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace reprise::storage
