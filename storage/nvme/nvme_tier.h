// The nvme tier: encoded pieces in append-only segment files, and what is known of them in RocksDB
// and, compactly, in memory.
//
// A piece lies in one or two runs: header, directory and the planes up to its floor level in one,
// the refinement planes in another, so that precision can be given up without touching the rest.
// Runs are appended to the open segment of their stream; a segment is never written twice before
// it is emptied. What the policy gives up is forgotten at once and its room comes back in the
// background, by emptying the segments that hold least. A piece can be found only after all its
// bytes were written, and nothing is handed out that does not match its key, its content id and
// its checksums: the host tier verifies what is read as if it had been uploaded.
//
// The tier never decides alone that a piece is worth writing: whoever calls Write has decided.
// Everything is thread-safe; callbacks come on the tier's own threads and must not block. No call
// waits for the disk except Open and the destructor, which finishes what was begun.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/functional/any_invocable.h"

#include "chunk/container.h"
#include "chunk/keys.h"
#include "common/bytes.h"
#include "common/clock.h"
#include "common/status.h"
#include "storage/env/env.h"
#include "storage/piece_attributes.h"
#include "storage/piece_store.h"
#include "storage/piece_summary.h"
#include "storage/policy.h"

namespace reprise::storage {

struct NvmeOptions {
  std::string directory;      // made when absent; its parent must exist
  uint64_t budget_bytes = 0;  // of everything in the directory, RocksDB's files included
  // For RocksDB's caches and memtables and the view in memory, charged before it is allocated.
  uint64_t memory_bytes = 0;
  // 0: chosen from the budget. A piece has to fit into a segment to be stored.
  uint64_t segment_bytes = 0;
  // The worst error of a plane prefix that is good enough to serve: refinement planes above the
  // first level that reaches it lie apart and may be given up. 0: only whole pieces.
  Distortion floor{};
  // Memory that reads land in and writes come from: the arena.
  std::vector<MutableByteSpan> buffers{};
  PolicyFactory make_policy{};
  Env* env = &Env::Machine();
};

struct NvmeUsage {
  uint64_t pieces = 0;
  uint64_t bytes_live = 0;     // of runs that can still be read
  uint64_t bytes_on_disk = 0;  // of segment files and RocksDB's
  uint64_t bytes_budget = 0;
  uint64_t bytes_memory = 0;   // of memory_bytes
  uint64_t bytes_written = 0;  // to segments since start, moves included
  uint64_t bytes_moved = 0;    // of those, by reclaim
  uint64_t bytes_read = 0;
  uint64_t bytes_under_pins = 0;
  uint64_t evicted_pieces = 0;
  uint64_t shed_pieces = 0;
  uint64_t damaged_pieces = 0;  // found by a read or the scrubber, and forgotten
  uint64_t failed_writes = 0;
  uint64_t scrubbed_bytes = 0;
  bool read_only = false;  // writes fail (disk full, I/O errors); reads go on
};

class NvmeTier {
 public:
  // Takes the directory's lock and serves what is in it. INVALID_ARGUMENT: a file in the way, a
  // budget below four segments, a directory that is neither empty nor ours, of another version or
  // smaller segments than its files; PERMISSION_DENIED: read-only; UNAVAILABLE: another process has
  // it; DATA_LOSS: an index that cannot be opened, with what `reprise fsck` can do about it. Never
  // starts empty over what is there.
  static absl::StatusOr<std::unique_ptr<NvmeTier>> Open(const NvmeOptions& options);
  ~NvmeTier();
  NvmeTier(const NvmeTier&) = delete;
  NvmeTier& operator=(const NvmeTier&) = delete;

  // The number of the tenant of that name, the same after every restart. RESOURCE_EXHAUSTED beyond
  // kMaxTenants; INTERNAL when a new one cannot be made durable.
  absl::StatusOr<TenantId> TenantFor(std::string_view name);

  // What is held, from memory alone; its tier is kNvme. Never allocates.
  std::optional<PieceSummary> Describe(TenantId tenant, const Key& key) const;
  ListPage List(TenantId tenant, const Key* after, uint32_t limit, const Digest* fingerprint) const;

  struct WriteRequest {
    TenantId tenant = 0;
    const PieceMeta* meta = nullptr;  // borrowed for the call
    PieceAttributes attributes{};
    uint32_t planes = 0;  // the first that many
    // Header, directory and those planes, from an address and to a length that are multiples of
    // kDirectAlignmentBytes; zeros behind the last byte. Kept until done.
    SharedBytes container;
    bool durable = false;  // survives power loss when done says OK
  };
  using Done = absl::AnyInvocable<void(absl::Status) &&>;
  // Writes the piece, then makes it findable in place of what was held under its key, unless that
  // is of the same content with as many planes: then only durability is seen to. RESOURCE_EXHAUSTED
  // when too much is being written, nothing can be given up for it, or it is larger than a segment;
  // INTERNAL and others as Env. The old piece stays when it fails.
  void Write(WriteRequest request, Done done);

  // Reads the container's bytes [from_offset, bytes of planes 0..planes-1) of exactly that content
  // to `to`, which starts at an aligned address, has an aligned length of at least that, and stays
  // valid until done. `from_offset` is 0 or the length of the first planes' container rounded up to
  // the alignment. NOT_FOUND when the content is not, or no longer, held with that many planes. The
  // bytes are not verified here. Counts as a use.
  void Read(TenantId tenant, const Key& key, const ContentId& content, uint32_t planes,
            uint64_t from_offset, MutableByteSpan to, Done done);

  // What was read does not match its checksums: forgets the piece if it is still that content.
  void ReportDamage(TenantId tenant, const Key& key, const ContentId& content);

  // As PieceStore.
  bool Hold(TenantId tenant, const Key& key, uint32_t level, Deadline until);
  absl::Status Pin(TenantId tenant, const Key& key, Deadline until);
  bool Unpin(TenantId tenant, const Key& key);
  // In bytes of runs; 0: none.
  void SetQuota(TenantId tenant, uint64_t quota_bytes);
  // Only that content unless null. Of a durable piece the removal is durable with the next durable
  // write at the latest.
  bool Remove(TenantId tenant, const Key& key, const ContentId* expected);
  uint64_t RemoveNamespace(TenantId tenant, const Digest& fingerprint);

  // A hit on a copy of the piece elsewhere, for this tier's policy.
  void Use(TenantId tenant, const Key& key);

  // Reads everything once in the background at no more than that rate, verifying; what is damaged
  // is forgotten. `done` gets the number of damaged pieces. One pass at a time.
  void Scrub(uint64_t bytes_per_second, absl::AnyInvocable<void(uint64_t) &&> done);

  NvmeUsage usage() const;

 private:
  class Impl;
  explicit NvmeTier(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace reprise::storage
