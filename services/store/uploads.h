// The uploads that one session has under way: bounded in number and in bytes, and dropped when they
// idle.
//
// An upload is steps of a container that may arrive at once and on several threads; the table knows
// it by a number that means nothing outside its session. Thread-safe. The table owns its uploads; a
// step that is being copied keeps its own alive, so that a session may be lost at any moment.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/function_ref.h"

#include "chunk/keys.h"
#include "common/bytes.h"
#include "common/clock.h"
#include "common/limits.h"
#include "common/mutex.h"
#include "common/status.h"
#include "storage/piece_store.h"

namespace reprise::store {

struct UploadLimits {
  size_t max_uploads = 64;
  // Of whole containers, whatever has arrived of them.
  uint64_t max_bytes = 2 * kGiB;
  // An upload without a step for this long is dropped.
  Duration idle = std::chrono::seconds(30);
};

// What the first step asked for.
struct UploadOrder {
  Key key;
  ContentId content_id;
  bool durable = false;
};

class ActiveUpload {
 public:
  ActiveUpload(const UploadOrder& order, std::unique_ptr<storage::Upload> upload)
      : order_(order), upload_(std::move(upload)), total_bytes_(upload_->total_bytes()) {}

  const Key& key() const { return order_.key; }
  const ContentId& content_id() const { return order_.content_id; }
  bool durable() const { return order_.durable; }
  uint64_t total_bytes() const { return total_bytes_; }

  uint64_t from_offset() const { return upload_->from_offset(); }

  // As storage::Upload::Write and Commit.
  absl::StatusOr<bool> Write(uint64_t offset, ByteSpan bytes) {
    return upload_->Write(offset, bytes);
  }
  absl::StatusOr<storage::CommitOutcome> Commit() { return upload_->Commit(); }

 private:
  friend class UploadTable;

  const UploadOrder order_;
  const std::unique_ptr<storage::Upload> upload_;
  const uint64_t total_bytes_;
  TimePoint last_step_;  // guarded by the table's mutex
};

class UploadTable {
 public:
  explicit UploadTable(UploadLimits limits) : limits_(limits) {}

  struct Started {
    uint64_t id = 0;
    std::shared_ptr<ActiveUpload> upload;
  };
  // Reserves room for `total_bytes`, then calls `begin` without the lock. RESOURCE_EXHAUSTED,
  // naming the limit, when the session has too much under way; else what `begin` says.
  absl::StatusOr<Started> Begin(
      const UploadOrder& order, uint64_t total_bytes, TimePoint now,
      absl::FunctionRef<absl::StatusOr<std::unique_ptr<storage::Upload>>()> begin)
      ABSL_LOCKS_EXCLUDED(mutex_);

  // nullptr when there is none of that number; else it counts as a step.
  std::shared_ptr<ActiveUpload> Find(uint64_t id, TimePoint now) ABSL_LOCKS_EXCLUDED(mutex_);

  // Forgets an upload that was committed or failed; nothing when there is none.
  void Erase(uint64_t id) ABSL_LOCKS_EXCLUDED(mutex_);

  // Drops what has idled; returns how many.
  size_t DropIdle(TimePoint now) ABSL_LOCKS_EXCLUDED(mutex_);
  // Drops everything, and refuses whatever comes later with UNAVAILABLE.
  void Close() ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  const UploadLimits limits_;
  Mutex mutex_;
  absl::flat_hash_map<uint64_t, std::shared_ptr<ActiveUpload>> uploads_ ABSL_GUARDED_BY(mutex_);
  uint64_t next_id_ ABSL_GUARDED_BY(mutex_) = 1;
  // Reservations included.
  size_t count_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace reprise::store
