// The memory that a ring's operations read into and write from, registered with the kernel as it
// becomes resident.
//
// The kernel registers only pages that are there, and makes those that are not: for a fresh arena
// of many gigabytes that takes seconds, in which a store that starts could serve. So a thread makes
// them, part by part, and the ring's thread registers each part once that costs it little. What is
// not registered yet is used all the same, at the cost of an unregistered transfer. It begins with
// the ring's first operation: each mapping of memory waits for it, and a start makes hundreds.
#pragma once

#include <atomic>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include <liburing.h>

#include "common/bytes.h"
#include "storage/env/env.h"

namespace reprise::storage {

class RingBuffers {
 public:
  // The kernel registers no larger buffer.
  static constexpr size_t kMaxPartBytes = size_t{1} << 30;

  // On the ring's thread. `wake` makes that thread call RegisterPopulated soon; called from another
  // one. A kernel that cannot register parts one by one is given all of them at once, which takes
  // as long as it does. Where buffers are denied, that is logged once.
  RingBuffers(io_uring& ring, const DiskQueueOptions& options, std::function<void()> wake);
  // On any thread, when the ring's uses it no longer.
  ~RingBuffers();
  RingBuffers(const RingBuffers&) = delete;
  RingBuffers& operator=(const RingBuffers&) = delete;

  // The rest on the ring's thread. After each wake of it; the first begins to populate, the others
  // do not allocate.
  void RegisterPopulated();
  // Of the registered part that `bytes` lie in; -1 when there is none.
  int IndexOf(ByteSpan bytes) const;

 private:
  void RegisterAll();
  void Populate();
  void Denied(int result);

  io_uring& ring_;
  const std::string queue_name_;
  const std::function<void()> wake_;
  std::vector<MutableByteSpan> parts_;
  size_t registered_ = 0;  // of parts_, the first ones
  bool denied_ = false;
  bool may_populate_ = false;
  std::atomic<size_t> populated_ = 0;
  std::atomic<bool> stopping_ = false;
  std::thread populator_;
};

}  // namespace reprise::storage
