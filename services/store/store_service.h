// The store as every carrier sees it: sessions, admission, and handing each request to an executor.
//
// One StoreService serves several carriers; each is given its own face (Face), which differs only
// in what it counts under. Thread-safe. The service borrows the piece store and the clock, and must
// outlive every carrier's server: servers wait for the responders that its executors hold.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/clock.h"
#include "common/limits.h"
#include "common/status.h"
#include "services/store/fair_executor.h"
#include "services/store/gather_pool.h"
#include "services/store/metrics.h"
#include "services/store/sessions.h"
#include "services/store/store_call.h"
#include "storage/piece_store.h"
#include "transport/transport.h"

namespace reprise::store {

struct StoreServiceOptions {
  std::vector<TenantConfig> tenants = {};  // empty: "default" without a credential
  SessionLimits sessions = {};
  std::string software = {};
  // For lookups and fetches alone, and for everything.
  size_t fetch_threads = 2;
  size_t threads = 4;
  size_t queue_limit = 4096;
  size_t gather_bytes = 4 * kMaxPartBytes;
};

class StoreService {
 public:
  // `pieces` and `clock` are borrowed. RESOURCE_EXHAUSTED when the gather memory cannot be mapped;
  // errors of PieceStore::TenantFor.
  static absl::StatusOr<std::unique_ptr<StoreService>> Create(storage::PieceStore& pieces,
                                                              StoreServiceOptions options,
                                                              RandomSource random = SystemRandom(),
                                                              const Clock& clock = Clock::Steady());
  ~StoreService();

  // The service for the server of the carrier `name` ("ucx", "grpc" or "loopback"), which counts
  // under that name. Lives as long as this object. Not thread-safe: called before a server starts.
  transport::Service& Face(std::string_view name);

  // What OpenSession tells clients; set before the first session can be opened.
  void set_data_address(std::string address) { context_.data_address = std::move(address); }
  // That the data path lends memory to clients on this host; `read_bytes`, thread-safe, tells how
  // much of it they have read. Set before the first session can be opened or metrics rendered.
  void set_same_host(std::function<uint64_t()> read_bytes);

  // Forgets expired tokens and idle uploads. Called about once a second.
  void Sweep() { sessions_.Sweep(); }

  // Prometheus' exposition format.
  std::string RenderMetrics() const;

  // The buffers that scattered fetches are sent from; their memory is worth registering with
  // carriers.
  GatherPool& gather_pool() const { return *context_.gather; }

 private:
  class CarrierFace;

  StoreService(storage::PieceStore& pieces, StoreServiceOptions options,
               std::vector<storage::TenantId> tenants, std::shared_ptr<GatherPool> gather,
               RandomSource random, const Clock& clock);

  std::function<uint64_t()> same_host_bytes_;
  StoreMetrics metrics_;
  SessionTable sessions_;
  StoreContext context_;
  std::vector<std::unique_ptr<CarrierFace>> faces_;
  // Destroyed before what its tasks use.
  FairExecutor executor_;
};

}  // namespace reprise::store
