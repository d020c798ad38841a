// The pieces of one fetch, brought into memory a little ahead of their turn, so that a disk reads
// while the wire sends.
//
// One thread at a time takes pieces, in order; the store's threads may answer at any moment. What
// is ahead is bounded in pieces and bytes. Shared, because answers may come when nobody waits for
// them any more.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/functional/any_invocable.h"

#include "chunk/keys.h"
#include "common/limits.h"
#include "common/mutex.h"
#include "storage/piece_store.h"

namespace reprise::store {

class OpenAhead : public std::enable_shared_from_this<OpenAhead> {
 public:
  static constexpr size_t kMaxPieces = 8;
  // Of those ahead; one piece there may always be.
  static constexpr uint64_t kMaxBytes = 64 * kMiB;

  struct Wanted {
    Key key;
    uint32_t level = 0;
  };

  OpenAhead(storage::PieceStore& pieces, storage::TenantId tenant, std::vector<Wanted> wanted)
      : pieces_(pieces), tenant_(tenant), wanted_(std::move(wanted)) {}

  // The piece at `index`, never less than before, into `piece`; null when it is absent. False when
  // it is still on its way: `ready` is called once it is there, on any thread, and Take will give
  // it then; nothing of the caller's may be touched any more. `ready` is not called when true.
  bool Take(size_t index, storage::PieceRef& piece, absl::AnyInvocable<void() &&> ready)
      ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  struct Slot {
    bool begun = false;  // and not taken
    bool opened = false;
    uint64_t bytes = 0;
    storage::PieceRef piece;
    absl::AnyInvocable<void() &&> ready;
  };

  Slot& SlotOf(size_t index) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return slots_[index % kMaxPieces];
  }
  bool HasBegun(size_t index) ABSL_LOCKS_EXCLUDED(mutex_);
  void Begin(size_t index, uint64_t bytes) ABSL_LOCKS_EXCLUDED(mutex_);
  void BeginThose(size_t after) ABSL_LOCKS_EXCLUDED(mutex_);

  storage::PieceStore& pieces_;
  const storage::TenantId tenant_;
  const std::vector<Wanted> wanted_;

  // Of whoever takes.
  size_t next_ = 0;  // to be looked at
  uint64_t bytes_ahead_ = 0;

  Mutex mutex_;
  std::array<Slot, kMaxPieces> slots_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace reprise::store
