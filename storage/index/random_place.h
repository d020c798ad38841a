// A random place among keys, to begin looking from.
#pragma once

#include <cstdint>
#include <cstring>

#include "chunk/keys.h"

namespace reprise::storage {

// Another for each number, spread as digests are.
inline Key RandomPlace(uint64_t number) {
  // SplitMix64 (Steele, Lea and Flood, OOPSLA 2014); the first bytes decide where it stands.
  uint64_t bits = number * 0x9E3779B97F4A7C15;
  bits = (bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9;
  bits = (bits ^ (bits >> 27)) * 0x94D049BB133111EB;
  bits ^= bits >> 31;
  Key key;
  std::memcpy(key.digest.bytes.data(), &bits, sizeof(bits));
  return key;
}

}  // namespace reprise::storage
