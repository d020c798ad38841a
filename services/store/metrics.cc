#include "services/store/metrics.h"

#include <algorithm>
#include <utility>
#include <vector>

#include <prometheus/counter.h>
#include <prometheus/family.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

namespace reprise::store {
namespace {

using prometheus::ClientMetric;
using prometheus::Counter;
using prometheus::Histogram;
using prometheus::MetricFamily;
using prometheus::MetricType;

constexpr std::array<const char*, kMethods> kMethodNames{
    "Unknown", "OpenSession", "Hello",  "Lookup", "Publish", "Fetch",
    "Stat",    "List",        "Remove", "Pin",    "Warm"};
constexpr std::array<const char*, kWorkClasses> kWorkClassNames{"fetch", "publish", "background"};
constexpr std::array<std::string_view, 2> kCarrierNames{"ucx", "grpc"};

// Seconds; 10 us to 10 s.
const Histogram::BucketBoundaries& LatencyBuckets() {
  static const Histogram::BucketBoundaries buckets{1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2,
                                                   3e-2, 1e-1, 3e-1, 1,    3,    10};
  return buckets;
}

double Seconds(Duration duration) { return std::chrono::duration<double>(duration).count(); }

MetricFamily Family(const char* name, const char* help, MetricType type, double value) {
  MetricFamily family;
  family.name = name;
  family.help = help;
  family.type = type;
  ClientMetric& metric = family.metric.emplace_back();
  metric.counter.value = type == MetricType::Counter ? value : 0;
  metric.gauge.value = type == MetricType::Gauge ? value : 0;
  return family;
}

void AddDiskFamilies(const storage::DiskUsage& disk, std::vector<MetricFamily>& families) {
  const auto gauge = [&](const char* name, const char* help, uint64_t value) {
    families.push_back(Family(name, help, MetricType::Gauge, static_cast<double>(value)));
  };
  const auto counter = [&](const char* name, const char* help, uint64_t value) {
    families.push_back(Family(name, help, MetricType::Counter, static_cast<double>(value)));
  };
  gauge("reprise_store_disk_pieces", "Pieces on the disk.", disk.pieces);
  gauge("reprise_store_disk_bytes_live", "Bytes of pieces on the disk.", disk.bytes_live);
  gauge("reprise_store_disk_bytes_under_pins", "Bytes of those pinned against eviction.",
        disk.bytes_under_pins);
  gauge("reprise_store_disk_bytes_used", "Bytes of the disk's files.", disk.bytes_used);
  gauge("reprise_store_disk_bytes_budget", "Bytes that the disk's files may take.",
        disk.bytes_budget);
  gauge("reprise_store_disk_memory_bytes", "Memory of the disk's index and caches.",
        disk.bytes_memory);
  gauge("reprise_store_disk_read_only", "1 while the disk takes no writes.",
        disk.read_only ? 1 : 0);
  counter("reprise_store_disk_read_bytes_total", "Bytes read from the disk.", disk.bytes_read);
  counter("reprise_store_disk_written_bytes_total", "Bytes written to the disk, moves included.",
          disk.bytes_written);
  counter("reprise_store_disk_moved_bytes_total", "Bytes moved on the disk to gather room.",
          disk.bytes_moved);
  counter("reprise_store_loaded_pieces_total", "Pieces brought from the disk into memory.",
          disk.loaded_pieces);
  counter("reprise_store_loaded_bytes_total", "Bytes of those.", disk.loaded_bytes);
  counter("reprise_store_failed_loads_total", "Pieces of the disk that could not be loaded.",
          disk.failed_loads);
  counter("reprise_store_demoted_pieces_total", "Pieces copied to the disk ahead of eviction.",
          disk.demoted_pieces);
  counter("reprise_store_demoted_bytes_total", "Bytes of those.", disk.demoted_bytes);
  counter("reprise_store_persisted_pieces_total", "Pieces made durable.", disk.persisted_pieces);
  counter("reprise_store_disk_evicted_pieces_total", "Pieces given up on the disk.",
          disk.evicted_pieces);
  counter("reprise_store_disk_shed_pieces_total",
          "Pieces on the disk that lost planes to make room.", disk.shed_pieces);
  counter("reprise_store_disk_scrubbed_bytes_total",
          "Read from the disk in the background and compared with checksums.", disk.scrubbed_bytes);
  counter("reprise_store_disk_damaged_pieces_total",
          "Pieces of the disk dropped because their bytes did not match.", disk.damaged_pieces);
  counter("reprise_store_disk_failed_writes_total", "Writes that the disk did not take.",
          disk.failed_writes);
}

std::vector<MetricFamily> LiveFamilies(const LiveFigures& live) {
  const storage::StoreUsage& usage = live.usage;
  const auto gauge = [](const char* name, const char* help, uint64_t value) {
    return Family(name, help, MetricType::Gauge, static_cast<double>(value));
  };
  const auto counter = [](const char* name, const char* help, uint64_t value) {
    return Family(name, help, MetricType::Counter, static_cast<double>(value));
  };
  std::vector<MetricFamily> families{
      gauge("reprise_store_pieces", "Pieces in memory.", usage.pieces),
      gauge("reprise_store_bytes_used", "Bytes of the budget in use, uploads included.",
            usage.bytes_used),
      gauge("reprise_store_bytes_budget", "Bytes that pieces may occupy.", usage.bytes_budget),
      gauge("reprise_store_bytes_pinned", "Bytes removed or evicted but still being sent.",
            usage.bytes_pinned),
      gauge("reprise_store_bytes_under_pins", "Bytes in memory that are pinned against eviction.",
            usage.bytes_under_pins),
      gauge("reprise_store_uploads", "Uploads under way.", usage.uploads),
      gauge("reprise_store_sessions", "Sessions bound to an endpoint.", live.sessions),
      gauge("reprise_store_gather_bytes_free", "Bytes free to gather scattered ranges in.",
            live.gather_bytes_free),
      counter("reprise_store_evicted_pieces_total", "Pieces evicted to make room.",
              usage.evicted_pieces),
      counter("reprise_store_refused_uploads_total", "Uploads refused for want of room.",
              usage.refused_uploads),
      counter("reprise_store_same_host_bytes_total",
              "Bytes of replies that clients read from the store's memory.", live.same_host_bytes),
  };
  if (usage.disk.has_value()) AddDiskFamilies(*usage.disk, families);
  return families;
}

}  // namespace

void CarrierMetrics::CountIn(size_t bytes) const {
  bytes_in->Increment(static_cast<double>(bytes));
}
void CarrierMetrics::CountOut(size_t bytes) const {
  bytes_out->Increment(static_cast<double>(bytes));
}

struct StoreMetrics::Series {
  prometheus::Family<Counter>* bytes_in = nullptr;
  prometheus::Family<Counter>* bytes_out = nullptr;
  std::array<MethodMetrics, kMethods> methods;
  std::array<Histogram*, kWorkClasses> queue_delays{};
  Counter* lookup_hits = nullptr;
  Counter* lookup_misses = nullptr;
  Counter* fetch_hits = nullptr;
  Counter* fetch_misses = nullptr;
  Counter* publish_stored = nullptr;
  Counter* publish_already_held = nullptr;
  Counter* publish_rejected = nullptr;
  Counter* stored_bytes = nullptr;
  Counter* corrupt_pieces = nullptr;
  Counter* refused = nullptr;
  Counter* sessions_refused = nullptr;
  Counter* gather_fallbacks = nullptr;
};

StoreMetrics::StoreMetrics()
    : registry_(std::make_shared<prometheus::Registry>()), series_(std::make_unique<Series>()) {
  prometheus::Registry& registry = *registry_;
  const auto counters = [&](const char* name, const char* help) -> auto& {
    return prometheus::BuildCounter().Name(name).Help(help).Register(registry);
  };
  series_->bytes_in =
      &counters("reprise_store_bytes_in_total", "Bytes of requests, bulk included.");
  series_->bytes_out =
      &counters("reprise_store_bytes_out_total", "Bytes of replies, bulk included.");
  for (const std::string_view name : kCarrierNames) Carrier(name);
  auto& requests = counters("reprise_store_requests_total", "Requests completed.");
  auto& seconds = prometheus::BuildHistogram()
                      .Name("reprise_store_request_seconds")
                      .Help("From a request's arrival to its completion.")
                      .Register(registry);
  for (size_t method = 0; method < kMethods; ++method) {
    MethodMetrics& metrics = series_->methods[method];
    for (size_t code = 0; code < kStatusCodes; ++code) {
      metrics.requests[code] =
          &requests.Add({{"method", kMethodNames[method]},
                         {"code", absl::StatusCodeToString(static_cast<absl::StatusCode>(code))}});
    }
    metrics.seconds = &seconds.Add({{"method", kMethodNames[method]}}, LatencyBuckets());
  }
  auto& delays = prometheus::BuildHistogram()
                     .Name("reprise_store_queue_seconds")
                     .Help("How long requests waited before being worked on.")
                     .Register(registry);
  for (size_t i = 0; i < kWorkClasses; ++i) {
    series_->queue_delays[i] = &delays.Add({{"class", kWorkClassNames[i]}}, LatencyBuckets());
  }
  auto& lookups = counters("reprise_store_lookup_pieces_total", "Pieces asked for by Lookup.");
  series_->lookup_hits = &lookups.Add({{"result", "hit"}});
  series_->lookup_misses = &lookups.Add({{"result", "miss"}});
  auto& fetches = counters("reprise_store_fetch_pieces_total", "Pieces asked for by Fetch.");
  series_->fetch_hits = &fetches.Add({{"result", "hit"}});
  series_->fetch_misses = &fetches.Add({{"result", "miss"}});
  auto& publishes = counters("reprise_store_published_pieces_total", "Uploads that ended.");
  series_->publish_stored = &publishes.Add({{"result", "stored"}});
  series_->publish_already_held = &publishes.Add({{"result", "already_held"}});
  series_->publish_rejected = &publishes.Add({{"result", "rejected"}});
  series_->stored_bytes =
      &counters("reprise_store_published_bytes_total", "Bytes of pieces stored.").Add({});
  series_->corrupt_pieces = &counters("reprise_store_corrupt_pieces_total",
                                      "Held pieces dropped because their bytes did not match.")
                                 .Add({});
  series_->refused =
      &counters("reprise_store_refused_requests_total", "Requests refused for want of room.")
           .Add({});
  series_->sessions_refused =
      &counters("reprise_store_refused_sessions_total", "OpenSession and Hello refused.").Add({});
  series_->gather_fallbacks =
      &counters("reprise_store_gather_fallbacks_total",
                "Scattered fetches sent piecemeal because no buffer was free.")
           .Add({});
}

StoreMetrics::~StoreMetrics() = default;

CarrierMetrics StoreMetrics::Carrier(std::string_view name) {
  const prometheus::Labels labels{{"carrier", std::string(name)}};
  // A family gives the same series again for the same labels.
  return {&series_->bytes_in->Add(labels), &series_->bytes_out->Add(labels)};
}

void StoreMetrics::CountRequest(size_t method, absl::StatusCode code, Duration took) {
  const MethodMetrics& metrics = series_->methods[method < kMethods ? method : 0];
  const auto index = static_cast<size_t>(code);
  const auto unknown = static_cast<size_t>(absl::StatusCode::kUnknown);
  metrics.requests[index < kStatusCodes ? index : unknown]->Increment();
  metrics.seconds->Observe(Seconds(took));
}

void StoreMetrics::CountQueueDelay(WorkClass work_class, Duration delay) {
  series_->queue_delays[static_cast<size_t>(work_class)]->Observe(Seconds(delay));
  if (work_class != WorkClass::kFetch) return;
  // An exponential mean over about eight requests; a lost update between threads costs nothing.
  constexpr int64_t kCap = 1'000'000'000;
  const int64_t us =
      std::min(kCap, std::chrono::duration_cast<std::chrono::microseconds>(delay).count());
  const int64_t mean = recent_fetch_delay_us_.load(std::memory_order_relaxed);
  recent_fetch_delay_us_.store(static_cast<uint32_t>(std::max<int64_t>(0, mean + (us - mean) / 8)),
                               std::memory_order_relaxed);
}

std::chrono::microseconds StoreMetrics::recent_queue_delay() const {
  return std::chrono::microseconds(recent_fetch_delay_us_.load(std::memory_order_relaxed));
}

void StoreMetrics::CountLookup(size_t hits, size_t misses) {
  series_->lookup_hits->Increment(static_cast<double>(hits));
  series_->lookup_misses->Increment(static_cast<double>(misses));
}

void StoreMetrics::CountFetch(size_t pieces, size_t misses) {
  series_->fetch_hits->Increment(static_cast<double>(pieces));
  series_->fetch_misses->Increment(static_cast<double>(misses));
}

void StoreMetrics::CountPublish(storage::CommitOutcome outcome, uint64_t bytes) {
  if (outcome == storage::CommitOutcome::kStored) {
    series_->publish_stored->Increment();
    series_->stored_bytes->Increment(static_cast<double>(bytes));
  } else {
    series_->publish_already_held->Increment();
  }
}

void StoreMetrics::CountPublishRejected() { series_->publish_rejected->Increment(); }
void StoreMetrics::CountCorruptPiece() { series_->corrupt_pieces->Increment(); }
void StoreMetrics::CountRefused() { series_->refused->Increment(); }
void StoreMetrics::CountSessionRefused() { series_->sessions_refused->Increment(); }
void StoreMetrics::CountGatherFallback() { series_->gather_fallbacks->Increment(); }

std::string StoreMetrics::Render(const LiveFigures& live) const {
  std::vector<MetricFamily> families = registry_->Collect();
  for (MetricFamily& family : LiveFamilies(live)) families.push_back(std::move(family));
  return prometheus::TextSerializer().Serialize(families);
}

}  // namespace reprise::store
