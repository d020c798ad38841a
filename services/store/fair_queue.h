// Whose work is next: deficit round robin over sessions, in bytes (Shreedhar and Varghese,
// "Efficient Fair Queuing Using Deficit Round-Robin", 1995).
//
// Each session with something waiting is in a ring. At its turn it may spend kQuantumBytes more
// than it had left, so that sessions get the same bytes whatever the size and number of their
// items. Items of one session stay in order. A session with nothing waiting keeps no credit and no
// memory. Not thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"

#include "common/limits.h"

namespace reprise::store {

// Names a session, for as long as it has something waiting.
using SessionName = const void*;

template <typename Item>
class FairQueue {
 public:
  static constexpr uint64_t kQuantumBytes = 1 * kMiB;

  bool empty() const { return ring_.empty(); }
  size_t size() const { return size_; }

  void Push(SessionName session, uint64_t cost_bytes, Item item) {
    std::unique_ptr<Waiting>& waiting = sessions_[session];
    if (waiting == nullptr) {
      waiting = TakeSpare();
      ring_.push_back(session);
    }
    waiting->items.emplace_back(cost_bytes, std::move(item));
    ++size_;
  }

  // The next item. Not of an empty queue.
  Item Pop() {
    while (true) {
      const SessionName session = ring_.front();
      const auto found = sessions_.find(session);
      Waiting& waiting = *found->second;
      if (!waiting.has_turn) {
        waiting.has_turn = true;
        waiting.deficit_bytes += kQuantumBytes;
      }
      auto& [cost_bytes, front] = waiting.items.front();
      if (cost_bytes > waiting.deficit_bytes) {
        waiting.has_turn = false;
        ring_.pop_front();
        ring_.push_back(session);
        continue;
      }
      waiting.deficit_bytes -= cost_bytes;
      Item item = std::move(front);
      waiting.items.pop_front();
      --size_;
      if (waiting.items.empty()) {
        if (spares_.size() < kMaxSpares) spares_.push_back(std::move(found->second));
        sessions_.erase(found);
        ring_.pop_front();
      }
      return item;
    }
  }

 private:
  struct Waiting {
    std::deque<std::pair<uint64_t, Item>> items;
    uint64_t deficit_bytes = 0;
    bool has_turn = false;
  };

  // Kept for the next session, so that a request in steady state allocates nothing.
  static constexpr size_t kMaxSpares = 64;

  std::unique_ptr<Waiting> TakeSpare() {
    if (spares_.empty()) return std::make_unique<Waiting>();
    std::unique_ptr<Waiting> spare = std::move(spares_.back());
    spares_.pop_back();
    spare->deficit_bytes = 0;
    spare->has_turn = false;
    return spare;
  }

  std::deque<SessionName> ring_;  // the first is whose turn it is
  absl::flat_hash_map<SessionName, std::unique_ptr<Waiting>> sessions_;
  std::vector<std::unique_ptr<Waiting>> spares_;
  size_t size_ = 0;
};

}  // namespace reprise::store
