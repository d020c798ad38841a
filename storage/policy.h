// What to give up first: the seam between the tiers and the policy that rules them.
//
// A policy is pure. It is told what comes, is used, is held and goes, in order, and answers which
// piece should go next; it sees no clock, no bytes and no tier, so that the same code runs in a
// store and in a trace simulator. Time is the order of the calls. Not thread-safe: the tier calls
// it under its own lock.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>

#include "absl/functional/function_ref.h"

#include "chunk/keys.h"
#include "storage/piece_attributes.h"
#include "storage/piece_summary.h"

namespace reprise::storage {

// A piece as its policy knows it. Owned by the policy; lives from Insert to Remove.
class TrackedPiece {
 public:
  // What the tier gave at Insert, to find its own record again.
  uint64_t tag() const { return tag_; }

 protected:
  explicit TrackedPiece(uint64_t tag) : tag_(tag) {}
  ~TrackedPiece() = default;
  void set_tag(uint64_t tag) { tag_ = tag; }

 private:
  uint64_t tag_;
};

struct PolicyPiece {
  TenantId tenant = 0;
  Key key;
  uint64_t size_bytes = 0;
  PieceAttributes attributes{};
  // Bytes and distortion of every level of the encoded piece, borrowed for the call, and how many
  // of its planes are resident.
  std::span<const PieceSummary::Level> levels{};
  uint32_t planes_held = 1;
  uint64_t tag = 0;
};

// What to give up next.
struct Victim {
  TrackedPiece* piece = nullptr;  // still tracked; null: nothing may go
  uint32_t keep_planes = 0;       // that stay, fewer than are resident; 0: none, the piece goes
};

class EvictionPolicy {
 public:
  virtual ~EvictionPolicy() = default;

  // The piece is resident now, which counts as a use. (tenant, key) must not be resident already.
  // Never null.
  virtual TrackedPiece* Insert(const PolicyPiece& piece) = 0;

  virtual void Use(TrackedPiece* piece) = 0;

  // The piece is gone, by eviction or otherwise.
  virtual void Remove(TrackedPiece* piece) = 0;

  // A held piece is no victim until it is let go; neither does this count as a use.
  virtual void SetHeld(TrackedPiece* piece, bool held) = 0;

  // The tier dropped all but the first `planes_held` planes of the piece, which now takes
  // `size_bytes`. No use.
  virtual void Shed(TrackedPiece* piece, uint32_t planes_held, uint64_t size_bytes) = 0;

  // What to give up next; the tier does so and calls Remove, or Shed. Pieces that `can_evict` turns
  // down are passed over, and unless `fresh_too` those that came or were used last, where the
  // policy tells them apart: whoever brings in what may be used later has to leave them. A piece
  // never goes whole while one that builds on it is resident, so giving up what is named leaves no
  // hole in a prefix.
  virtual Victim ChooseVictim(bool fresh_too,
                              absl::FunctionRef<bool(const TrackedPiece&)> can_evict) = 0;
  // The same, but one of `pieces`: for a tenant that is above its quota.
  virtual Victim ChooseAmong(bool fresh_too, std::span<TrackedPiece* const> pieces) = 0;

  // Whether the piece, which is to leave this tier soon, is worth a write to the next: most pieces
  // are never used again, and those would only wear a disk.
  virtual bool WorthDemoting(const TrackedPiece& piece) const = 0;

  // A copy of the piece lies in the next tier now. The one it builds on is worth demoting from now
  // on, so that no prefix has a hole there.
  virtual void SetDemoted(TrackedPiece* piece) = 0;

  // Memory that the policy takes from its creation on, and at most in addition per resident piece.
  virtual size_t fixed_bytes() const = 0;
  virtual size_t bytes_per_piece() const = 0;
};

// Makes the policy of a tier, sized for `max_pieces` resident at once.
using PolicyFactory = std::function<std::unique_ptr<EvictionPolicy>(size_t max_pieces)>;

}  // namespace reprise::storage
