// How long a tier with a million pieces takes from Open until it serves, and what its index takes
// in memory. The index is made by the catalog itself; the segments' files are real but empty.
//
//   storage_nvme_start_benchmark DIRECTORY    a new directory with 6 GiB of room; deleted
//   afterwards

#include <algorithm>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include <benchmark/benchmark.h>

#include "common/limits.h"
#include "storage/lru.h"
#include "storage/nvme/segment_file.h"
#include "storage/nvme/tier_directory.h"
#include "storage/testing/test_piece.h"

namespace reprise::storage {
namespace {

constexpr uint32_t kPieces = 1'000'000;
constexpr uint32_t kPerSegment = 60'000;
constexpr uint32_t kSegments = (kPieces + kPerSegment - 1) / kPerSegment;

std::string directory;  // NOLINT: what main was given

NvmeOptions Options() {
  NvmeOptions options;
  options.directory = directory;
  options.segment_bytes = 256 * kMiB;
  options.budget_bytes = 48 * kGiB;
  options.memory_bytes = 1 * kGiB;
  options.make_policy = [](size_t max_pieces) { return std::make_unique<LruPolicy>(max_pieces); };
  return options;
}

// Eight levels in one page, so that a million pieces need few segments.
PieceRecord RecordOf(uint32_t number, const Digest& fingerprint) {
  PieceRecord record;
  PieceSummary& summary = record.summary;
  summary.content_id.digest = TestKey("content " + std::to_string(number)).digest;
  summary.namespace_fingerprint = fingerprint;
  summary.attributes.recompute_seconds = 0.125 * (number + 1);
  // Chains of 100 chunks.
  summary.attributes.position = number % 100;
  if (number % 100 > 0) summary.attributes.parent = TestKey(std::to_string(number - 1));
  summary.token_begin = 256 * summary.attributes.position;
  summary.level_count = 8;
  summary.planes_held = 8;
  for (uint32_t level = 0; level < 8; ++level) {
    const float error = 0.1f / static_cast<float>(level + 1);
    summary.all_levels[level] = {.bytes = 400 + 500 * level,
                                 .distortion = {.key = error, .value = error}};
  }
  record.base_planes = 8;
  record.base = {.segment = number / kPerSegment, .page = 1 + number % kPerSegment};
  return record;
}

absl::Status Build() {
  { REPRISE_RETURN_IF_ERROR(NvmeTier::Open(Options()).status()); }
  REPRISE_ASSIGN_OR_RETURN(const TierDirectory tier, OpenTierDirectory(Options()));
  for (uint32_t segment = 0; segment < kSegments; ++segment) {
    const SegmentIdentity identity{.node_id = tier.layout.node_id, .number = segment};
    REPRISE_RETURN_IF_ERROR(CreateSegmentFile(Env::Machine(), tier.layout.segment_directory,
                                              identity, tier.layout.segment_bytes)
                                .status());
  }
  REPRISE_ASSIGN_OR_RETURN(const std::unique_ptr<PieceCatalog> catalog,
                           PieceCatalog::Open({.directory = tier.layout.index_directory,
                                               .disk_bytes = tier.index_disk_bytes,
                                               .memory_bytes = tier.index_memory_bytes,
                                               .create = false,
                                               .env = &Env::Machine()}));
  const Digest fingerprint = TestFingerprint("model");
  for (uint32_t i = 0; i < kPieces;) {
    PieceCatalog::Batch batch;
    for (const uint32_t end = std::min(kPieces, i + 1000); i < end; ++i) {
      batch.Put(1, TestKey(std::to_string(i)), RecordOf(i, fingerprint));
    }
    REPRISE_RETURN_IF_ERROR(catalog->Commit(std::move(batch), /*sync=*/false));
  }
  return absl::OkStatus();
}

void OpenAMillionPieces(benchmark::State& state) {
  const absl::Status built = Build();
  if (!built.ok()) return state.SkipWithError(built.ToString().c_str());
  for (auto _ : state) {
    absl::StatusOr<std::unique_ptr<NvmeTier>> tier = NvmeTier::Open(Options());
    state.PauseTiming();
    if (!tier.ok()) return state.SkipWithError(tier.status().ToString().c_str());
    const NvmeUsage usage = (*tier)->usage();
    state.counters["pieces"] = static_cast<double>(usage.pieces);
    state.counters["memory_bytes"] = static_cast<double>(usage.bytes_memory);
    state.counters["disk_bytes_of_index"] =
        static_cast<double>(usage.bytes_on_disk - kSegments * 256 * kMiB);
    tier->reset();
    state.ResumeTiming();
  }
  std::filesystem::remove_all(directory);
}
BENCHMARK(OpenAMillionPieces)->Unit(benchmark::kMillisecond)->Iterations(3)->UseRealTime();

}  // namespace
}  // namespace reprise::storage

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (argc != 2 || std::filesystem::exists(argv[1])) return 2;
  reprise::storage::directory = argv[1];
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
