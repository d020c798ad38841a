// A channel that misbehaves on purpose, around one that works.
//
// For tests of what is above the transport: every fault that a network, a peer or a memory chip can
// cause, chosen by a seed. What happens to the nth call, and to its parts, depends on the plan
// alone, not on timing (only which part kills the channel depends on how concurrent calls
// interleave). The contract of Channel still holds: calls end once, by their deadline, with parts
// in an order that only `reorder` may change.
#pragma once

#include <cstdint>
#include <memory>

#include "absl/container/flat_hash_set.h"

#include "common/clock.h"
#include "common/mutex.h"
#include "transport/event_loop.h"
#include "transport/transport.h"

namespace reprise::transport {

// Probabilities are 0 (never) to 1 (always).
struct FaultPlan {
  uint64_t seed = 0;

  // Of each call: the request never reaches the server; the answer never comes back. Both end by
  // the deadline.
  double drop_request = 0;
  double drop_reply = 0;

  // Of each part, and of the end of a call: it comes later by `delay_by`, and what follows it not
  // before it.
  double delay = 0;
  Duration delay_by{};

  // Of each part: its bulk loses its end, perhaps all; one bit of its message or bulk is wrong; it
  // comes after the part that follows it (when the call's credit allows one to).
  double truncate_bulk = 0;
  double flip_message_bit = 0;
  double flip_bulk_bit = 0;
  double reorder = 0;

  // The connection breaks when so many parts were delivered over it. 0: never.
  uint64_t kill_after_parts = 0;
};

struct FaultCounts {
  uint64_t requests_dropped = 0;
  uint64_t replies_dropped = 0;
  uint64_t delays = 0;
  uint64_t bulks_truncated = 0;
  uint64_t message_bits_flipped = 0;
  uint64_t bulk_bits_flipped = 0;
  uint64_t reorders = 0;
  uint64_t parts_delivered = 0;
};

class FaultyCall;

// Thread-safe. Callbacks come on a thread of its own.
class FaultyChannel final : public Channel {
 public:
  FaultyChannel(std::unique_ptr<Channel> inner, const FaultPlan& plan);
  ~FaultyChannel() override;

  std::shared_ptr<Call> Start(CallRequest request, std::shared_ptr<CallObserver> observer) override;
  bool alive() const override;
  // What the channel inside says.
  std::string_view carrier() const override { return carrier_; }
  // With the channel inside; nothing once the connection is broken.
  absl::StatusOr<std::unique_ptr<Registration>> RegisterMemory(ByteSpan memory) override;

  // What was done so far.
  FaultCounts counts() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  friend class FaultyCall;

  void Count(uint64_t FaultCounts::*what) ABSL_LOCKS_EXCLUDED(mutex_);
  // On the loop: counts a part and breaks the connection when its time has come.
  void Delivered() ABSL_LOCKS_EXCLUDED(mutex_);
  void Remove(const std::shared_ptr<FaultyCall>& call) ABSL_LOCKS_EXCLUDED(mutex_);
  void EndAll(const absl::Status& status) ABSL_LOCKS_EXCLUDED(mutex_);

  const FaultPlan plan_;
  const std::string_view carrier_;
  mutable Mutex mutex_;
  CondVar idle_;
  // Null once the connection is broken.
  std::shared_ptr<Channel> inner_ ABSL_GUARDED_BY(mutex_);
  uint64_t calls_started_ ABSL_GUARDED_BY(mutex_) = 0;
  FaultCounts counts_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_set<std::shared_ptr<FaultyCall>> calls_ ABSL_GUARDED_BY(mutex_);
  // Last, so that it ends first: a broken connection may still be dying on it, and what dies there
  // passes on to it.
  EventLoop loop_{"faulty"};
};

}  // namespace reprise::transport
