// Which nodes hold what: rendezvous hashing (Thaler and Ravishankar, 1998) of runs of chunks, by
// the weighted score -log2(u) / weight (docs/placement.md has the hash and the test vectors).
//
// A run is 32 consecutive chunks of a prefix, named by the id of the prefix that ends with its
// first chunk, so that a node has whole runs and a lookup asks few nodes. Integer arithmetic only:
// every client on every machine finds the same nodes. Pure, thread-safe.
#pragma once

#include <cstdint>
#include <vector>

#include "chunk/keys.h"
#include "client/view.h"
#include "common/sha256.h"

namespace reprise::client {

inline constexpr uint32_t kRunChunks = 32;

// Indices into a view's nodes, the one to ask first in front.
using Replicas = std::vector<uint32_t>;

// The first `count` nodes, or all when there are fewer, for what `unit` names.
Replicas PlaceUnit(const View& view, const Digest& unit, uint32_t count);

// Of every run of one prefix.
class Placement {
 public:
  Placement(const View& view, uint32_t replicas, const PrefixKeys& keys);
  const Replicas& OfChunk(uint32_t chunk) const { return runs_[chunk / kRunChunks]; }

 private:
  std::vector<Replicas> runs_;
};

}  // namespace reprise::client
