// Puts the parts of one call back into the order in which the server sent them.
//
// Small parts overtake bulk whose rendezvous takes longer. Not thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "common/status.h"
#include "transport/transport.h"
#include "transport/ucx/ring_queue.h"

namespace reprise::transport {

class PartWindow {
 public:
  // Part `sequence` is on its way or here. INVALID_ARGUMENT, which is the peer's fault, when it was
  // announced before, lies beyond the call's end, or is too far ahead of the next one.
  absl::Status Announce(uint32_t sequence, size_t message_bytes);
  // What was announced is here.
  void Arrive(uint32_t sequence, Part part);
  // The call has `parts` parts in all. INVALID_ARGUMENT when that is known already or more were
  // announced.
  absl::Status End(uint32_t parts);

  // The next part in order, once it has arrived.
  std::optional<Part> TakeNext();
  // All parts have been taken and the end is known.
  bool complete() const { return end_ == next_; }

 private:
  enum class State : uint8_t { kUnknown, kAnnounced, kArrived };
  struct Entry {
    State state = State::kUnknown;
    size_t message_bytes = 0;
    Part part;
  };

  RingQueue<Entry> entries_;  // the first is part next_
  uint32_t next_ = 0;
  std::optional<uint32_t> end_;
  size_t held_bytes_ = 0;
};

}  // namespace reprise::transport
