#include "services/store/store_process.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>

#include <algorithm>
#include <random>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include <stdio.h>
#include <time.h>

#include "common/host_port.h"
#include "common/log.h"
#include "proto/methods.h"
#include "proto/reprise.pb.h"
#include "services/store/listen_check.h"
#include "services/store/version.h"
#include "storage/tiering/tiering_policy.h"
#include "transport/grpc/grpc_server.h"
#include "transport/ucx/ucx_transport.h"

namespace reprise::store {
namespace {

constexpr size_t kMaxHandlerThreads = 8;

storage::PolicyFactory MakeTiering(const storage::TieringOptions& options) {
  return [options](size_t max_pieces) {
    return std::make_unique<storage::TieringPolicy>(max_pieces, options);
  };
}

bool IsLoopback(std::string_view host) {
  return host == "localhost" || host == "::1" || host.starts_with("127.");
}

// The address as clients are told it: without a host when it listens on all of them.
std::string Advertised(const std::string& address) {
  const absl::StatusOr<HostPort> bound = ParseHostPort(address, "the data address");
  if (!bound.ok() || !IsWildcard(bound->host)) return address;
  return absl::StrCat(":", bound->port);
}

// Where the data path is to listen, or "off". Without a word about it that is the host of --listen,
// unless UCX cannot use that one.
absl::StatusOr<std::string> DataAddress(const StoreConfig& config) {
  if (config.data == kOff) return config.data;
  if (!config.data.empty()) {
    REPRISE_RETURN_IF_ERROR(ParseHostPort(config.data, "the data address").status());
    return config.data;
  }
  REPRISE_ASSIGN_OR_RETURN(HostPort address, ParseHostPort(config.listen, "the listen address"));
  if (IsIpv6(address.host)) return std::string(kOff);
  address.port = 0;
  return FormatHostPort(address);
}

std::string_view PageKindName(PageKind kind) {
  switch (kind) {
    case PageKind::kHugeReserved:
      return "huge-reserved";
    case PageKind::kHugeTransparent:
      return "huge-transparent";
    case PageKind::kSmall:
      return "small";
  }
  return "unknown";
}

StoreServiceOptions ServiceOptions(const StoreConfig& config, const MemoryPlan& memory) {
  const size_t cores = std::max(1u, std::thread::hardware_concurrency());
  StoreServiceOptions options;
  options.tenants = config.tenants;
  options.software = std::string(SoftwareVersion());
  options.fetch_threads = std::clamp<size_t>(cores, 2, kMaxHandlerThreads);
  options.threads = 2 * options.fetch_threads;
  options.gather_bytes = memory.gather_bytes;
  return options;
}

void WarnIfOpen(const StoreConfig& config) {
  const absl::StatusOr<HostPort> listen = ParseHostPort(config.listen, "the listen address");
  if (!config.tenants.empty() || (listen.ok() && IsLoopback(listen->host))) return;
  LogWarning("anyone who can reach this store may use it: no tenants are configured",
             {{"listen", config.listen}});
}

}  // namespace

absl::StatusOr<std::unique_ptr<StoreProcess>> StoreProcess::Create(const StoreConfig& config) {
  REPRISE_RETURN_IF_ERROR(CheckAddresses(config));
  const uint64_t physical = PhysicalMemoryBytes();
  const bool has_disk = !config.disk.empty();
  if (has_disk != config.disk_bytes.has_value()) {
    return absl::InvalidArgumentError(
        has_disk ? "a disk without its size: give --disk-size, or disk_size in the file"
                 : "a size of a disk without the disk: give --disk, or disk in the file");
  }
  REPRISE_ASSIGN_OR_RETURN(
      const MemoryPlan memory,
      PlanMemory(config.memory_bytes.value_or(DefaultMemoryBytes(physical, has_disk)), physical,
                 has_disk));

  std::unique_ptr<StoreProcess> self(new StoreProcess(memory));
  REPRISE_RETURN_IF_ERROR(self->OpenPieces(config));
  REPRISE_ASSIGN_OR_RETURN(self->service_,
                           StoreService::Create(*self->pieces_, ServiceOptions(config, memory)));
  REPRISE_ASSIGN_OR_RETURN(const std::string data, DataAddress(config));
  if (data != kOff) {
    REPRISE_RETURN_IF_ERROR(self->StartData(data, config.same_host));
  }
  if (config.metrics != kOff) {
    REPRISE_ASSIGN_OR_RETURN(
        self->metrics_, MetricsServer::Create(config.metrics, [service = self->service_.get()] {
          return service->RenderMetrics();
        }));
  }
  REPRISE_RETURN_IF_ERROR(self->StartGrpc(config));
  if (self->metrics_ != nullptr) self->metrics_->set_ready(true);
  return self;
}

absl::Status StoreProcess::OpenPieces(const StoreConfig& config) {
  std::random_device random;
  storage::TieringOptions tiering;
  tiering.name_seed = uint64_t{random()} << 32 | random();
  tiering.floor = config.floor;
  tiering.next_tier_bytes = config.disk_bytes.value_or(0);
  const storage::HostStoreOptions host{.budget_bytes = memory_.pieces_bytes,
                                       .make_policy = MakeTiering(tiering)};
  if (config.disk.empty()) {
    REPRISE_ASSIGN_OR_RETURN(std::unique_ptr<storage::HostStore> store,
                             storage::HostStore::Create(host));
    host_ = store.get();
    pieces_ = std::move(store);
    return absl::OkStatus();
  }
  storage::NvmeOptions nvme;
  nvme.directory = config.disk;
  nvme.budget_bytes = *config.disk_bytes;
  nvme.memory_bytes = memory_.disk_bytes;
  nvme.floor = tiering.floor;
  tiering.next_tier_bytes = 0;
  tiering.below_another_tier = true;
  nvme.make_policy = MakeTiering(tiering);
  REPRISE_ASSIGN_OR_RETURN(std::unique_ptr<storage::TieredStore> store,
                           storage::TieredStore::Create({.host = host, .nvme = nvme}));
  host_ = &store->host();
  tiered_ = store.get();
  pieces_ = std::move(store);
  return absl::OkStatus();
}

absl::Status StoreProcess::StartData(const std::string& address, bool same_host) {
  absl::StatusOr<std::unique_ptr<transport::UcxServer>> server =
      transport::UcxServer::Create({.listen = address,
                                    .service = &service_->Face("ucx"),
                                    .receive_bytes = static_cast<size_t>(memory_.ucx_receive_bytes),
                                    .same_host = same_host});
  if (!server.ok()) return Annotate(server.status(), "data path");
  if (same_host) service_->set_same_host((*server)->same_host_bytes());
  ucx_ = *std::move(server);
  REPRISE_ASSIGN_OR_RETURN(arena_registration_, ucx_->RegisterMemory(host_->arena()));
  REPRISE_ASSIGN_OR_RETURN(gather_registration_,
                           ucx_->RegisterMemory(service_->gather_pool().memory()));
  service_->set_data_address(Advertised(ucx_->address()));
  return absl::OkStatus();
}

absl::Status StoreProcess::StartGrpc(const StoreConfig& config) {
  // Half of the share: calls without a session, and the copies of what was just read, take the
  // rest.
  REPRISE_ASSIGN_OR_RETURN(
      grpc_, transport::GrpcServer::Create(
                 {.listen = config.listen,
                  .paths = GrpcPaths(),
                  .hello_method = v1::HELLO,
                  .max_received_bytes = static_cast<size_t>(memory_.grpc_receive_bytes / 2)},
                 service_->Face("grpc")));
  return absl::OkStatus();
}

StoreProcess::StoreProcess(const MemoryPlan& memory) : memory_(memory) {}

StoreProcess::~StoreProcess() {
  StopServing();
  metrics_.reset();
}

void StoreProcess::StopServing() {
  if (metrics_ != nullptr) metrics_->set_ready(false);
  grpc_.reset();
  // A registration must not outlive its carrier, nor the carrier what it sends from.
  arena_registration_.reset();
  gather_registration_.reset();
  ucx_.reset();
}

void StoreProcess::SaveToDisk(absl::FunctionRef<bool(std::chrono::milliseconds)> interrupted) {
  if (tiered_ == nullptr) return;
  constexpr std::chrono::milliseconds kPoll{20};
  const Clock& clock = Clock::Steady();
  const Deadline deadline = Deadline::After(kSaveLimit);
  const auto log = [this, before = *tiered_->usage().disk](std::string_view what) {
    const storage::DiskUsage now = *tiered_->usage().disk;
    LogInfo(what, {{"pieces", now.demoted_pieces - before.demoted_pieces},
                   {"bytes", now.demoted_bytes - before.demoted_bytes}});
  };
  tiered_->BeginSaving();
  TimePoint logged = clock.Now();
  while (tiered_->saving()) {
    if (deadline.PassedAt(clock.Now()) || interrupted(kPoll)) {
      return log("saved a part of memory to the disk");
    }
    if (clock.Now() - logged < std::chrono::seconds(1)) continue;
    logged = clock.Now();
    log("saving memory to the disk");
  }
  log("saved memory to the disk");
}

void StoreProcess::Sweep() {
  service_->Sweep();
  if (tiered_ != nullptr) tiered_->Sweep();
}

std::string StoreProcess::listen_address() const { return grpc_->address(); }
std::string StoreProcess::data_address() const {
  return ucx_ != nullptr ? ucx_->address() : std::string(kOff);
}
std::string StoreProcess::metrics_address() const {
  return metrics_ != nullptr ? metrics_->address() : std::string(kOff);
}

absl::Status RunStore(const StoreConfig& config) {
  // A start that fails says so in one line, which is the status; what libraries log about it would
  // repeat it.
  SetLogLevel(config.log_level == LogLevel::kDebug ? LogLevel::kDebug : LogLevel::kOff);
  // Blocked here, and so in every thread that starts below: only the wait at the end sees them.
  sigset_t stop;
  sigemptyset(&stop);
  sigaddset(&stop, SIGTERM);
  sigaddset(&stop, SIGINT);
  pthread_sigmask(SIG_BLOCK, &stop, nullptr);
  signal(SIGPIPE, SIG_IGN);

  REPRISE_ASSIGN_OR_RETURN(std::unique_ptr<StoreProcess> store, StoreProcess::Create(config));
  SetLogLevel(config.log_level);
  WarnIfOpen(config);
  if (config.data.empty() && store->data_address() == kOff) {
    LogInfo("no UCX data path: it needs IPv4, and --listen names an IPv6 address; give --data one",
            {{"listen", config.listen}});
  }
  LogInfo("store ready", {{"version", SoftwareVersion()},
                          {"grpc", store->listen_address()},
                          {"data", store->data_address()},
                          {"metrics", store->metrics_address()},
                          {"memory_bytes", store->memory().total_bytes},
                          {"pieces_bytes", store->memory().pieces_bytes},
                          {"pages", PageKindName(store->page_kind())},
                          {"disk", config.disk.empty() ? std::string(kOff) : config.disk}});
  printf("ready grpc=%s data=%s metrics=%s\n", store->listen_address().c_str(),
         store->data_address().c_str(), store->metrics_address().c_str());
  fflush(stdout);

  // The signal that came within that time, or 0 or less.
  const auto wait = [&stop](std::chrono::milliseconds most) {
    const timespec time{.tv_sec = most.count() / 1000, .tv_nsec = most.count() % 1000 * 1'000'000};
    return sigtimedwait(&stop, nullptr, &time);
  };
  while (true) {
    const int got = wait(std::chrono::seconds(1));
    if (got > 0) {
      LogInfo("store stopping", {{"signal", got == SIGTERM ? "SIGTERM" : "SIGINT"}});
      break;
    }
    store->Sweep();
  }
  store->StopServing();
  store->SaveToDisk([&](std::chrono::milliseconds most) { return wait(most) > 0; });
  store.reset();
  LogInfo("store stopped");
  return absl::OkStatus();
}

}  // namespace reprise::store
