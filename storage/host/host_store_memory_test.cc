// The host tier against the heap itself: this binary counts every allocation, and compares with
// what the store says.

#include <atomic>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/limits.h"
#include "storage/host/host_store.h"
#include "storage/testing/counted_heap.h"
#include "storage/testing/test_piece.h"

namespace reprise::storage {
namespace {

constexpr TenantId kTenant = 1;
constexpr uint64_t kBudget = 32 * kMiB;

// Pieces that are all header and directory, and pieces that are all bytes.
std::vector<std::vector<std::byte>> MixedContainers() {
  std::vector<std::vector<std::byte>> containers;
  std::mt19937 random(31);
  for (uint32_t i = 0; i < 1500; ++i) {
    TestPiece piece{.key = TestKey(std::to_string(i)), .seed = i};
    switch (i % 4) {
      case 0:
        piece.plane_bytes = 1 + random() % 100;
        break;
      case 1:
        piece.plane_bytes = 1 + random() % 300'000;
        break;
      case 2:
        piece.plane_bytes = 500;
        piece.segment_bytes = 1 + static_cast<uint32_t>(random() % 20);
        break;
      default:
        piece.plane_bytes = 2;
        piece.planes = 16;
        piece.layers = 1 + static_cast<uint32_t>(random() % 60);
    }
    containers.push_back(Build(piece));
  }
  return containers;
}

TEST(HostStoreMemory, HeapAndArenaStayWithinTheBudget) {
  const std::vector<std::vector<std::byte>> containers = MixedContainers();
  std::vector<Key> keys;
  keys.reserve(containers.size());
  for (const auto& container : containers)
    keys.push_back(PieceMeta::Parse(container)->header().key);
  std::mt19937 random(37);
  const uint64_t before = counted_heap.live_bytes;
  {
    const auto store = HostStore::Create({.budget_bytes = kBudget});
    ASSERT_TRUE(store.ok());
    const uint64_t empty = counted_heap.live_bytes - before;
    counted_heap.peak_bytes = counted_heap.live_bytes.load();
    for (int step = 0; step < 8000; ++step) {
      const size_t i = random() % containers.size();
      if (random() % 10 < 7) {
        // Parents that never come, so that the policy has to remember them too.
        const PieceAttributes attributes{
            .parent = keys[(i + 1) % keys.size()], .position = 5, .recompute_seconds = 0};
        ASSERT_TRUE(Put(**store, kTenant, keys[i], containers[i], attributes).ok());
      } else if (random() % 2 == 0) {
        (*store)->Hold(kTenant, keys[i], 0, Deadline::After(std::chrono::seconds(1)));
      } else {
        (*store)->Remove(kTenant, keys[i], nullptr);
      }
      const StoreUsage usage = (*store)->usage();
      ASSERT_LE(usage.bytes_used, kBudget);
      ASSERT_LE(counted_heap.live_bytes - before - empty, usage.bytes_metadata)
          << "uncharged memory, step " << step;
    }
    EXPECT_GT((*store)->usage().evicted_pieces, 1000u);
    EXPECT_LE((*store)->arena().size() + counted_heap.peak_bytes - before, kBudget);
  }
  EXPECT_EQ(counted_heap.live_bytes, before);
}

TEST(HostStoreMemory, FindAndPeekNeverAllocate) {
  const auto store = HostStore::Create({.budget_bytes = kBudget});
  ASSERT_TRUE(store.ok());
  std::vector<Key> keys;
  for (int i = 0; i < 64; ++i) {
    keys.push_back(TestKey(std::to_string(i)));
    ASSERT_TRUE(Put(**store, kTenant, keys.back(), Build({.key = keys.back()})).ok());
  }
  std::vector<PieceRef> found(keys.size());
  const Key absent = TestKey("absent");
  const uint64_t before = counted_heap.allocations;
  for (int round = 0; round < 10; ++round) {
    for (size_t i = 0; i < keys.size(); ++i) found[i] = (*store)->Find(kTenant, keys[i]);
    for (size_t i = 0; i < keys.size(); ++i) found[i] = (*store)->Peek(kTenant, keys[i]);
    ASSERT_EQ((*store)->Find(kTenant, absent), nullptr);
    for (PieceRef& piece : found) {
      ASSERT_NE(piece, nullptr);
      // What the service does to put a piece on the wire.
      const SharedBytes bytes(piece->body(), piece);
      ASSERT_EQ(bytes.size(), 100u);
    }
  }
  EXPECT_EQ(counted_heap.allocations - before, 0u);
}

}  // namespace
}  // namespace reprise::storage
