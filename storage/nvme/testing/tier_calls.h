// An NvmeTier as tests call it: each call waits for its end, containers are aligned as the tier
// wants them, and what is read is judged as the host tier judges it. Test code only; pure functions
// around the tier.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "storage/env/testing/simulated_env.h"
#include "storage/nvme/nvme_tier.h"
#include "storage/testing/test_piece.h"

namespace reprise::storage {

// 12 MiB of disk at /tier in segments of 512 KiB, with LRU; aborts where it does not open.
std::unique_ptr<NvmeTier> OpenSmallTier(SimulatedEnv& env);

struct TierWrite {
  TenantId tenant = 1;
  uint32_t planes = 0;  // 0: all that the container has
  bool durable = false;
  PieceAttributes attributes{};
};

// `container` is whole; what is written is cut to `planes`.
absl::Status WriteTo(NvmeTier& tier, ByteSpan container, const TierWrite& write = {});
// Does not wait; `done` as NvmeTier's.
void BeginWriteTo(NvmeTier& tier, ByteSpan container, const TierWrite& write, NvmeTier::Done done);

// All at once; the first error.
absl::Status WriteAll(NvmeTier& tier, std::span<const std::vector<std::byte>> containers,
                      const TierWrite& write = {});

// The container cut behind `planes`, without what was before `from_offset`; the padding behind its
// last byte is left out.
absl::StatusOr<std::vector<std::byte>> ReadFrom(NvmeTier& tier, TenantId tenant, const Key& key,
                                                uint32_t planes, uint64_t from_offset = 0);

// What a host tier makes of a piece on the disk.
enum class Found : uint8_t {
  kAbsent,    // a miss: not held, or unreadable, or damaged and seen to be
  kIntact,    // verified, and the bytes published under that key
  kImpostor,  // verified, and yet other bytes: never
};
// Reads what is held of the piece and compares it with that container; damage is reported.
Found Look(NvmeTier& tier, TenantId tenant, ByteSpan container);

uint64_t ScrubAll(NvmeTier& tier);

}  // namespace reprise::storage
