// The files that one io_uring knows by index instead of by descriptor, which saves it taking and
// dropping a reference for each operation. A ring learns a file when it first meets it and lets it
// go when the file is closed; files past its limits are used by their descriptors.
//
// A registered file stays open in the kernel, and a deleted one on the disk, until the ring's
// thread has let it go: that is soon after the MachineFile is destroyed, not within.
#pragma once

#include <atomic>
#include <memory>
#include <vector>

#include <liburing.h>

#include "common/mutex.h"

namespace reprise::storage {

class MachineFile;

// Shared by the ring and the files it knows, whichever ends first.
class RingFiles : public std::enable_shared_from_this<RingFiles> {
 public:
  // Of the ring's thread. A table that the kernel refuses is an empty one.
  // `wake_descriptor` is an eventfd that the ring's thread reads.
  static std::shared_ptr<RingFiles> Create(io_uring& ring, int wake_descriptor);

  // Of the ring's thread: the index, or -1 for a file to be used by its descriptor.
  int IndexOf(MachineFile& file);
  // Of the ring's thread: lets go of what was released.
  void ForgetReleased();
  // Of the ring's thread, at its end.
  void Close();

  // Of any thread: no operation will use the file again.
  void Release(int index);

 private:
  RingFiles(io_uring& ring, int wake_descriptor) : ring_(ring), wake_descriptor_(wake_descriptor) {}

  io_uring& ring_;
  const int wake_descriptor_;
  std::vector<int> free_;
  std::atomic<bool> any_released_{false};

  Mutex mutex_;
  std::vector<int> released_ ABSL_GUARDED_BY(mutex_);
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace reprise::storage
