// Which pieces the nvme tier holds, what its policy knows of them and who holds them: everything of
// the tier that changes without the disk.
//
// What is given up is forgotten at once; the catalog learns of it later, by TakeChanges, and until
// then the segments concerned stay pinned. Pure: no I/O. Not thread-safe: the tier calls it under
// its lock.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "absl/container/btree_set.h"
#include "absl/container/flat_hash_map.h"

#include "common/clock.h"
#include "storage/nvme/piece_view.h"
#include "storage/nvme/segment_space.h"
#include "storage/piece_store.h"
#include "storage/policy.h"

namespace reprise::storage {

class ResidentPieces {
 public:
  using Number = PieceView::Number;
  // Pins take memory each: one in so many pieces may have one.
  static constexpr size_t kPinnedPiecesShare = 8;

  // A name whose record in the catalog is no longer what the view says. `pinned` are segments to
  // unpin once it is.
  struct Change {
    TenantId tenant = 0;
    Key key;
    std::optional<uint32_t> pinned[2];
  };

  struct Counts {
    uint64_t evicted = 0;
    uint64_t shed = 0;
    uint64_t damaged = 0;
  };

  // How many pieces fit into that much memory, beside the policy that `make_policy` makes.
  static size_t MaxPieces(uint64_t memory_bytes, const PolicyFactory& make_policy);

  ResidentPieces(size_t max_pieces, const PolicyFactory& make_policy, SegmentSpace& space,
                 const Clock& clock);
  ~ResidentPieces();

  const PieceView& view() const { return view_; }
  const Counts& counts() const { return counts_; }
  uint64_t memory_bytes() const;
  uint64_t pinned_bytes() const { return pinned_bytes_; }

  std::optional<Number> Find(TenantId tenant, const Key& key) const {
    return view_.Find(tenant, key);
  }
  // As everyone but the catalog sees it: not once it has expired.
  std::optional<Number> FindLive(TenantId tenant, const Key& key) const;
  // Only if it is that content.
  std::optional<Number> Find(TenantId tenant, const Key& key, const ContentId& content) const;
  ListPage List(TenantId tenant, const Key* after, uint32_t limit, const Digest* fingerprint) const;

  // When opening: a record whose places have been looked at.
  void AddFound(TenantId tenant, const Key& key, const PieceRecord& record);
  // When opening: a record that is no good, or whose place is gone; the catalog is to forget it.
  void Disown(TenantId tenant, const Key& key);

  // The catalog has the record, whose runs were allocated. What was there under the name goes.
  void Install(TenantId tenant, const Key& key, const PieceRecord& record);
  // The catalog has the piece at these places now; the new ones were allocated. The piece must be
  // there, with that content.
  void SetDurable(Number piece);
  void SetPlace(Number piece, RunKind kind, const RunPlace& to, uint64_t to_bytes);

  void Use(Number piece);
  void Forget(Number piece);
  void ForgetDamaged(Number piece);
  // Forgets at most `limit` of the tenant's pieces in that namespace with keys after `after`, which
  // becomes the last key looked at. Returns how many; `more` is whether any may be left.
  uint64_t ForgetNamespace(TenantId tenant, const Digest& fingerprint, std::optional<Key>& after,
                           bool& more);

  // Forgets what has expired: the piece of that name; at most `limit` pieces, the first to expire
  // first.
  void ForgetIfExpired(TenantId tenant, const Key& key);
  void ForgetExpired(size_t limit);

  // Gives up what has expired, then what the policy names, until `bytes` more may live and another
  // piece fits into memory. False when nothing more may go.
  bool MakeRoom(uint64_t bytes);
  // One that has expired, else one victim of the policy. False when it names none.
  bool EvictOne() { return Evict(std::nullopt); }
  // Gives up the tenant's own pieces until it may have `bytes` more. False when that cannot be.
  bool KeepWithinQuota(TenantId tenant, uint64_t bytes);
  // In bytes of runs; 0: none.
  void SetQuota(TenantId tenant, uint64_t quota_bytes);
  absl::Status AboveQuota(TenantId tenant) const;

  bool Hold(TenantId tenant, const Key& key, uint32_t level, Deadline until);
  // As PieceStore's.
  absl::Status Pin(TenantId tenant, const Key& key, Deadline until);
  bool Unpin(TenantId tenant, const Key& key);
  // Whether a hold keeps what is under the name from being replaced by that content.
  bool HeldWithOther(TenantId tenant, const Key& key, const ContentId& content);

  // The catalog may or may not have a record of that name that points to these segments: it is to
  // be told the truth, and until then they stay.
  void Doubt(TenantId tenant, const Key& key, uint32_t segment, std::optional<uint32_t> other);

  bool has_changes() const { return !changes_.empty(); }
  std::vector<Change> TakeChanges() { return std::exchange(changes_, {}); }
  // Changes that could not be written, in front of all others.
  void ReturnChanges(std::vector<Change> changes);

 private:
  struct Holding {
    TimePoint until;
    uint64_t bytes;
  };
  // In bytes of runs.
  struct TenantUse {
    uint64_t live_bytes = 0;
    uint64_t held_bytes = 0;
    uint64_t pinned_bytes = 0;
    uint64_t quota_bytes = 0;  // 0: none
  };

  void Track(Number piece, const PieceRecord& record);
  void Drop(Number piece, bool tell_catalog);
  void Shed(Number piece, uint32_t planes);
  void ReleaseRuns(const PieceRecord& record);
  bool Evict(std::optional<TenantId> tenant);
  // What is worth least of the first kVictimsSeen pieces of the tenant from a random place on; of
  // all where none of those may go.
  static constexpr size_t kVictimsSeen = 128;
  Victim ChooseOf(TenantId tenant);
  // What the policy is told: held, pinned or neither.
  void TellWhetherKept(Number piece);
  void SetPin(Number piece, TimePoint until);
  uint64_t TenantPinLimit(TenantId tenant) const;
  // Whether so much more may be pinned.
  bool MayPin(TenantId tenant, uint64_t bytes);
  void EndHold(Number piece);
  void EndPin(Number piece);
  void EndWhatPassed();

  const size_t max_pieces_;
  SegmentSpace& space_;
  const Clock& clock_;
  PieceView view_;
  std::unique_ptr<EvictionPolicy> policy_;
  std::vector<Change> changes_;
  absl::flat_hash_map<Number, Holding> holds_;
  std::set<std::pair<TimePoint, Number>> holds_by_end_;
  uint64_t held_bytes_ = 0;
  absl::flat_hash_map<Number, TimePoint> pins_;
  absl::btree_set<std::pair<TimePoint, Number>> pins_by_end_;
  uint64_t pinned_bytes_ = 0;
  // An entry for each tenant seen.
  absl::flat_hash_map<TenantId, TenantUse> tenants_;
  uint64_t choices_ = 0;  // of a tenant's victims, for random places
  Counts counts_;
};

}  // namespace reprise::storage
