// What the lookup path costs: Find of 64 keys, as one Lookup does it, from stores of several sizes.

#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include <benchmark/benchmark.h>

#include "common/limits.h"
#include "storage/host/host_store.h"
#include "storage/testing/test_piece.h"

namespace reprise::storage {
namespace {

constexpr TenantId kTenant = 1;
constexpr size_t kKeysPerLookup = 64;

void FindKeys(benchmark::State& state) {
  const size_t pieces = static_cast<size_t>(state.range(0));
  const bool chained = state.range(1) != 0;
  auto store = HostStore::Create({.budget_bytes = 1 * kGiB});
  if (!store.ok()) return state.SkipWithError(store.status().ToString().c_str());
  std::vector<Key> keys;
  for (size_t i = 0; i < pieces; ++i) {
    keys.push_back(TestKey(std::to_string(i)));
    PieceAttributes attributes{
        .parent = std::nullopt, .position = i % kKeysPerLookup, .recompute_seconds = 0};
    if (chained && i % kKeysPerLookup > 0) attributes.parent = keys[i - 1];
    const auto outcome =
        Put(**store, kTenant, keys.back(), Build({.key = keys.back()}), attributes);
    if (!outcome.ok()) return state.SkipWithError(outcome.status().ToString().c_str());
  }
  std::mt19937_64 random(1);
  std::vector<PieceRef> found(kKeysPerLookup);
  for (auto _ : state) {
    const size_t first = random() % (pieces / kKeysPerLookup) * kKeysPerLookup;
    for (size_t i = 0; i < kKeysPerLookup; ++i) {
      found[i] = (*store)->Find(kTenant, keys[first + i]);
    }
    benchmark::DoNotOptimize(found.data());
  }
  const StoreUsage usage = (*store)->usage();
  state.counters["bytes_metadata_per_piece"] =
      static_cast<double>(usage.bytes_metadata) / static_cast<double>(usage.pieces);
}
BENCHMARK(FindKeys)->ArgNames({"pieces", "chained"})->ArgsProduct({{1 << 10, 1 << 14}, {0, 1}});

}  // namespace
}  // namespace reprise::storage

BENCHMARK_MAIN();
