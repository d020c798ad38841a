#include "storage/tiering/use_history.h"

#include <algorithm>
#include <cstdlib>

namespace reprise::storage {
namespace {

uint16_t TagOf(uint64_t name) { return static_cast<uint16_t>(name); }

}  // namespace

UseHistory::UseHistory(size_t pieces) : sets_(pieces / 4 + 1) {}

void UseHistory::Remember(uint64_t name, Past past) {
  if (past.uses == 0) std::abort();  // such a piece was never here
  Set& set = sets_[SetOf(name)];
  auto place = std::find_if(set.begin(), set.end(), [&](const Entry& entry) {
    return entry.uses == 0 || entry.tag == TagOf(name);
  });
  if (place == set.end()) --place;
  std::move_backward(set.begin(), place, place + 1);
  set.front() = {.tag = TagOf(name),
                 .uses = static_cast<uint8_t>(std::min(past.uses, kMaxUses)),
                 .turn = static_cast<uint8_t>(std::min(past.turn, kMaxTurn))};
}

UseHistory::Past UseHistory::Find(uint64_t name) const {
  for (const Entry& entry : sets_[SetOf(name)]) {
    if (entry.uses != 0 && entry.tag == TagOf(name)) {
      return {.uses = entry.uses, .turn = entry.turn};
    }
  }
  return {};
}

size_t UseHistory::SetOf(uint64_t name) const { return (name >> 16) % sets_.size(); }

}  // namespace reprise::storage
