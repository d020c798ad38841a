// Which piece to give up first: the seam between the tiers and the policy that rules them.
//
// A policy is pure. It is told what comes, is used, is held and goes, in order, and answers which
// piece should go next; it sees no clock, no bytes and no tier, so that the same code runs in a
// store and in a trace simulator. Time is the order of the calls. Not thread-safe: the tier calls
// it under its own lock.
#pragma once

#include <cstddef>
#include <cstdint>

#include "absl/functional/function_ref.h"

#include "chunk/keys.h"
#include "storage/piece_attributes.h"

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
  uint64_t tag = 0;
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

  // The piece to give up next, still tracked; the tier evicts it and calls Remove. Pieces that
  // `can_evict` turns down are passed over. A piece is never named while one that builds on it is
  // resident, so evicting what is named leaves no hole in a prefix. Null when there is no victim.
  virtual TrackedPiece* Victim(absl::FunctionRef<bool(const TrackedPiece&)> can_evict) = 0;

  // Memory that the policy takes from its creation on, and at most in addition per resident piece.
  virtual size_t fixed_bytes() const = 0;
  virtual size_t bytes_per_piece() const = 0;
};

}  // namespace reprise::storage
