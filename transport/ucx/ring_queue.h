// A queue that stops allocating once it has grown to the size it needs.
//
// std::deque allocates and frees a node every few elements for ever; on the path of every part that
// would be heap traffic for nothing. Not thread-safe.
#pragma once

#include <cstddef>
#include <utility>
#include <vector>

namespace reprise::transport {

// T is default-constructible and movable. Slots that hold no element hold a default T.
template <typename T>
class RingQueue {
 public:
  bool empty() const { return size_ == 0; }
  size_t size() const { return size_; }

  // The element `index` places behind the front; `index` < size().
  T& operator[](size_t index) { return slots_[(head_ + index) & (slots_.size() - 1)]; }
  T& front() { return (*this)[0]; }

  void push_back(T value) {
    if (size_ == slots_.size()) Grow();
    ++size_;
    (*this)[size_ - 1] = std::move(value);
  }

  T pop_front() {
    T value = std::exchange(front(), T());
    head_ = (head_ + 1) & (slots_.size() - 1);
    --size_;
    return value;
  }

  void clear() {
    while (!empty()) static_cast<void>(pop_front());
  }

 private:
  void Grow() {
    std::vector<T> larger(slots_.empty() ? 8 : slots_.size() * 2);
    for (size_t i = 0; i < size_; ++i) larger[i] = std::move((*this)[i]);
    slots_ = std::move(larger);
    head_ = 0;
  }

  std::vector<T> slots_;  // a power of two of them
  size_t head_ = 0;
  size_t size_ = 0;
};

}  // namespace reprise::transport
