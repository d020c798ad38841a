#include "codec/progressive/tiling.h"

#include <algorithm>

namespace reprise::progressive {
namespace {

constexpr uint32_t kRun = 16;

class Builder {
 public:
  Builder(std::vector<Group>& groups, uint32_t head) : groups_(groups), head_(head) {}

  // Dims [begin, end) in their own order; `rotated`: pairs of neighbours.
  void Plain(uint32_t begin, uint32_t end, bool rotated, uint32_t first_dim) {
    for (uint32_t dim = begin; dim < end; dim += 2 * kRun) {
      const uint32_t count = std::min(2 * kRun, end - dim);
      Group& group = Add(count);
      group.runs[0] = {dim, std::min(count, kRun)};
      group.runs[1] = {dim + kRun, count > kRun ? count - kRun : 0};
      for (uint32_t k = 0; k < count; ++k) group.rows[k] = static_cast<uint8_t>(k);
      group.rotated = rotated;
      group.first_pair = (dim - first_dim) / 2;
    }
  }

  // Pairs (begin + i, begin + dims / 2 + i).
  void Halves(uint32_t begin, uint32_t dims) {
    for (uint32_t pair = 0; pair < dims / 2; pair += kRun) {
      const uint32_t count = std::min(kRun, dims / 2 - pair);
      Group& group = Add(2 * count);
      group.runs[0] = {begin + pair, count};
      group.runs[1] = {begin + dims / 2 + pair, count};
      for (uint32_t k = 0; k < 2 * count; ++k) {
        group.rows[k] = static_cast<uint8_t>(k / 2 + k % 2 * kRun);
      }
      group.rotated = true;
      group.first_pair = pair;
    }
  }

 private:
  Group& Add(uint32_t channels) {
    Group group;
    if (!groups_.empty()) group.position = groups_.back().position + groups_.back().channels;
    group.channels = channels;
    group.head = head_;
    return groups_.emplace_back(group);
  }

  std::vector<Group>& groups_;
  const uint32_t head_;
};

}  // namespace

Tiling Tiling::Of(uint32_t heads, uint32_t dims, const RopeShape& rope) {
  Tiling tiling;
  for (uint32_t head = 0; head < heads; ++head) {
    Builder builder(tiling.groups, head);
    if (rope.pairing == RopePairing::kNone) {
      builder.Plain(0, dims, false, 0);
      continue;
    }
    builder.Plain(0, rope.first_dim, false, 0);
    if (rope.pairing == RopePairing::kHalves) {
      builder.Halves(rope.first_dim, rope.dims);
    } else {
      builder.Plain(rope.first_dim, rope.first_dim + rope.dims, true, rope.first_dim);
    }
    builder.Plain(rope.first_dim + rope.dims, dims, false, 0);
  }
  for (uint32_t g = 0; g < tiling.groups.size(); ++g) {
    const uint32_t channels = tiling.groups[g].channels;
    if (tiling.tiles.empty() || tiling.tiles.back().channels + channels > kTileChannels) {
      tiling.tiles.push_back({.first_group = g});
    }
    ++tiling.tiles.back().group_count;
    tiling.tiles.back().channels += channels;
  }
  return tiling;
}

}  // namespace reprise::progressive
