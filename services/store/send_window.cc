#include "services/store/send_window.h"

#include <utility>

namespace reprise::store {
namespace {

constexpr size_t kBlockBytes = 128;

}  // namespace

// Gives allocate_shared the window's blocks.
template <typename T>
struct SendWindow::BlockAllocator {
  using value_type = T;

  explicit BlockAllocator(std::shared_ptr<SendWindow> window_in) : window(std::move(window_in)) {}
  template <typename U>
  BlockAllocator(const BlockAllocator<U>& other)  // NOLINT: allocators convert
      : window(other.window) {}

  T* allocate(size_t count) {
    static_assert(sizeof(T) <= kBlockBytes && alignof(T) <= alignof(std::max_align_t));
    static_cast<void>(count);
    std::unique_ptr<std::byte[]> block;
    {
      MutexLock lock(window->mutex_);
      if (!window->blocks_.empty()) {
        block = std::move(window->blocks_.back());
        window->blocks_.pop_back();
      }
    }
    if (block == nullptr) block = std::make_unique<std::byte[]>(kBlockBytes);
    return reinterpret_cast<T*>(block.release());
  }
  void deallocate(T* object, size_t) {
    std::unique_ptr<std::byte[]> block(reinterpret_cast<std::byte*>(object));
    MutexLock lock(window->mutex_);
    if (window->blocks_.size() < kMaxParts) window->blocks_.push_back(std::move(block));
  }

  friend bool operator==(const BlockAllocator& a, const BlockAllocator& b) {
    return a.window == b.window;
  }

  std::shared_ptr<SendWindow> window;
};

struct SendWindow::Lease {
  Lease(std::shared_ptr<SendWindow> window_in, std::shared_ptr<CallShare> call_in,
        uint64_t bytes_in, SharedBytes part_in)
      : window(std::move(window_in)),
        call(std::move(call_in)),
        bytes(bytes_in),
        part(std::move(part_in)) {}
  ~Lease() {
    part = SharedBytes();
    window->GiveBack(call, bytes);
  }
  Lease(const Lease&) = delete;
  Lease& operator=(const Lease&) = delete;

  const std::shared_ptr<SendWindow> window;
  const std::shared_ptr<CallShare> call;
  const uint64_t bytes;
  SharedBytes part;
};

void SendWindow::Count(CallShare& call, uint64_t bytes) {
  ++call.parts_;
  ++parts_;
  bytes_ += bytes;
}

bool SendWindow::Take(const std::shared_ptr<CallShare>& call, uint64_t bytes, Ready ready) {
  MutexLock lock(mutex_);
  if (call->parts_ == 0 || (waiters_.empty() && Fits(*call, bytes))) {
    Count(*call, bytes);
    return true;
  }
  waiters_.push_back({call, bytes, std::move(ready)});
  return false;
}

void SendWindow::GiveBack(const std::shared_ptr<CallShare>& call, uint64_t bytes) {
  {
    MutexLock lock(mutex_);
    --call->parts_;
    --parts_;
    bytes_ -= bytes;
  }
  while (Ready ready = NextReady()) std::move(ready)();
}

SendWindow::Ready SendWindow::NextReady() {
  MutexLock lock(mutex_);
  for (auto waiter = waiters_.begin(); waiter != waiters_.end(); ++waiter) {
    // Only the first, and calls with nothing on their way.
    if (waiter != waiters_.begin() && waiter->call->parts_ > 0) continue;
    if (!Fits(*waiter->call, waiter->bytes)) continue;
    Count(*waiter->call, waiter->bytes);
    Ready ready = std::move(waiter->ready);
    waiters_.erase(waiter);
    return ready;
  }
  return nullptr;
}

SharedBytes SendWindow::Lend(std::shared_ptr<CallShare> call, uint64_t bytes, SharedBytes part) {
  const ByteSpan span = part.bytes();
  return SharedBytes(span, std::allocate_shared<Lease>(BlockAllocator<Lease>(shared_from_this()),
                                                       shared_from_this(), std::move(call), bytes,
                                                       std::move(part)));
}

}  // namespace reprise::store
