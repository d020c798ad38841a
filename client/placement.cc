#include "client/placement.h"

#include <algorithm>
#include <bit>
#include <cstddef>
#include <string_view>

#include "absl/numeric/int128.h"

namespace reprise::client {
namespace {

constexpr std::string_view kTag = "reprise/place/1";
constexpr int kFractionBits = 32;

struct Score {
  uint64_t hash = 0;
  uint64_t cost = 0;  // before it is divided by the weight; the lowest wins
  uint32_t node = 0;
};

uint64_t HashOf(const Digest& unit, const Node& node) {
  const Digest digest = Sha256().Update(kTag).Update(unit.AsString()).Update(node.id).Finish();
  uint64_t hash = 0;
  for (size_t i = 0; i < sizeof(hash); ++i)
    hash |= std::to_integer<uint64_t>(digest.bytes[i]) << (8 * i);
  return hash;
}

// -log2(hash / 2^64) with 32 bits of fraction, one bit per squaring; that of 1 for 0.
uint64_t NegativeLog2(uint64_t hash) {
  hash = std::max<uint64_t>(hash, 1);
  const int zeros = std::countl_zero(hash);
  uint64_t mantissa = hash << zeros;  // in [1, 2), its one at bit 63
  uint64_t fraction = 0;
  for (int bit = 0; bit < kFractionBits; ++bit) {
    const absl::uint128 square = (absl::uint128(mantissa) * mantissa) >> 63;
    const bool carry = absl::Uint128High64(square) != 0;
    mantissa = absl::Uint128Low64(carry ? square >> 1 : square);
    fraction = 2 * fraction + (carry ? 1 : 0);
  }
  return (static_cast<uint64_t>(zeros + 1) << kFractionBits) - fraction;
}

}  // namespace

Replicas PlaceUnit(const View& view, const Digest& unit, uint32_t count) {
  if (view.nodes.size() == 1) return {0};
  std::vector<Score> scores(view.nodes.size());
  for (uint32_t i = 0; i < scores.size(); ++i) {
    const uint64_t hash = HashOf(unit, view.nodes[i]);
    scores[i] = {.hash = hash, .cost = NegativeLog2(hash), .node = i};
  }
  const auto before = [&view](const Score& a, const Score& b) {
    const absl::uint128 cost_a = absl::uint128(a.cost) * view.nodes[b.node].weight;
    const absl::uint128 cost_b = absl::uint128(b.cost) * view.nodes[a.node].weight;
    if (cost_a != cost_b) return cost_a < cost_b;
    if (a.hash != b.hash) return a.hash > b.hash;
    return view.nodes[a.node].id < view.nodes[b.node].id;
  };
  const size_t chosen = std::min<size_t>(count, scores.size());
  std::partial_sort(scores.begin(), scores.begin() + static_cast<ptrdiff_t>(chosen), scores.end(),
                    before);
  Replicas replicas;
  replicas.reserve(chosen);
  for (size_t i = 0; i < chosen; ++i) replicas.push_back(scores[i].node);
  return replicas;
}

Placement::Placement(const View& view, uint32_t replicas, const PrefixKeys& keys) {
  runs_.reserve(keys.chunk_count() / kRunChunks + 1);
  for (size_t chunk = 0; chunk < keys.chunk_count(); chunk += kRunChunks)
    runs_.push_back(PlaceUnit(view, keys.prefix_id(chunk).digest, replicas));
}

}  // namespace reprise::client
