// What one session has on its way to its client: parts with bulk that its carrier has not sent yet,
// of all its fetches together.
//
// Credit bounds each call; this bounds the session, in parts and in bytes, so that a client with
// many fetches does not have more under way than one with few, and what a client that stopped
// reading pins is bounded. Calls that wait get room first come, first served; a call with nothing
// on its way may always send one part, so that one that nobody reads cannot hold up the others for
// good. Thread-safe; shared, because parts may outlive the session.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "absl/functional/any_invocable.h"

#include "common/bytes.h"
#include "common/limits.h"
#include "common/mutex.h"

namespace reprise::store {

class SendWindow : public std::enable_shared_from_this<SendWindow> {
 public:
  static constexpr size_t kMaxParts = 32;
  static constexpr uint64_t kMaxBytes = 64 * kMiB;

  // The parts of one call.
  class CallShare {
    friend class SendWindow;
    size_t parts_ = 0;  // under the window's lock
  };
  using Ready = absl::AnyInvocable<void() &&>;

  // Takes room for a part of `bytes`. False when there is none: it is taken later, and `ready`
  // called then, on any thread, inside the destructor of some part. What was taken goes to Lend or
  // GiveBack.
  bool Take(const std::shared_ptr<CallShare>& call, uint64_t bytes, Ready ready)
      ABSL_LOCKS_EXCLUDED(mutex_);
  void GiveBack(const std::shared_ptr<CallShare>& call, uint64_t bytes) ABSL_LOCKS_EXCLUDED(mutex_);

  // `part`, whose last copy gives back the room of `bytes` that was taken for it.
  SharedBytes Lend(std::shared_ptr<CallShare> call, uint64_t bytes, SharedBytes part);

 private:
  template <typename T>
  struct BlockAllocator;
  struct Lease;
  struct Waiter {
    std::shared_ptr<CallShare> call;
    uint64_t bytes = 0;
    Ready ready;
  };

  bool Fits(const CallShare& call, uint64_t bytes) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return call.parts_ == 0 || (parts_ < kMaxParts && bytes_ + bytes <= kMaxBytes);
  }
  void Count(CallShare& call, uint64_t bytes) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // What the first waiter with room is to run; null when there is none.
  Ready NextReady() ABSL_LOCKS_EXCLUDED(mutex_);

  Mutex mutex_;
  size_t parts_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  std::deque<Waiter> waiters_ ABSL_GUARDED_BY(mutex_);
  // Memory of leases that ended, so that a part in steady state allocates nothing.
  std::vector<std::unique_ptr<std::byte[]>> blocks_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace reprise::store
