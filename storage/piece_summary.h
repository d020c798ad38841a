// What a tier can tell of a piece without reading it: enough to look up, list, publish and rank
// pieces when header and directory are on a disk. Plain values of fixed size.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "chunk/container.h"
#include "chunk/quality.h"
#include "storage/piece_attributes.h"

namespace reprise::storage {

enum class Tier : uint8_t { kGpu = 1, kHost = 2, kNvme = 3 };

struct PieceSummary {
  struct Level {
    uint64_t bytes = 0;       // of header, directory and planes 0..k
    Distortion distortion{};  // worst layer
  };

  ContentId content_id{};
  Digest namespace_fingerprint{};
  uint64_t token_begin = 0;  // position of its first token in its sequence
  PieceAttributes attributes{};
  Tier tier = Tier::kHost;
  uint32_t level_count = 0;  // of the encoded piece
  uint32_t planes_held = 0;  // 1 to level_count
  std::array<Level, kMaxPlanes> all_levels{};

  std::span<const Level> levels() const { return std::span(all_levels).first(level_count); }
  // Of what is held.
  uint64_t held_bytes() const { return all_levels[planes_held - 1].bytes; }
  PieceQuality quality() const {
    return {.content_id = content_id,
            .planes = planes_held,
            .distortion = all_levels[planes_held - 1].distortion};
  }
};

inline PieceSummary SummaryOf(const PieceMeta& meta, const PieceAttributes& attributes,
                              uint32_t planes_held, Tier tier) {
  PieceSummary summary{.content_id = meta.header().content_id,
                       .namespace_fingerprint = meta.header().namespace_fingerprint,
                       .token_begin = meta.header().token_begin,
                       .attributes = attributes,
                       .tier = tier,
                       .level_count = meta.level_count(),
                       .planes_held = planes_held};
  for (uint32_t level = 0; level < summary.level_count; ++level) {
    summary.all_levels[level] = {meta.bytes_to(level), meta.header().levels[level].Worst()};
  }
  return summary;
}

}  // namespace reprise::storage
