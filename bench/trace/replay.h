// Replays a trace through eviction policies in virtual time: no bytes, no threads, no clock.
//
// A request finds the longest prefix of its blocks that is resident, in either tier; those are hits
// and save their prefill. The others are computed and published one after another, each making room
// first. Not thread-safe; pure but for the policies it is given.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "bench/trace/trace.h"
#include "storage/piece_summary.h"
#include "storage/policy.h"

namespace reprise::bench {

// What a block takes and lacks at each of its levels.
struct BlockLevels {
  std::vector<storage::PieceSummary::Level> levels;

  uint64_t bytes(uint32_t planes) const { return levels[planes - 1].bytes; }
  double error(uint32_t planes) const;
};

struct TierPolicy {
  std::unique_ptr<storage::EvictionPolicy> policy;
  uint64_t capacity_bytes = 0;
  // Turns down blocks on which others in the tier build, for policies that know no prefixes.
  bool leaves_only = false;
};

struct Replayed {
  uint64_t references = 0;
  uint64_t hits = 0;
  uint64_t disk_hits = 0;
  double total_seconds = 0;  // of prefilling everything
  double saved_seconds = 0;
  uint64_t disk_writes = 0;  // blocks
  uint64_t disk_bytes_written = 0;
  double served_error = 0;  // summed over hits
};

struct ReplayOptions {
  CostModel cost = CostModel::EightBillion();
  BlockLevels levels;          // of every block, as published
  bool write_through = false;  // every block goes to the disk as it is published
};

class Replay {
 public:
  Replay(const Trace& trace, ReplayOptions options, TierPolicy host);
  Replay(const Trace& trace, ReplayOptions options, TierPolicy host, TierPolicy disk);
  ~Replay();

  Replayed Run();

 private:
  struct Tier;

  void Serve(size_t request);
  void Publish(BlockId block);
  void Hit(BlockId block);
  void MakeRoom(Tier& tier);
  void Insert(Tier& tier, BlockId block, uint32_t planes);
  void Evict(Tier& tier, storage::TrackedPiece* piece);
  void WriteToDisk(BlockId block, uint32_t planes);
  bool Has(const Tier& tier, BlockId block) const;

  const Trace& trace_;
  const ReplayOptions options_;
  std::unique_ptr<Tier> host_;
  std::unique_ptr<Tier> disk_;
  Replayed result_;
};

}  // namespace reprise::bench
