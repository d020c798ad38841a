// The view of pieces on the disk against the heap itself: this binary counts every allocation.

#include <atomic>
#include <string>

#include <gtest/gtest.h>

#include "storage/nvme/piece_view.h"
#include "storage/testing/counted_heap.h"
#include "storage/testing/test_piece.h"

namespace reprise::storage {
namespace {

constexpr TenantId kTenant = 1;
constexpr uint64_t kMostBytesPerPiece = 256;

Key NumberedKey(uint64_t number) { return TestKey(std::to_string(number)); }

// Eight levels of a few hundred kilobytes and a parent, as a piece of the progressive codec has.
PieceRecord RecordOf(uint64_t number) {
  PieceRecord record;
  PieceSummary& summary = record.summary;
  summary.content_id.digest = TestFingerprint(std::to_string(number));
  summary.namespace_fingerprint = TestFingerprint("model");
  summary.token_begin = 256 * (number % 512);
  summary.attributes.parent = NumberedKey(number + 1);
  summary.attributes.position = number % 512;
  summary.attributes.recompute_seconds = 0.1;
  summary.attributes.expires_at_s = 1'800'000'000 + static_cast<uint32_t>(number * 7919 % 100'000);
  summary.tier = Tier::kNvme;
  summary.level_count = summary.planes_held = 8;
  record.base_planes = 3;
  for (uint32_t level = 0; level < summary.level_count; ++level) {
    const float error = level + 1 < summary.level_count ? 0.5f / static_cast<float>(level + 1) : 0;
    summary.all_levels[level] = {.bytes = (level + 1) * 300'000 + number % 1000,
                                 .distortion = {.key = error, .value = error}};
  }
  return record;
}

TEST(PieceViewMemory, APieceOfEightLevelsCostsLessThan256Bytes) {
  // 120,000 are just beyond where a hash table doubles: the worst of its fill.
  // Each with a time to live, which costs a place in an order of its own.
  for (const uint64_t pieces : {uint64_t{20'000}, uint64_t{120'000}}) {
    const uint64_t before = counted_heap.live_bytes;
    PieceView view(pieces);
    for (uint64_t number = 0; number < pieces; ++number) {
      // In the order of no key.
      view.Insert(kTenant, NumberedKey(number), RecordOf(number));
    }
    const uint64_t heap_bytes = counted_heap.live_bytes - before;
    EXPECT_LT(heap_bytes, pieces * kMostBytesPerPiece);
    EXPECT_LE(heap_bytes, view.bytes()) << "more than what is charged to the budget";
    RecordProperty("bytes_per_piece_of_" + std::to_string(pieces),
                   std::to_string(heap_bytes / pieces));
    for (uint64_t number = 0; number < pieces; number += 97) {
      const Key key = NumberedKey(number);
      const uint64_t allocated = counted_heap.allocations;
      const std::optional<PieceView::Number> found = view.Find(kTenant, key);
      ASSERT_TRUE(found.has_value());
      ASSERT_EQ(view.record(*found).summary.all_levels[0].bytes, 300'000 + number % 1000);
      ASSERT_EQ(counted_heap.allocations, allocated) << "finding a piece must not allocate";
    }
  }
}

}  // namespace
}  // namespace reprise::storage
