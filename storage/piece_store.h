// What a store keeps, whatever the tiers below: encoded pieces by (tenant, key), whole or shortened
// to a level.
//
// The services see storage through this interface only. Bytes are opaque here: a piece's header and
// directory are parsed and checked once, when its upload commits, and its segments' checksums are
// verified then. Everything is thread-safe. Tenants are small numbers given by the service; no
// operation sees another tenant's pieces.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "absl/functional/any_invocable.h"

#include "chunk/container.h"
#include "chunk/keys.h"
#include "chunk/quality.h"
#include "common/bytes.h"
#include "common/clock.h"
#include "common/status.h"
#include "storage/piece_attributes.h"
#include "storage/piece_summary.h"

namespace reprise::storage {

// What a publisher says of a container before its bytes come. Hostile until Commit has compared it
// with them.
struct UploadOffer {
  Key key{};
  uint64_t total_bytes = 0;  // of header, directory and the planes of `quality`
  PieceQuality quality{};
  PieceAttributes attributes{};
};

// A piece as held at one moment. The bytes stay valid and unchanged while any reference lives, also
// when the piece is removed, evicted or replaced meanwhile.
class HeldPiece {
 public:
  virtual ~HeldPiece() = default;
  virtual const PieceMeta& meta() const = 0;
  virtual const PieceAttributes& attributes() const = 0;
  // Highest level whose planes are all held.
  virtual uint32_t level() const = 0;
  virtual Tier tier() const = 0;
  // Header, directory and padding, as published.
  virtual ByteSpan meta_bytes() const = 0;
  // The body up to the end of level().
  virtual ByteSpan body() const = 0;

  PieceSummary Summarize() const { return SummaryOf(meta(), attributes(), level() + 1, tier()); }
};
using PieceRef = std::shared_ptr<const HeldPiece>;

enum class CommitOutcome : uint8_t { kStored, kAlreadyHeld };

// One container on its way in. Its memory is charged to the budget at once and given back if it is
// destroyed before Commit. Writes of disjoint ranges may run on several threads; Commit comes after
// all of them.
class Upload {
 public:
  virtual ~Upload() = default;
  virtual uint64_t total_bytes() const = 0;
  // The bytes before this one are there from the start: planes of the same content that were held
  // when the upload began.
  virtual uint64_t from_offset() const = 0;

  // Copies `bytes` to `offset`. True when every byte is there now: exactly one call is told that,
  // and its caller is the one to Commit. INVALID_ARGUMENT, changing nothing, outside
  // [from_offset, total_bytes) or over bytes already written; RESOURCE_EXHAUSTED when parts come so
  // far out of order that they leave too many gaps.
  virtual absl::StatusOr<bool> Write(uint64_t offset, ByteSpan bytes) = 0;

  // Verifies everything (header, directory, content id, every checksum, and that they are what was
  // offered) and makes the piece visible, replacing a held one that does not reach it
  // (chunk/quality.h). Takes milliseconds for large pieces. Once only, except that INVALID_ARGUMENT
  // for bytes still missing leaves the upload open. DATA_LOSS or UNIMPLEMENTED as PieceMeta::Parse,
  // RESOURCE_EXHAUSTED when there is no room for the parsed directory or a hold keeps other content
  // under that key; the piece then never was, and its memory is free.
  virtual absl::StatusOr<CommitOutcome> Commit() = 0;
};

// What one tenant may hold, in bytes of pieces; 0: whatever there is room for. Above it, its own
// pieces go for what it brings, and never another's.
struct TenantQuota {
  uint64_t memory_bytes = 0;
  uint64_t disk_bytes = 0;
};

struct ListPage {
  struct Entry {
    Key key;
    PieceSummary summary;
  };
  std::vector<Entry> pieces;  // ascending by key
  bool more = false;
};

// Of a tier on a disk; counts are since start.
struct DiskUsage {
  uint64_t pieces = 0;
  uint64_t bytes_live = 0;  // of pieces that can be read
  uint64_t bytes_used = 0;  // of files
  uint64_t bytes_budget = 0;
  uint64_t bytes_memory = 0;   // of its index and caches
  uint64_t bytes_read = 0;     // from the disk
  uint64_t bytes_written = 0;  // to the disk, moves included
  uint64_t bytes_moved = 0;    // of those, to gather room
  uint64_t loaded_pieces = 0;  // brought into memory
  uint64_t loaded_bytes = 0;
  uint64_t failed_loads = 0;    // unreadable, or no memory for them
  uint64_t demoted_pieces = 0;  // copied ahead of eviction from memory
  uint64_t demoted_bytes = 0;
  uint64_t persisted_pieces = 0;  // made durable
  uint64_t bytes_under_pins = 0;
  uint64_t evicted_pieces = 0;
  uint64_t shed_pieces = 0;
  uint64_t scrubbed_bytes = 0;  // read in the background, to find what the disk lost
  uint64_t damaged_pieces = 0;  // found by a load or the scrubber, and forgotten
  uint64_t failed_writes = 0;
  bool read_only = false;  // it takes no writes now
};

struct StoreUsage {
  uint64_t pieces = 0;
  uint64_t bytes_used = 0;  // of the byte budget, uploads included
  uint64_t bytes_budget = 0;
  uint64_t bytes_metadata = 0;  // of bytes_used, what the store keeps beside the pieces' own bytes
  uint64_t bytes_held = 0;
  uint64_t bytes_under_pins = 0;
  uint64_t bytes_pinned = 0;  // removed or evicted, but still referenced
  uint64_t uploads = 0;
  uint64_t evicted_pieces = 0;  // since start
  uint64_t refused_uploads = 0;
  std::optional<DiskUsage> disk{};  // nullopt without one; the rest is of memory
};

class PieceStore {
 public:
  virtual ~PieceStore() = default;

  // Charges the offer's bytes to the budget, evicting what the policy values least; copies what is
  // held already of the same content. Whether the held piece reaches the offer is the caller's to
  // ask first, and Commit's to ask again. RESOURCE_EXHAUSTED, naming the numbers, when the piece is
  // larger than the budget or when what is held, pinned or being uploaded leaves no room, or the
  // tenant has too much of it; INVALID_ARGUMENT above kMaxPieceMetaBytes + kMaxPieceBodyBytes or
  // for 0, and when the length is not that of those planes in the held directory of the same
  // content.
  virtual absl::StatusOr<std::unique_ptr<Upload>> BeginUpload(TenantId tenant,
                                                              const UploadOffer& offer) = 0;

  // What is held, told without touching the piece's own bytes, and no use for the policy. nullopt
  // when absent. Never allocates.
  virtual std::optional<PieceSummary> Describe(TenantId tenant, const Key& key) const = 0;

  // The piece as it lies in memory, to read its bytes; it may have fewer planes than Describe tells
  // of, which are then in a slower tier. nullptr when no plane is in memory. Never allocates. Find
  // counts as a use for the policy; Peek does not.
  virtual PieceRef Find(TenantId tenant, const Key& key) = 0;
  virtual PieceRef Peek(TenantId tenant, const Key& key) const = 0;

  // As Find, but brings what is held of planes 0..level into memory first. `opened` is called
  // exactly once, within the call or later on a thread of the store, and must not block. nullptr
  // when absent, damaged, unreadable, or when there is no memory to read it into, which is counted
  // and logged; what is in memory already when only its further planes cannot be read.
  using Opened = absl::AnyInvocable<void(PieceRef) &&>;
  virtual void Open(TenantId tenant, const Key& key, uint32_t level, Opened opened) = 0;

  // As Open, but ahead of any reader: nothing that came or was used last is evicted for it, and it
  // is nullptr, without further ado, when there is no room then.
  virtual void Warm(TenantId tenant, const Key& key, uint32_t level, Opened opened) = 0;

  // Makes what is held of that content under the key survive the process and power loss; `done` is
  // called once, as Open's. NOT_FOUND when it is not held; FAILED_PRECONDITION when this store
  // keeps nothing on a disk; RESOURCE_EXHAUSTED, INTERNAL and others when the disk does not take
  // it.
  using Persisted = absl::AnyInvocable<void(absl::Status) &&>;
  virtual void Persist(TenantId tenant, const Key& key, const ContentId& content,
                       Persisted done) = 0;

  // The number of the tenant of that name, the same after a restart where anything else is.
  // RESOURCE_EXHAUSTED when there are too many.
  virtual absl::StatusOr<TenantId> TenantFor(std::string_view name) = 0;

  // Keeps what is held of `key` up to `level` until `until` (kMaxHold from now at most): eviction
  // passes it over and uploads are refused before it goes. False when the piece is absent, holds
  // less, or may not be held (bounded share of the budget).
  virtual bool Hold(TenantId tenant, const Key& key, uint32_t level, Deadline until) = 0;

  // Keeps all that is held of `key` in one tier or another until `until` (kMaxPin from now at
  // most): it is neither evicted nor shed. A longer pin that is there stays; what replaces the
  // piece is pinned too. `done` is called once, as Open's: NOT_FOUND when it is absent,
  // RESOURCE_EXHAUSTED, with the numbers, beyond the tenant's or all tenants' share of the budget;
  // what Persist says where it has to go to a disk first, which may take more than memory.
  // Forgotten at a restart.
  using Pinned = absl::AnyInvocable<void(absl::Status) &&>;
  virtual void Pin(TenantId tenant, const Key& key, Deadline until, Pinned done) = 0;
  // False when it is not pinned.
  virtual bool Unpin(TenantId tenant, const Key& key) = 0;

  // From now on; what is above it already goes at once, as far as it may.
  virtual void SetQuota(TenantId tenant, const TenantQuota& quota) = 0;

  // Drops the piece, holds and pins or not. False when absent. Unless `expected` is nullptr, only
  // if that very piece is still held: the same content published anew is another one, with bytes of
  // its own.
  virtual bool Remove(TenantId tenant, const Key& key, const HeldPiece* expected) = 0;
  // Drops every piece of the tenant under that namespace; returns how many. A piece published
  // meanwhile may stay.
  virtual uint64_t RemoveNamespace(TenantId tenant, const Digest& fingerprint) = 0;

  // Up to `limit` pieces with keys after `after` (from the start when nullptr), of `fingerprint`
  // when given.
  virtual ListPage List(TenantId tenant, const Key* after, uint32_t limit,
                        const Digest* fingerprint) const = 0;

  virtual StoreUsage usage() const = 0;
};

}  // namespace reprise::storage
