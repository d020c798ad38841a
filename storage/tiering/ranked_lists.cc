#include "storage/tiering/ranked_lists.h"

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <limits>
#include <numeric>

namespace reprise::storage {

RankedLists::RankedLists(size_t lists)
    : rings_(lists), rank_of_(lists), list_at_(lists), filled_(lists / 64 + 1) {
  if (lists > std::numeric_limits<List>::max()) std::abort();
  for (Links& ring : rings_) ring.older = ring.newer = &ring;
  std::iota(rank_of_.begin(), rank_of_.end(), uint16_t{0});
  std::iota(list_at_.begin(), list_at_.end(), List{0});
}

void RankedLists::Rank(std::span<const float> values) {
  std::iota(list_at_.begin(), list_at_.end(), List{0});
  std::stable_sort(list_at_.begin(), list_at_.end(),
                   [values](List a, List b) { return values[a] < values[b]; });
  std::fill(filled_.begin(), filled_.end(), 0);
  for (size_t rank = 0; rank < list_at_.size(); ++rank) {
    const List list = list_at_[rank];
    rank_of_[list] = static_cast<uint16_t>(rank);
    if (rings_[list].newer != &rings_[list]) Mark(list, true);
  }
}

void RankedLists::Insert(Entry* entry, List list) {
  Links* const ring = &rings_[list];
  const auto is_younger = [entry, ring](const Links* other) {
    return other != ring && static_cast<const Entry*>(other)->last_use > entry->last_use;
  };
  // Most are the newest; those whose last descendant has just gone are among the oldest.
  Links* before = ring->older;
  if (is_younger(before)) {
    before = ring;
    for (int step = 0; step < kMaxSteps && !is_younger(before->newer); ++step) {
      before = before->newer;
    }
  }
  entry->older = before;
  entry->newer = before->newer;
  before->newer->older = entry;
  before->newer = entry;
  entry->list_ = list;
  Mark(list, true);
}

void RankedLists::Erase(Entry* entry) {
  if (!entry->listed()) return;
  entry->older->newer = entry->newer;
  entry->newer->older = entry->older;
  entry->older = entry->newer = nullptr;
  const Links& ring = rings_[entry->list_];
  if (ring.newer == &ring) Mark(entry->list_, false);
}

RankedLists::Entry* RankedLists::Oldest(List list) const {
  return static_cast<Entry*>(rings_[list].newer);
}

RankedLists::Entry* RankedLists::NewerThan(const Entry* entry) const {
  return entry->newer == &rings_[entry->list_] ? nullptr : static_cast<Entry*>(entry->newer);
}

size_t RankedLists::bytes() const {
  return rings_.capacity() * sizeof(Links) + rank_of_.capacity() * sizeof(uint16_t) +
         list_at_.capacity() * sizeof(List) + filled_.capacity() * sizeof(uint64_t);
}

std::optional<RankedLists::List> RankedLists::NextFrom(size_t rank) const {
  for (size_t word = rank / 64; word < filled_.size(); ++word) {
    uint64_t bits = filled_[word];
    if (word == rank / 64) bits &= ~uint64_t{0} << (rank % 64);
    if (bits != 0) return list_at_[word * 64 + static_cast<size_t>(std::countr_zero(bits))];
  }
  return std::nullopt;
}

void RankedLists::Mark(List list, bool filled) {
  const size_t rank = rank_of_[list];
  const uint64_t bit = uint64_t{1} << (rank % 64);
  filled_[rank / 64] = filled ? filled_[rank / 64] | bit : filled_[rank / 64] & ~bit;
}

}  // namespace reprise::storage
