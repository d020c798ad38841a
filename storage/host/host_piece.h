// A piece in the host tier's arena.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>

#include "chunk/container.h"
#include "storage/host/arena.h"
#include "storage/host/byte_budget.h"
#include "storage/piece_store.h"
#include "storage/policy.h"

namespace reprise::storage {

// What pieces and uploads share with their store, and keep alive when it is gone before them.
struct HostMemory {
  HostMemory(std::unique_ptr<Arena> the_arena, uint64_t metadata_bytes)
      : arena(std::move(the_arena)), metadata(metadata_bytes) {}

  const std::unique_ptr<Arena> arena;
  ByteBudget metadata;
  std::atomic<uint64_t> pinned_bytes{0};
  std::atomic<uint64_t> uploads{0};
};

// What pieces take, in the arena and beside it.
struct Footprint {
  uint64_t arena_bytes = 0;
  uint64_t metadata_bytes = 0;

  uint64_t total() const { return arena_bytes + metadata_bytes; }
  Footprint& operator+=(const Footprint& other) {
    arena_bytes += other.arena_bytes;
    metadata_bytes += other.metadata_bytes;
    return *this;
  }
  Footprint& operator-=(const Footprint& other) {
    arena_bytes -= other.arena_bytes;
    metadata_bytes -= other.metadata_bytes;
    return *this;
  }
};

// Immutable for readers; what the store remembers about it is `tracking`, and it sheds planes while
// nobody reads. Dropping the last reference frees its bytes.
class HostPiece final : public HeldPiece, public std::enable_shared_from_this<HostPiece> {
 public:
  // Whether a slower tier has what this one has of the piece.
  enum class Copy : uint8_t { kNone, kBeingMade, kMade };

  // Why a piece may not go: a reader is about to fetch it, or a tenant wants it kept.
  enum class Keep : uint8_t { kHold, kPin };
  static constexpr size_t kKeeps = 2;

  // For the store alone, under its lock.
  struct Tracking {
    TrackedPiece* policy_record = nullptr;
    std::array<std::optional<TimePoint>, kKeeps> kept_until;  // by Keep
    bool unlinked = false;  // out of the index; its bytes count as pinned until it is destroyed
    Copy copy = Copy::kNone;

    std::optional<TimePoint>& until(Keep keep) { return kept_until[static_cast<size_t>(keep)]; }
    bool kept() const { return kept_until[0].has_value() || kept_until[1].has_value(); }
  };

  // `extent` holds the container of `meta` up to `level`.
  HostPiece(std::shared_ptr<HostMemory> memory, Extent extent, ByteCharge charge, TenantId tenant,
            PieceMeta meta, uint32_t level, const PieceAttributes& attributes)
      : memory_(std::move(memory)),
        tenant_(tenant),
        meta_(std::move(meta)),
        level_(level),
        extent_(std::move(extent)),
        charge_(std::move(charge)),
        attributes_(attributes) {}

  ~HostPiece() override {
    if (tracking.unlinked) {
      memory_->pinned_bytes.fetch_sub(footprint().total(), std::memory_order_relaxed);
    }
  }

  struct ByExpiry {
    bool operator()(const HostPiece* a, const HostPiece* b) const {
      const uint32_t of_a = a->attributes().expires_at_s;
      const uint32_t of_b = b->attributes().expires_at_s;
      return of_a != of_b ? of_a < of_b : a < b;
    }
  };

  // The piece that this is the policy's record of.
  static HostPiece& Of(const TrackedPiece& tracked) {
    // NOLINTNEXTLINE(performance-no-int-to-ptr): the policy's tag is a number for any kind of piece
    return *reinterpret_cast<HostPiece*>(static_cast<uintptr_t>(tracked.tag()));
  }

  TenantId tenant() const { return tenant_; }
  const Key& key() const { return meta_.header().key; }
  const Digest& fingerprint() const { return meta_.header().namespace_fingerprint; }
  Footprint footprint() const { return {extent_.occupied_bytes(), charge_.bytes()}; }

  const PieceMeta& meta() const override { return meta_; }
  const PieceAttributes& attributes() const override { return attributes_; }
  uint32_t level() const override { return level_; }
  Tier tier() const override { return Tier::kHost; }
  ByteSpan meta_bytes() const override { return extent_.bytes().first(meta_.meta_bytes()); }
  ByteSpan body() const override { return extent_.bytes().subspan(meta_.meta_bytes()); }
  // Header, directory, body and zeros, from an address and to a length that direct writes take.
  ByteSpan padded_container() const { return extent_.occupied(); }

  // Drops all but the first `planes` planes, at least one. For the store alone, under its lock and
  // while the index has the only reference.
  void Shed(uint32_t planes) {
    level_ = planes - 1;
    extent_.Shrink(meta_.bytes_to(level_));
  }

  // First what Find touches, so that it lies together: `tracking`, tenant and, at the start of the
  // header, the key.
  Tracking tracking;

 private:
  const std::shared_ptr<HostMemory> memory_;
  const TenantId tenant_;
  const PieceMeta meta_;
  uint32_t level_;
  Extent extent_;
  const ByteCharge charge_;
  const PieceAttributes attributes_;
};

}  // namespace reprise::storage
