// Which pieces a reader of a prefix needs (DESIGN section 4, last sentence), as pure functions.
//
// A reader that continues after the first n chunks needs full-attention and latent groups on all of
// them, a sliding-window group on the last ceil(window / chunk) of them, and a state group on the
// last one only. What lies further back may be absent without harm. Thread-safe.
#pragma once

#include <cstdint>
#include <limits>
#include <vector>

#include "absl/functional/function_ref.h"

#include "chunk/keys.h"
#include "chunk/namespace.h"

namespace reprise::client {

inline constexpr uint32_t kWholePrefix = std::numeric_limits<uint32_t>::max();

// How many chunks back from the end of a prefix a group is needed: kWholePrefix, or at least 1.
uint32_t ReachInChunks(const LayerGroup& group, uint32_t chunk_tokens);

// ReachInChunks of each slot's group, in the order of keys.slots().
std::vector<uint32_t> SlotReaches(const PrefixKeys& keys);

// Whether a reader of the first `prefix_chunks` chunks needs a slot of that reach on `chunk`.
bool IsNeeded(uint32_t reach, uint32_t chunk, uint32_t prefix_chunks);

// The largest n in [first, end] such that every needed piece of the first n chunks is held. The
// chunks before `first` count as held; `held(chunk, slot)` answers for the others. At least
// `first`.
uint32_t LongestHit(const std::vector<uint32_t>& reaches, uint32_t first, uint32_t end,
                    absl::FunctionRef<bool(uint32_t chunk, uint32_t slot)> held);

}  // namespace reprise::client
