#include "client/hit_rule.h"

namespace reprise::client {

uint32_t ReachInChunks(const LayerGroup& group, uint32_t chunk_tokens) {
  switch (group.kind) {
    case GroupKind::kSlidingWindow:
      return group.window_tokens / chunk_tokens + (group.window_tokens % chunk_tokens != 0 ? 1 : 0);
    case GroupKind::kState:
      return 1;
    case GroupKind::kFullAttention:
    case GroupKind::kLatent:
    case GroupKind::kOpaque:
      break;
  }
  return kWholePrefix;
}

std::vector<uint32_t> SlotReaches(const PrefixKeys& keys) {
  const Namespace& name_space = keys.name_space();
  std::vector<uint32_t> reaches;
  reaches.reserve(keys.slots().size());
  for (const PieceSlot& slot : keys.slots()) {
    reaches.push_back(ReachInChunks(name_space.groups[slot.group], name_space.chunk_tokens));
  }
  return reaches;
}

bool IsNeeded(uint32_t reach, uint32_t chunk, uint32_t prefix_chunks) {
  return chunk < prefix_chunks && uint64_t{chunk} + reach >= prefix_chunks;
}

uint32_t LongestHit(const std::vector<uint32_t>& reaches, uint32_t first, uint32_t end,
                    absl::FunctionRef<bool(uint32_t chunk, uint32_t slot)> held) {
  // held_run[slot]: how many chunks up to the one in hand are held without a gap.
  std::vector<uint32_t> held_run(reaches.size(), first);
  uint32_t longest = first;
  for (uint32_t chunk = first; chunk < end; ++chunk) {
    bool whole_prefix_held = true;
    bool hit = true;
    for (uint32_t slot = 0; slot < reaches.size(); ++slot) {
      held_run[slot] = held(chunk, slot) ? held_run[slot] + 1 : 0;
      if (held_run[slot] > chunk || held_run[slot] >= reaches[slot]) continue;
      hit = false;
      if (reaches[slot] == kWholePrefix) whole_prefix_held = false;
    }
    if (hit) longest = chunk + 1;
    if (!whole_prefix_held) break;
  }
  return longest;
}

}  // namespace reprise::client
