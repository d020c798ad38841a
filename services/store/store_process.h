// A whole store: tiers, service, both carriers and the metrics port, wired together.
//
// `reprise store` runs one (RunStore); tests may run several in one process. Not thread-safe: the
// thread that creates it sweeps and destroys it.
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "absl/functional/function_ref.h"

#include "common/status.h"
#include "services/store/memory_plan.h"
#include "services/store/metrics_server.h"
#include "services/store/store_config.h"
#include "services/store/store_service.h"
#include "storage/host/host_store.h"
#include "storage/piece_store.h"
#include "storage/tiered_store.h"
#include "transport/transport.h"

namespace reprise::store {

class StoreProcess {
 public:
  // Takes requests when it returns. INVALID_ARGUMENT for a bad address, memory size or disk,
  // UNAVAILABLE when an address cannot be listened on, RESOURCE_EXHAUSTED when memory is refused,
  // and what NvmeTier::Open says; the message is one line.
  static absl::StatusOr<std::unique_ptr<StoreProcess>> Create(const StoreConfig& config);
  // StopServing, if that was not called, and finishes the writes that have begun.
  ~StoreProcess();
  StoreProcess(const StoreProcess&) = delete;
  StoreProcess& operator=(const StoreProcess&) = delete;

  // To be called about once a second.
  void Sweep();

  // Ends every call with UNAVAILABLE and takes no more; takes about a second at most.
  void StopServing();
  // What a planned end may take for SaveToDisk.
  static constexpr std::chrono::seconds kSaveLimit{20};
  // After StopServing: writes to the disk, if there is one, what only memory has and is worth it,
  // the most valuable first, for kSaveLimit at most and until `interrupted`, which waits for the
  // time it is given, returns true. Logs how far it is once a second.
  void SaveToDisk(absl::FunctionRef<bool(std::chrono::milliseconds)> interrupted);

  // "host:port" as bound; "off" for what is switched off.
  std::string listen_address() const;
  std::string data_address() const;
  std::string metrics_address() const;
  const MemoryPlan& memory() const { return memory_; }
  // What the arena got; small pages when the machine gives no huge ones.
  PageKind page_kind() const { return host_->page_kind(); }

 private:
  explicit StoreProcess(const MemoryPlan& memory);

  absl::Status OpenPieces(const StoreConfig& config);
  absl::Status StartData(const std::string& address, bool same_host);
  absl::Status StartGrpc(const StoreConfig& config);

  const MemoryPlan memory_;
  // Destroyed from the bottom: carriers first, then what they call and send from.
  std::unique_ptr<storage::PieceStore> pieces_;
  const storage::HostStore* host_ = nullptr;  // pieces_, or its memory
  storage::TieredStore* tiered_ = nullptr;    // pieces_, or null without a disk
  std::unique_ptr<StoreService> service_;
  std::unique_ptr<MetricsServer> metrics_;
  std::unique_ptr<transport::Server> ucx_;
  std::unique_ptr<transport::Registration> arena_registration_;
  std::unique_ptr<transport::Registration> gather_registration_;
  std::unique_ptr<transport::Server> grpc_;
};

// Runs a store until SIGTERM or SIGINT and returns OK then. Prints `ready grpc=HOST:PORT
// data=HOST:PORT metrics=HOST:PORT` to standard output once it takes requests. Call it before the
// process has other threads.
absl::Status RunStore(const StoreConfig& config);

}  // namespace reprise::store
