#include "storage/nvme/testing/tier_calls.h"

#include <algorithm>
#include <cstdlib>
#include <future>
#include <memory>
#include <utility>

#include "common/byte_io.h"
#include "common/limits.h"
#include "storage/lru.h"

namespace reprise::storage {
namespace {

struct AlignedMemory {
  explicit AlignedMemory(size_t bytes)
      : size(AlignUp(bytes, kDirectAlignmentBytes)),
        data(static_cast<std::byte*>(std::aligned_alloc(kDirectAlignmentBytes, size))) {
    std::fill_n(data, size, std::byte{0});
  }
  ~AlignedMemory() { std::free(data); }
  AlignedMemory(const AlignedMemory&) = delete;
  AlignedMemory& operator=(const AlignedMemory&) = delete;

  const size_t size;
  std::byte* const data;
};

}  // namespace

std::unique_ptr<NvmeTier> OpenSmallTier(SimulatedEnv& env) {
  return NvmeTier::Open(
             {.directory = "/tier",
              .budget_bytes = 12 * kMiB,
              .memory_bytes = 16 * kMiB,
              .segment_bytes = 512 * kKiB,
              .make_policy =
                  [](size_t max_pieces) { return std::make_unique<LruPolicy>(max_pieces); },
              .env = &env})
      .value();
}

void BeginWriteTo(NvmeTier& tier, ByteSpan container, const TierWrite& write, NvmeTier::Done done) {
  const PieceMeta meta = PieceMeta::Parse(container).value();
  const uint32_t planes = write.planes == 0 ? meta.level_count() : write.planes;
  const ByteSpan cut = container.first(meta.bytes_to(planes - 1));
  auto memory = std::make_shared<AlignedMemory>(cut.size());
  std::ranges::copy(cut, memory->data);
  const ByteSpan aligned(memory->data, memory->size);
  tier.Write({.tenant = write.tenant,
              .meta = &meta,
              .attributes = write.attributes,
              .planes = planes,
              .container = SharedBytes(aligned, std::move(memory)),
              .durable = write.durable},
             std::move(done));
}

absl::Status WriteTo(NvmeTier& tier, ByteSpan container, const TierWrite& write) {
  std::promise<absl::Status> ended;
  BeginWriteTo(tier, container, write,
               [&](absl::Status status) { ended.set_value(std::move(status)); });
  return ended.get_future().get();
}

absl::Status WriteAll(NvmeTier& tier, std::span<const std::vector<std::byte>> containers,
                      const TierWrite& write) {
  std::vector<std::promise<absl::Status>> ended(containers.size());
  for (size_t i = 0; i < containers.size(); ++i) {
    BeginWriteTo(tier, containers[i], write,
                 [&end = ended[i]](absl::Status status) { end.set_value(std::move(status)); });
  }
  absl::Status first;
  for (std::promise<absl::Status>& end : ended) {
    const absl::Status status = end.get_future().get();
    if (first.ok()) first = status;
  }
  return first;
}

absl::StatusOr<std::vector<std::byte>> ReadFrom(NvmeTier& tier, TenantId tenant, const Key& key,
                                                uint32_t planes, uint64_t from_offset) {
  const std::optional<PieceSummary> summary = tier.Describe(tenant, key);
  if (!summary.has_value() || planes == 0 || planes > summary->level_count) {
    return absl::NotFoundError("no such piece");
  }
  const uint64_t bytes = summary->all_levels[planes - 1].bytes - from_offset;
  AlignedMemory memory(bytes);
  std::promise<absl::Status> ended;
  tier.Read(tenant, key, summary->content_id, planes, from_offset,
            MutableByteSpan(memory.data, memory.size),
            [&](absl::Status status) { ended.set_value(std::move(status)); });
  if (absl::Status status = ended.get_future().get(); !status.ok()) return status;
  return std::vector<std::byte>(memory.data, memory.data + bytes);
}

Found Look(NvmeTier& tier, TenantId tenant, ByteSpan container) {
  const Key key = PieceMeta::Parse(container).value().header().key;
  const std::optional<PieceSummary> summary = tier.Describe(tenant, key);
  if (!summary.has_value()) return Found::kAbsent;
  const absl::StatusOr<std::vector<std::byte>> bytes =
      ReadFrom(tier, tenant, key, summary->planes_held);
  if (!bytes.ok()) return Found::kAbsent;
  const absl::StatusOr<PieceMeta> meta = PieceMeta::Parse(*bytes);
  const bool verified =
      meta.ok() && meta->header().key == key && meta->header().content_id == summary->content_id &&
      meta->VerifyBody(ByteSpan(*bytes).subspan(meta->meta_bytes()), summary->planes_held - 1).ok();
  if (!verified) {
    tier.ReportDamage(tenant, key, summary->content_id);
    return Found::kAbsent;
  }
  return bytes->size() <= container.size() &&
                 std::ranges::equal(*bytes, container.first(bytes->size()))
             ? Found::kIntact
             : Found::kImpostor;
}

uint64_t ScrubAll(NvmeTier& tier) {
  std::promise<uint64_t> ended;
  tier.Scrub(uint64_t{100} << 30, [&](uint64_t damaged) { ended.set_value(damaged); });
  return ended.get_future().get();
}

}  // namespace reprise::storage
