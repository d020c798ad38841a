#include "transport/ucx/carrier_memory.h"

#include <utility>

namespace reprise::transport {
namespace {

class UcxRegistration final : public Registration {
 public:
  UcxRegistration(std::shared_ptr<MemoryTable> table, const UcxMemory* memory)
      : table_(std::move(table)), memory_(memory) {}
  ~UcxRegistration() override { table_->Remove(memory_); }
  UcxRegistration(const UcxRegistration&) = delete;
  UcxRegistration& operator=(const UcxRegistration&) = delete;

 private:
  const std::shared_ptr<MemoryTable> table_;
  const UcxMemory* const memory_;
};

}  // namespace

void MemoryTable::Add(std::shared_ptr<const UcxMemory> memory) {
  MutexLock lock(mutex_);
  memory_.push_back(std::move(memory));
}

void MemoryTable::Remove(const UcxMemory* memory) {
  MutexLock lock(mutex_);
  std::erase_if(memory_, [&](const auto& known) { return known.get() == memory; });
}

std::shared_ptr<const UcxMemory> MemoryTable::Find(ByteSpan bytes) const {
  MutexLock lock(mutex_);
  for (const std::shared_ptr<const UcxMemory>& memory : memory_) {
    if (memory->Contains(bytes)) return memory;
  }
  return nullptr;
}

absl::StatusOr<CarrierMemory> CarrierMemory::Create(std::shared_ptr<UcxContext> context,
                                                    size_t receive_bytes) {
  REPRISE_ASSIGN_OR_RETURN(std::shared_ptr<SlotPool> slots,
                           SlotPool::Create(context, receive_bytes));
  CarrierMemory memory{.context = std::move(context),
                       .slots = std::move(slots),
                       .registered = std::make_shared<MemoryTable>(),
                       .counters = std::make_shared<UcxCounters>()};
  memory.counters->free_receive_bytes = memory.slots->free_bytes();
  return memory;
}

absl::StatusOr<std::unique_ptr<Registration>> CarrierMemory::Register(ByteSpan bytes) const {
  if (bytes.empty()) return absl::InvalidArgumentError("cannot register an empty region");
  REPRISE_ASSIGN_OR_RETURN(std::shared_ptr<const UcxMemory> mapped,
                           UcxMemory::Map(context, bytes, UcxMemory::Access::kSend));
  const UcxMemory* const key = mapped.get();
  registered->Add(std::move(mapped));
  return std::make_unique<UcxRegistration>(registered, key);
}

UcxStatistics CarrierMemory::Statistics(uint64_t unknown_senders) const {
  return UcxStatistics{.protocol_violations = counters->protocol_violations,
                       .unknown_calls = counters->unknown_calls,
                       .unknown_senders = unknown_senders,
                       .refused_requests = counters->refused_requests,
                       .refused_endpoints = counters->refused_endpoints,
                       .parked_parts = counters->parked_parts,
                       .free_receive_bytes = counters->free_receive_bytes,
                       .same_host_bytes = counters->same_host_bytes};
}

}  // namespace reprise::transport
