// A policy for tests that sheds: the last plane of the pieces that have most, oldest first; whole
// pieces only when each has one plane. It knows no prefixes. Not thread-safe.
#pragma once

#include <algorithm>
#include <list>
#include <span>

#include "storage/policy.h"

namespace reprise::storage {

class PlanesFirst : public EvictionPolicy {
 public:
  TrackedPiece* Insert(const PolicyPiece& piece) override { return &pieces_.emplace_back(piece); }
  void Use(TrackedPiece* /*piece*/) override {}
  void Remove(TrackedPiece* piece) override {
    pieces_.remove_if([piece](const Tracked& tracked) { return &tracked == piece; });
  }
  void SetHeld(TrackedPiece* piece, bool held) override {
    static_cast<Tracked*>(piece)->held = held;
  }
  void Shed(TrackedPiece* piece, uint32_t planes_held, uint64_t size_bytes) override {
    auto* tracked = static_cast<Tracked*>(piece);
    tracked->planes = planes_held;
    tracked->size_bytes = size_bytes;
  }
  Victim ChooseAmong(bool /*fresh_too*/, std::span<TrackedPiece* const> pieces) override {
    return ChooseVictim(true, [pieces](const TrackedPiece& piece) {
      return std::ranges::find(pieces, &piece) != pieces.end();
    });
  }
  Victim ChooseVictim(bool /*fresh_too*/,
                      absl::FunctionRef<bool(const TrackedPiece&)> can_evict) override {
    Tracked* most = nullptr;
    for (Tracked& piece : pieces_) {
      if (piece.held || !can_evict(piece)) continue;
      if (most == nullptr || piece.planes > most->planes) most = &piece;
    }
    if (most == nullptr) return {};
    return {.piece = most, .keep_planes = most->planes - 1};
  }
  bool WorthDemoting(const TrackedPiece& /*piece*/) const override { return true; }
  void SetDemoted(TrackedPiece* /*piece*/) override {}

  size_t fixed_bytes() const override { return sizeof(*this); }
  size_t bytes_per_piece() const override { return sizeof(Tracked) + 2 * sizeof(void*); }

 protected:
  struct Tracked final : TrackedPiece {
    explicit Tracked(const PolicyPiece& piece)
        : TrackedPiece(piece.tag), planes(piece.planes_held), size_bytes(piece.size_bytes) {}
    uint32_t planes;
    uint64_t size_bytes;
    bool held = false;
  };

 private:
  std::list<Tracked> pieces_;
};

}  // namespace reprise::storage
