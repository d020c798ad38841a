// The figures a store shows to Prometheus, and where each is counted.
//
// Every series exists from the start, so counting is one atomic addition (a short lock for
// histograms) and never looks a label up. Thread-safe. docs/operations.md explains each metric.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"

#include "common/clock.h"
#include "services/store/work_class.h"
#include "storage/piece_store.h"

namespace prometheus {
class Counter;
class Histogram;
class Registry;
}  // namespace prometheus

namespace reprise::store {

inline constexpr size_t kStatusCodes = 17;
// One past the highest number of proto's Method.
inline constexpr size_t kMethods = 11;

// Bytes of requests and replies, bulk included, as the service sees them.
struct CarrierMetrics {
  void CountIn(size_t bytes) const;
  void CountOut(size_t bytes) const;

  prometheus::Counter* bytes_in = nullptr;
  prometheus::Counter* bytes_out = nullptr;
};

struct MethodMetrics {
  std::array<prometheus::Counter*, kStatusCodes> requests{};  // by status code
  prometheus::Histogram* seconds = nullptr;                   // from arrival to completion
};

// Read when somebody scrapes.
struct LiveFigures {
  storage::StoreUsage usage;
  size_t sessions = 0;
  size_t gather_bytes_free = 0;
  uint64_t same_host_bytes = 0;
};

class StoreMetrics {
 public:
  StoreMetrics();
  ~StoreMetrics();
  StoreMetrics(const StoreMetrics&) = delete;
  StoreMetrics& operator=(const StoreMetrics&) = delete;

  // The figures of a carrier, for as long as this object lives. Those of "ucx" and "grpc" are shown
  // from the start, another's (loopback, in tests) once it was asked for.
  CarrierMetrics Carrier(std::string_view name);

  void CountRequest(size_t method, absl::StatusCode code, Duration took);
  // A request waited this long before somebody worked on it.
  void CountQueueDelay(WorkClass work_class, Duration delay);
  // The recent mean of the fetches' waits, as Lookup reports it: what a planner compares with
  // computing anew is how long its fetch will wait, not somebody's publish.
  std::chrono::microseconds recent_queue_delay() const;

  void CountLookup(size_t hits, size_t misses);
  void CountFetch(size_t pieces, size_t misses);
  void CountPublish(storage::CommitOutcome outcome, uint64_t bytes);
  // A published container that did not match its key, content id or checksums.
  void CountPublishRejected();
  // A held piece whose bytes did not match any more.
  void CountCorruptPiece();
  // Work turned away because a queue, session or pool was full.
  void CountRefused();
  void CountSessionRefused();
  void CountGatherFallback();

  // Text in Prometheus' exposition format. `live` supplies what is not counted here.
  std::string Render(const LiveFigures& live) const;

 private:
  struct Series;

  const std::shared_ptr<prometheus::Registry> registry_;
  const std::unique_ptr<Series> series_;
  std::atomic<uint32_t> recent_fetch_delay_us_{0};
};

}  // namespace reprise::store
