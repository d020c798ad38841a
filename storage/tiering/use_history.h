// What is remembered of pieces that are gone: how often they were used, so that one that comes back
// is known for what it is, and a scan of new ones is not.
//
// A table of fixed size, four places to a set; the one touched longest ago makes room. Names are
// hashes, of which 16 bits are kept: one in 16,000 pieces that never were here is taken for another
// one, which only misjudges it. Not thread-safe.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace reprise::storage {

class UseHistory {
 public:
  static constexpr uint32_t kMaxUses = 15;
  static constexpr uint32_t kMaxTurn = 7;

  struct Past {
    uint32_t uses = 0;  // 0: nothing is known; kMaxUses: at least that many
    uint32_t turn = 0;  // of its conversation, from 1 on
  };

  // Room for at least `pieces`.
  explicit UseHistory(size_t pieces);

  void Remember(uint64_t name, Past past);  // uses > 0
  Past Find(uint64_t name) const;

  size_t bytes() const { return sets_.capacity() * sizeof(Set); }

 private:
  struct Entry {
    uint16_t tag = 0;
    uint8_t uses = 0;  // 0: free
    uint8_t turn = 0;
  };
  using Set = std::array<Entry, 4>;  // the one remembered last comes first

  size_t SetOf(uint64_t name) const;

  std::vector<Set> sets_;
};

}  // namespace reprise::storage
