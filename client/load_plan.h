// What a load fetches, and where it goes: from selections of chunks and layers to pieces, and from
// what came of them to complete chunks. Pure, thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "chunk/keys.h"
#include "client/fetch_reader.h"
#include "client/reprise.h"
#include "common/status.h"

namespace reprise::client {

// Selections of one load.
inline constexpr size_t kMaxSelections = size_t{1} << 16;

struct LoadPlan {
  // Of one piece, with `pieces`: which selection it belongs to, and the tensors of the whole piece.
  struct Place {
    uint32_t selection = 0;
    uint32_t slot = 0;
    GroupViews views;
  };
  uint32_t first = 0;
  uint32_t count = 0;
  // A miss leaves nothing of use to what comes after it: there was no plan but a prefix to load.
  bool ends_at_miss = false;
  std::vector<uint32_t> reaches;  // of each slot
  std::vector<uint32_t> layers;   // all the model's, ascending
  // Of each chunk of the load: where the run of consecutive selected chunks that it is in ends.
  std::vector<uint32_t> run_ends;
  std::vector<Selection> selections;
  std::vector<uint32_t> piece_counts;  // of each selection; its pieces follow one another
  std::vector<ExpectedPiece> pieces;
  std::vector<Place> places;

  // How many chunks from `first` on a reader can continue after, because complete selections hold
  // every layer that it needs of them: LoadResult::chunks.
  uint32_t CompleteChunks(std::span<const SelectionResult> results) const;
};

// For chunks [first, first + count) of `keys`, which exist, and `views` of exactly them.
// INVALID_ARGUMENT, naming the selection, when options.plan leaves the chunks or names no layer.
absl::StatusOr<LoadPlan> MakeLoadPlan(const PrefixKeys& keys, uint32_t first, uint32_t count,
                                      std::span<const GroupViews> views,
                                      const LoadOptions& options);

}  // namespace reprise::client
