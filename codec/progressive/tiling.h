// How one layer's K or V is cut: channels into coding order, groups, tiles.
//
// Channels are coded in an order in which the two of a rope pair stand side by side. A group is at
// most 32 channels of one head that are loaded and stored together, as at most two runs of 16
// neighbouring dims. A tile is whole groups.
//
// Pure functions of a shape; values are immutable.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "chunk/rope.h"
#include "codec/progressive/format.h"

namespace reprise::progressive {

// Which dims of every head turn with the token's position.
struct RopeShape {
  RopePairing pairing = RopePairing::kNone;
  uint32_t first_dim = 0;
  uint32_t dims = 0;  // even; first_dim + dims is at most the head's

  friend bool operator==(const RopeShape&, const RopeShape&) = default;
};

struct Run {
  uint32_t dim = 0;
  uint32_t count = 0;  // 0 to 16
};

struct Group {
  uint32_t position = 0;  // in coding order, of its first channel
  uint32_t channels = 0;
  uint32_t head = 0;
  std::array<Run, 2> runs;
  // The group's channel k (in coding order) is row `rows[k]`: run 0 has rows 0 on, run 1 rows 16
  // on.
  std::array<uint8_t, 32> rows{};
  // Pair 0 of the group is this pair of the head's rope; no pairs unless `rotated`.
  bool rotated = false;
  uint32_t first_pair = 0;
};

struct Tile {
  uint32_t first_group = 0;
  uint32_t group_count = 0;
  uint32_t channels = 0;
};

struct Tiling {
  std::vector<Group> groups;
  std::vector<Tile> tiles;  // of one span of tokens

  static Tiling Of(uint32_t heads, uint32_t dims, const RopeShape& rope);
};

// Channels of a group that are coded together and have one step: a rope pair, or one.
constexpr uint32_t Together(const Group& group) { return group.rotated ? 2 : 1; }

inline std::span<const Group> GroupsOf(const Tiling& tiling, const Tile& tile) {
  return std::span(tiling.groups).subspan(tile.first_group, tile.group_count);
}

constexpr uint32_t UnitCount(std::span<const Group> groups) {
  uint32_t units = 0;
  for (const Group& group : groups) units += group.channels / Together(group);
  return units;
}

// Tokens are cut into spans of kTileTokens.
constexpr uint32_t SpanCount(uint32_t tokens) { return (tokens + kTileTokens - 1) / kTileTokens; }
constexpr uint32_t RowCount(uint32_t span_tokens) { return (span_tokens + kLanes - 1) / kLanes; }
constexpr uint32_t StreamCount(uint32_t rows) { return rows < kStreams ? rows : kStreams; }
constexpr uint32_t TailStreamCount(uint32_t rows) { return rows < 2 ? rows : 2; }

}  // namespace reprise::progressive
