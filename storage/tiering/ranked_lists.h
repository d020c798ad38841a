// A fixed number of lists, ranked by a value each, of which the lowest with anything in it is found
// at once: what stands between a policy that knows classes of pieces and the next victim.
//
// Entries are linked through themselves and keep the order of their last use, oldest first, nearly:
// an entry that comes late looks for its place over kMaxSteps entries only. Nothing is allocated
// after the constructor. Not thread-safe; an entry must be erased before it is destroyed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace reprise::storage {

class RankedLists {
 public:
  using List = uint16_t;
  static constexpr int kMaxSteps = 16;

  struct Links {
    Links* older = nullptr;
    Links* newer = nullptr;
  };
  // What is listed derives from this.
  class Entry : private Links {
   public:
    uint64_t last_use = 0;
    bool listed() const { return newer != nullptr; }

   private:
    friend class RankedLists;
    List list_ = 0;
  };

  // Ranked by their numbers until Rank is called.
  explicit RankedLists(size_t lists);
  RankedLists(const RankedLists&) = delete;
  RankedLists& operator=(const RankedLists&) = delete;

  // From now on in ascending order of `values`, one for each list; lists of equal value in that of
  // their numbers. O(n log n) in the number of lists.
  void Rank(std::span<const float> values);

  void Insert(Entry* entry, List list);  // not listed yet
  void Erase(Entry* entry);              // nothing when not listed

  // Its place in the order of Rank.
  uint16_t RankOf(List list) const { return rank_of_[list]; }

  // The lowest list that is not empty; the next one after it.
  std::optional<List> Lowest() const { return NextFrom(0); }
  std::optional<List> NextAfter(List list) const { return NextFrom(size_t{rank_of_[list]} + 1); }

  Entry* Oldest(List list) const;              // of a list that is not empty
  Entry* NewerThan(const Entry* entry) const;  // nullptr after the newest

  size_t bytes() const;

 private:
  std::optional<List> NextFrom(size_t rank) const;
  void Mark(List list, bool filled);

  std::vector<Links> rings_;  // each closes its list: the oldest is its newer neighbour
  std::vector<uint16_t> rank_of_;
  std::vector<List> list_at_;
  std::vector<uint64_t> filled_;  // a bit for each rank
};

}  // namespace reprise::storage
