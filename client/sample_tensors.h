// Namespaces and tensors for tests of publish and load: every value tells where it belongs, and the
// bytes around and between the values are guarded.
//
// Not thread-safe.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "chunk/keys.h"
#include "chunk/namespace.h"
#include "client/reprise.h"

namespace reprise::client {

// 16 tokens a chunk and small tensors, in bf16.
Namespace AttentionNamespace();  // one group of K and V, cut into 2 x 2 pieces a chunk
Namespace LatentNamespace();     // one latent group
Namespace HybridNamespace();     // full attention, and a window of 24 tokens: 2 chunks
Namespace StateNamespace();      // full attention, a state, and opaque bytes for each token

// `count` token ids that differ by `seed`.
std::vector<uint32_t> SampleTokens(size_t count, uint32_t seed = 1);
PrefixKeys SampleKeys(const Namespace& name_space, size_t chunks, uint32_t seed = 1);

// How the axes lie in memory.
enum class Layout {
  kContiguous,       // layer, token, head, dim
  kHeadsFirst,       // head, layer, token, dim, with unused bytes after each row
  kTokensBackwards,  // as kContiguous, with a negative token stride
};

// Tensors of all groups of a namespace for chunks [first, first + count).
class SampleTensors {
 public:
  SampleTensors(const Namespace& name_space, uint32_t first, uint32_t count, Layout layout);
  ~SampleTensors();

  std::vector<GroupViews> views() const;

  // Writes to every element a value made of its place (in the whole sequence) and `seed`.
  void Fill(uint32_t seed);
  // Whether group `group` holds exactly what Fill(seed) writes, for the tokens of chunks [begin,
  // end).
  bool Holds(uint32_t seed, size_t group, uint32_t begin, uint32_t end) const;
  // The same of all groups.
  bool Holds(uint32_t seed, uint32_t begin, uint32_t end) const;
  // Whether every byte that belongs to no element is untouched.
  bool GuardsIntact() const;
  // All bytes, guards included: equal when nobody wrote in between.
  std::vector<std::byte> Snapshot() const;

 private:
  struct Tensor;

  const Namespace name_space_;
  const uint32_t first_;
  std::vector<std::unique_ptr<Tensor>> tensors_;  // of each group: K, then V if it has any
};

}  // namespace reprise::client
