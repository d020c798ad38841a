// Kills a real store under load, again and again, and reads back everything it ever took.
//
// What must be there is remembered outside the store: each key belongs to one thread, which knows
// every container that was ever offered under it and which of them was last acknowledged as
// durable. After each kill the store starts anew on the same directory, and every key is read: it
// must yield one of those containers, whole or cut to a level, and of a durable key no less than
// what was acknowledged.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

namespace reprise::crash {

struct CrashOptions {
  uint32_t cycles = 3;
  uint64_t seed = 1;
  std::string directory;  // for the store's disk; new
  uint32_t keys = 600;
  uint32_t threads = 3;
  // The load runs for a random time up to this before the kill.
  std::chrono::milliseconds longest_load{1500};
};

struct CrashReport {
  uint32_t cycles = 0;
  uint64_t publishes = 0;  // acknowledged
  uint64_t durable_publishes = 0;
  uint64_t pieces_read = 0;  // after restarts, and found
  uint64_t durable_read = 0;
  uint64_t wrong = 0;  // neither a miss nor anything that was published under the key
  uint64_t lost = 0;   // durable, and not there
  std::vector<std::chrono::milliseconds> restarts;  // from exec to the first answer
  std::vector<std::string> problems;                // a line for each of the first few
};

// Blocks. Stops early when a store does not come back, which is a problem.
CrashReport RunCrashes(const CrashOptions& options);

}  // namespace reprise::crash
