// Which call's deadline passes next.
//
// Entries of calls that have ended stay until they are due or pruned; the owner checks each one
// that comes due. Not thread-safe; no allocation once grown.
#pragma once

#include <algorithm>
#include <cstddef>
#include <optional>
#include <utility>
#include <vector>

#include "common/clock.h"

namespace reprise::transport {

template <typename T>
class DeadlineHeap {
 public:
  void Push(Deadline deadline, T what) {
    entries_.push_back({deadline.at(), std::move(what)});
    std::push_heap(entries_.begin(), entries_.end(), Later);
  }

  // The earliest entry if it is due at `now`.
  std::optional<T> PopDue(TimePoint now) {
    if (entries_.empty() || entries_.front().at > now) return std::nullopt;
    std::pop_heap(entries_.begin(), entries_.end(), Later);
    std::optional<T> what(std::move(entries_.back().what));
    entries_.pop_back();
    return what;
  }

  std::optional<TimePoint> next() const {
    if (entries_.empty()) return std::nullopt;
    return entries_.front().at;
  }

  // Drops entries that `ended` says are of no use any more, when they may outnumber `living`.
  template <typename Ended>
  void Prune(size_t living, Ended ended) {
    if (entries_.size() < 2 * living + 64) return;
    std::erase_if(entries_, [&](const Entry& entry) { return ended(entry.what); });
    std::make_heap(entries_.begin(), entries_.end(), Later);
  }

  size_t size() const { return entries_.size(); }

 private:
  struct Entry {
    TimePoint at;
    T what;
  };
  static bool Later(const Entry& a, const Entry& b) { return a.at > b.at; }

  std::vector<Entry> entries_;
};

}  // namespace reprise::transport
