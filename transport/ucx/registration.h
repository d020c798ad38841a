// What RegisterMemory hands out, and reading counters: shared by client and server.
#pragma once

#include <cstdint>
#include <memory>

#include "common/bytes.h"
#include "common/status.h"
#include "transport/transport.h"
#include "transport/ucx/ucx_resources.h"
#include "transport/ucx/ucx_transport.h"
#include "transport/ucx/wire.h"

namespace reprise::transport {

// Sends under way keep the mapping itself alive after the registration is gone.
class UcxRegistration final : public Registration {
 public:
  static absl::StatusOr<std::unique_ptr<Registration>> Create(std::shared_ptr<UcxContext> context,
                                                              std::shared_ptr<MemoryTable> table,
                                                              ByteSpan bytes);
  ~UcxRegistration() override;
  UcxRegistration(const UcxRegistration&) = delete;
  UcxRegistration& operator=(const UcxRegistration&) = delete;

 private:
  UcxRegistration(std::shared_ptr<MemoryTable> table, const UcxMemory* memory)
      : table_(std::move(table)), memory_(memory) {}

  const std::shared_ptr<MemoryTable> table_;
  const UcxMemory* const memory_;
};

UcxStatistics Snapshot(const UcxCounters& counters, uint64_t free_bytes);

}  // namespace reprise::transport
