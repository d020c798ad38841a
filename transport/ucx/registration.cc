#include "transport/ucx/registration.h"

#include <utility>

namespace reprise::transport {

absl::StatusOr<std::unique_ptr<Registration>> UcxRegistration::Create(
    std::shared_ptr<UcxContext> context, std::shared_ptr<MemoryTable> table, ByteSpan bytes) {
  if (bytes.empty()) return absl::InvalidArgumentError("cannot register an empty region");
  REPRISE_ASSIGN_OR_RETURN(std::shared_ptr<const UcxMemory> memory,
                           UcxMemory::Map(std::move(context), bytes, UcxMemory::Access::kSend));
  const UcxMemory* const mapped = memory.get();
  table->Add(std::move(memory));
  return std::unique_ptr<Registration>(new UcxRegistration(std::move(table), mapped));
}

UcxRegistration::~UcxRegistration() { table_->Remove(memory_); }

UcxStatistics Snapshot(const UcxCounters& counters, uint64_t free_bytes) {
  return UcxStatistics{.protocol_violations = counters.protocol_violations,
                       .unknown_calls = counters.unknown_calls,
                       .unknown_endpoints = counters.unknown_endpoints,
                       .refused_requests = counters.refused_requests,
                       .refused_endpoints = counters.refused_endpoints,
                       .parked_parts = counters.parked_parts,
                       .free_receive_bytes = free_bytes};
}

}  // namespace reprise::transport
