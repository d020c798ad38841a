// How a store's --memory is divided, so that the whole process stays below it.
//
//   memory = baseline + receive memory of both carriers + gather buffers + requests + disk + pieces
//
// The pieces get what the fixed parts leave; their share includes the index (storage/host).
// docs/operations.md has the table. Pure functions, except the one that asks the machine.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "common/status.h"

namespace reprise::store {

struct MemoryPlan {
  uint64_t total_bytes = 0;
  // Code, libraries, heap and stacks of a process with both carriers up.
  uint64_t baseline_bytes = 0;
  // Where publishes land before they are copied: UCX receive slots, and gRPC's messages.
  uint64_t ucx_receive_bytes = 0;
  uint64_t grpc_receive_bytes = 0;
  uint64_t gather_bytes = 0;
  // Request and reply messages being worked on.
  uint64_t message_bytes = 0;
  // Index and caches of the disk tier; 0 without one.
  uint64_t disk_bytes = 0;
  // Arena, index and policy.
  uint64_t pieces_bytes = 0;
};

// Divides `total_bytes` of a store with or without a disk. INVALID_ARGUMENT when it is below
// MinimumMemoryBytes or above `physical_bytes`, naming both.
absl::StatusOr<MemoryPlan> PlanMemory(uint64_t total_bytes, uint64_t physical_bytes,
                                      bool has_disk = false);

// The smallest --memory that is accepted.
uint64_t MinimumMemoryBytes(bool has_disk = false);

// What this process may use at most: the machine's memory, or less where a control group says so.
uint64_t PhysicalMemoryBytes();

// A quarter of `physical_bytes`, in whole MiB, but no less than the minimum.
uint64_t DefaultMemoryBytes(uint64_t physical_bytes, bool has_disk = false);

}  // namespace reprise::store
