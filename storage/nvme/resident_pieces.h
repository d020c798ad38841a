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

  std::optional<Number> Find(TenantId tenant, const Key& key) const {
    return view_.Find(tenant, key);
  }
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

  // Gives up what the policy names until `bytes` more may live and another piece fits into memory.
  // False when nothing more may go.
  bool MakeRoom(uint64_t bytes);
  // One victim of the policy. False when it names none.
  bool EvictOne();

  bool Hold(TenantId tenant, const Key& key, uint32_t level, Deadline until);
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

  void Track(Number piece, const PieceRecord& record);
  void Drop(Number piece, bool tell_catalog);
  void Shed(Number piece, uint32_t planes);
  void ReleaseRuns(const PieceRecord& record);
  void EndHold(Number piece);
  void EndPassedHolds();

  const size_t max_pieces_;
  SegmentSpace& space_;
  const Clock& clock_;
  PieceView view_;
  std::unique_ptr<EvictionPolicy> policy_;
  std::vector<Change> changes_;
  absl::flat_hash_map<Number, Holding> holds_;
  std::set<std::pair<TimePoint, Number>> holds_by_end_;
  uint64_t held_bytes_ = 0;
  absl::flat_hash_map<TenantId, uint64_t> held_bytes_of_tenant_;
  Counts counts_;
};

}  // namespace reprise::storage
