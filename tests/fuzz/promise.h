// What a fuzz target checks beyond memory safety.
//
// Thread-safe.
#pragma once

#include <cstdio>
#include <cstdlib>

namespace reprise {

// Ends the process, so that the fuzzer keeps the input, unless `holds`. `what` says which promise
// of the code under test is broken.
inline void Promise(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "broken promise: %s\n", what);
  std::abort();
}

}  // namespace reprise
