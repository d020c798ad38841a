// The registered buffers that received bulk lands in.
//
// One region, registered once, out of which slots are cut. A slot is free, then receiving
// (UCX may write it: a call that ends meanwhile does not free it, only UCX does), then handed over
// (readers hold it through SharedBytes), then free again. Handing over allocates nothing: the
// SharedBytes' control block lives in the slot.
//
// Belongs to one loop's thread, except that SharedBytes may be dropped on any thread, also after
// everything else of the carrier is gone.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "common/buddy_allocator.h"
#include "common/bytes.h"
#include "common/mapped_region.h"
#include "common/mutex.h"
#include "common/status.h"
#include "transport/ucx/frame.h"
#include "transport/ucx/io_loop.h"
#include "transport/ucx/ucx_resources.h"

namespace reprise::transport {

class Endpoint;

// One buffer and what is being received into it.
struct Slot {
  MutableByteSpan bytes;
  size_t offset = 0;  // in the pool's region
  Endpoint* endpoint = nullptr;
  Frame frame;
  std::string message;

  alignas(std::max_align_t) std::array<std::byte, 128> control_block;
};

class SlotPool : public std::enable_shared_from_this<SlotPool> {
 public:
  struct Released {
    uint64_t endpoint_id = 0;
    uint64_t call_id = 0;
    size_t bytes = 0;
  };

  // INVALID_ARGUMENT unless `bytes` is a multiple of kMaxPartBytes and at least two of them;
  // RESOURCE_EXHAUSTED when the memory cannot be had or pinned.
  static absl::StatusOr<std::shared_ptr<SlotPool>> Create(std::shared_ptr<UcxContext> context,
                                                          size_t bytes);
  SlotPool(const SlotPool&) = delete;
  SlotPool& operator=(const SlotPool&) = delete;

  // `woken` is scheduled on `loop` when a reader drops a slot. Both must stay valid until Detach.
  void Attach(IoLoop* loop, std::shared_ptr<LoopTask> woken) ABSL_LOCKS_EXCLUDED(mutex_);
  void Detach() ABSL_LOCKS_EXCLUDED(mutex_) { Attach(nullptr, nullptr); }

  // A slot of `size` bytes (1 to kMaxPartBytes), preferably in memory used last, whose lines are
  // still in the cache; nullptr when no room is left. The slot is then receiving.
  Slot* TryTake(size_t size);

  // Ends receiving: the bytes are wanted by nobody and UCX will not write them any more.
  void GiveBack(Slot* slot);

  // Ends receiving: readers get the bytes. When the last one drops them the slot shows up in
  // Reclaim as (`endpoint_id`, `call_id`).
  SharedBytes HandOver(Slot* slot, uint64_t endpoint_id, uint64_t call_id);

  // Frees the slots whose readers have dropped them, naming each in `released` (emptied first).
  void Reclaim(std::vector<Released>& released) ABSL_LOCKS_EXCLUDED(mutex_);

  const UcxMemory& memory() const { return *memory_; }
  size_t total_bytes() const { return region_->size(); }
  size_t free_bytes() const { return blocks_.free_bytes(); }

 private:
  template <typename T>
  struct ControlBlockAllocator;
  struct Dropped {
    Slot* slot = nullptr;
    Released released;
  };

  SlotPool(std::unique_ptr<MappedRegion> region, std::shared_ptr<const UcxMemory> memory);
  void OnDropped(const Dropped& dropped) ABSL_LOCKS_EXCLUDED(mutex_);

  const std::unique_ptr<MappedRegion> region_;
  const std::shared_ptr<const UcxMemory> memory_;
  BuddyAllocator blocks_;
  std::vector<std::unique_ptr<Slot>> slots_;
  std::vector<Slot*> unused_slots_;  // objects without memory

  Mutex mutex_;
  std::vector<Dropped> dropped_ ABSL_GUARDED_BY(mutex_);
  IoLoop* loop_ ABSL_GUARDED_BY(mutex_) = nullptr;
  std::shared_ptr<LoopTask> woken_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace reprise::transport
