// How good a piece under one key is, and when one that is held makes another superfluous.
//
// The one definition of "the held piece reaches the level": a client asks it before it sends, a
// store before it lets bytes come and again before it makes them visible. Plain values, pure.
#pragma once

#include <cstdint>

#include "chunk/container.h"
#include "chunk/keys.h"

namespace reprise {

// Planes 0..planes - 1 of one content, and the error they leave.
struct PieceQuality {
  ContentId content_id{};
  uint32_t planes = 0;      // at least 1
  Distortion distortion{};  // worst layer, at level planes - 1

  friend bool operator==(const PieceQuality&, const PieceQuality&) = default;
};

// Whether `held` leaves no reason to store `offered` under the same key. Of the same content, when
// it has as many planes. Of another content, unless what is offered errs less in K or in V and more
// in neither: so each replacement is better, and two publishers never replace each other in turn.
// Planes of two encodings are not compared: one of them may be lossless with a single plane.
inline bool Reaches(const PieceQuality& held, const PieceQuality& offered) {
  if (held.content_id == offered.content_id) return held.planes >= offered.planes;
  const bool errs_more = offered.distortion.key > held.distortion.key ||
                         offered.distortion.value > held.distortion.value;
  const bool errs_less = offered.distortion.key < held.distortion.key ||
                         offered.distortion.value < held.distortion.value;
  return errs_more || !errs_less;
}

// Of the first `planes` planes of a piece, of which it has that many.
inline PieceQuality QualityOf(const PieceMeta& meta, uint32_t planes) {
  return {.content_id = meta.header().content_id,
          .planes = planes,
          .distortion = meta.header().levels[planes - 1].Worst()};
}

}  // namespace reprise
