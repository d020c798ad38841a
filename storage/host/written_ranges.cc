#include "storage/host/written_ranges.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace reprise::storage {

absl::Status WrittenRanges::Claim(uint64_t begin, uint64_t end) {
  Range* const first = ranges_.data();
  Range* const last = first + count_;
  // The first range that ends behind `begin`; those before it end at or before it.
  Range* const next =
      std::upper_bound(first, last, begin, [](uint64_t at, const Range& r) { return at < r.end; });
  if (next != last && next->begin < end) {
    return absl::InvalidArgumentError(absl::StrCat("bytes ", begin, " to ", end, " overlap bytes ",
                                                   next->begin, " to ", next->end,
                                                   ", which were written already"));
  }
  const bool joins_previous = next != first && (next - 1)->end == begin;
  const bool joins_next = next != last && next->begin == end;
  if (joins_previous && joins_next) {
    (next - 1)->end = next->end;
    std::copy(next + 1, last, next);
    --count_;
  } else if (joins_previous) {
    (next - 1)->end = end;
  } else if (joins_next) {
    next->begin = begin;
  } else {
    if (count_ == kMaxRanges) {
      return absl::ResourceExhaustedError(
          absl::StrCat("bytes ", begin, " to ", end, " would leave more than ", kMaxRanges,
                       " gaps between the parts; send parts closer to their order"));
    }
    std::copy_backward(next, last, last + 1);
    *next = {begin, end};
    ++count_;
  }
  return absl::OkStatus();
}

}  // namespace reprise::storage
