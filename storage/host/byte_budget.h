// A number of bytes that may be in use, and RAII shares of it.
//
// Charging is what keeps a tier within `--memory`: memory is charged before it is allocated and
// given back after it is freed. Thread-safe; a Charge itself is not, and must not outlive its
// budget.
#pragma once

#include <atomic>
#include <cstdint>
#include <utility>

namespace reprise::storage {

class ByteBudget {
 public:
  explicit ByteBudget(uint64_t limit_bytes) : limit_bytes_(limit_bytes) {}
  ByteBudget(const ByteBudget&) = delete;
  ByteBudget& operator=(const ByteBudget&) = delete;

  uint64_t limit_bytes() const { return limit_bytes_; }
  uint64_t used_bytes() const { return used_bytes_.load(std::memory_order_relaxed); }

 private:
  friend class ByteCharge;

  bool TryTake(uint64_t bytes) {
    uint64_t used = used_bytes_.load(std::memory_order_relaxed);
    do {
      if (bytes > limit_bytes_ - used) return false;
    } while (!used_bytes_.compare_exchange_weak(used, used + bytes, std::memory_order_relaxed));
    return true;
  }
  void GiveBack(uint64_t bytes) { used_bytes_.fetch_sub(bytes, std::memory_order_relaxed); }

  const uint64_t limit_bytes_;
  std::atomic<uint64_t> used_bytes_{0};
};

// Bytes taken from a budget until this is destroyed.
class ByteCharge {
 public:
  explicit ByteCharge(ByteBudget& budget) : budget_(&budget) {}
  ~ByteCharge() {
    if (budget_ != nullptr) budget_->GiveBack(bytes_);
  }
  ByteCharge(ByteCharge&& other) noexcept
      : budget_(std::exchange(other.budget_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  ByteCharge(const ByteCharge&) = delete;
  ByteCharge& operator=(const ByteCharge&) = delete;

  uint64_t bytes() const { return bytes_; }

  // False, changing nothing, when the budget has not that many bytes left.
  [[nodiscard]] bool TryGrow(uint64_t by_bytes) {
    if (!budget_->TryTake(by_bytes)) return false;
    bytes_ += by_bytes;
    return true;
  }

  // Gives back all but `to_bytes`, which is at most bytes().
  void ShrinkTo(uint64_t to_bytes) {
    budget_->GiveBack(bytes_ - to_bytes);
    bytes_ = to_bytes;
  }

 private:
  ByteBudget* budget_;
  uint64_t bytes_ = 0;
};

}  // namespace reprise::storage
