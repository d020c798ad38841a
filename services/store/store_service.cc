#include "services/store/store_service.h"

#include <array>
#include <chrono>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"

#include "common/log.h"
#include "proto/methods.h"
#include "proto/reprise.pb.h"
#include "services/store/handlers.h"

namespace reprise::store {
namespace {

// How long an end waits for calls that a disk is still at work for.
constexpr std::chrono::seconds kMaxEnding{10};

struct Route {
  void (*handler)(StoreContext&, const CallPtr&) = nullptr;
  std::optional<WorkClass> work_class = {};  // nullopt: at once, on the carrier's thread
};

// By Method number; Hello never comes as a request.
constexpr std::array<Route, kMethods> kRoutes{{
    {},
    {HandleOpenSession, std::nullopt},
    {},
    {HandleLookup, WorkClass::kFetch},
    {HandlePublish, WorkClass::kPublish},
    {HandleFetch, WorkClass::kFetch},
    {HandleStat, WorkClass::kFetch},
    {HandleList, WorkClass::kBackground},
    {HandleRemove, WorkClass::kBackground},
    {HandlePin, WorkClass::kBackground},
    {HandleWarm, WorkClass::kBackground},
}};
static_assert(v1::OPEN_SESSION == 1 && v1::LOOKUP == 3 && v1::PUBLISH == 4 && v1::FETCH == 5 &&
              v1::STAT == 6 && v1::LIST == 7 && v1::REMOVE == 8 && v1::PIN == 9 && v1::WARM == 10 &&
              v1::Method_MAX == 10);

absl::Status CheckRoute(const transport::Request& request) {
  if (request.method >= kMethods || kRoutes[request.method].handler == nullptr) {
    return absl::UnimplementedError(absl::StrCat("this store knows no method ", request.method));
  }
  const bool opens = request.method == v1::OPEN_SESSION;
  if (request.session == nullptr && !opens) {
    return absl::UnauthenticatedError("no session is bound to this endpoint; open one first");
  }
  // Endpoints with a session are data paths, and those of UCX have one from the start: sessions are
  // opened on gRPC only (DESIGN section 6).
  if (request.session != nullptr && opens) {
    return absl::FailedPreconditionError(
        "a session is bound to this endpoint already; open others on a connection of their own");
  }
  return absl::OkStatus();
}

}  // namespace

class StoreService::CarrierFace final : public transport::Service {
 public:
  CarrierFace(StoreContext& context, std::string_view name)
      : context_(context), name_(name), carrier_(context.metrics.Carrier(name)) {}

  const std::string& name() const { return name_; }

  absl::StatusOr<transport::HelloReply> Hello(std::string_view message,
                                              std::string_view endpoint) override {
    v1::HelloRequest request;
    if (message.size() > kMaxRequestBytes ||
        !request.ParseFromArray(message.data(), static_cast<int>(message.size()))) {
      context_.metrics.CountSessionRefused();
      return absl::InvalidArgumentError("the Hello message cannot be parsed");
    }
    const VersionRange versions{request.lowest_version(), request.highest_version()};
    absl::StatusOr<std::shared_ptr<StoreSession>> session =
        context_.sessions.Bind(request.token(), versions, carrier_);
    if (!session.ok()) {
      context_.metrics.CountSessionRefused();
      return session.status();
    }
    LogDebug("session bound",
             {{"tenant", (*session)->tenant_name()}, {"carrier", name_}, {"endpoint", endpoint}});
    v1::HelloReply reply;
    reply.set_version(*HighestCommonVersion(kProtocolVersions, versions));
    return transport::HelloReply{*std::move(session), reply.SerializeAsString()};
  }

  void Handle(transport::Request request,
              std::unique_ptr<transport::Responder> responder) override {
    absl::Status known = CheckRoute(request);
    const size_t method = request.method;
    const auto call =
        std::make_shared<StoreCall>(context_, std::move(request), std::move(responder), carrier_);
    if (!known.ok()) return call->Fail(std::move(known));
    absl::Status admitted = call->Admit();
    if (!admitted.ok()) return call->Fail(std::move(admitted));
    const Route& route = kRoutes[method];
    if (!route.work_class.has_value()) return route.handler(context_, call);
    if (!context_.executor.TryRun(*route.work_class, call->session_name(),
                                  kSmallWorkBytes + call->bulk().size(),
                                  [&context = context_, &route, call] {
                                    if (call->Begin(*route.work_class)) {
                                      route.handler(context, call);
                                    }
                                  })) {
      context_.metrics.CountRefused();
      call->Fail(
          absl::ResourceExhaustedError("the store has too many requests waiting; try again later"));
    }
  }

  void SessionLost(const std::shared_ptr<transport::Session>& session) override {
    context_.sessions.Lost(std::static_pointer_cast<StoreSession>(session));
  }

 private:
  StoreContext& context_;
  const std::string name_;
  const CarrierMetrics carrier_;
};

StoreService::StoreService(storage::PieceStore& pieces, StoreServiceOptions options,
                           std::vector<storage::TenantId> tenants,
                           std::shared_ptr<GatherPool> gather, RandomSource random,
                           const Clock& clock)
    : sessions_(options.tenants, options.sessions, clock, std::move(random), std::move(tenants)),
      context_{.pieces = pieces,
               .sessions = sessions_,
               .metrics = metrics_,
               .gather = std::move(gather),
               .clock = clock,
               .executor = executor_,
               .software = std::move(options.software),
               .memory_bytes = pieces.usage().bytes_budget},
      executor_("store-work", options.threads, options.fetch_threads, options.queue_limit) {}

absl::StatusOr<std::unique_ptr<StoreService>> StoreService::Create(storage::PieceStore& pieces,
                                                                   StoreServiceOptions options,
                                                                   RandomSource random,
                                                                   const Clock& clock) {
  REPRISE_ASSIGN_OR_RETURN(std::shared_ptr<GatherPool> gather,
                           GatherPool::Create(options.gather_bytes));
  std::vector<storage::TenantId> tenants;
  if (options.tenants.empty()) {
    REPRISE_ASSIGN_OR_RETURN(tenants.emplace_back(), pieces.TenantFor(kDefaultTenant));
  }
  const bool has_disk = pieces.usage().disk.has_value();
  for (const TenantConfig& tenant : options.tenants) {
    if (tenant.disk_quota_bytes > 0 && !has_disk) {
      return absl::InvalidArgumentError(absl::StrCat(
          "tenant \"", tenant.name, "\" has a disk_quota, and the store no disk: give --disk"));
    }
    REPRISE_ASSIGN_OR_RETURN(tenants.emplace_back(), pieces.TenantFor(tenant.name));
    pieces.SetQuota(tenants.back(), {.memory_bytes = tenant.memory_quota_bytes,
                                     .disk_bytes = tenant.disk_quota_bytes});
  }
  return std::unique_ptr<StoreService>(new StoreService(
      pieces, std::move(options), std::move(tenants), std::move(gather), std::move(random), clock));
}

StoreService::~StoreService() {
  const TimePoint until = Clock::Steady().Now() + kMaxEnding;
  MutexLock lock(context_.calls_mutex);
  while (context_.calls > 0 && Clock::Steady().Now() < until) {
    context_.calls_gone.wait_for(context_.calls_mutex, until - Clock::Steady().Now());
  }
  if (context_.calls > 0) LogError("calls did not end", {{"calls", context_.calls}});
}

transport::Service& StoreService::Face(std::string_view name) {
  for (const std::unique_ptr<CarrierFace>& face : faces_) {
    if (face->name() == name) return *face;
  }
  return *faces_.emplace_back(std::make_unique<CarrierFace>(context_, name));
}

void StoreService::set_same_host(std::function<uint64_t()> read_bytes) {
  context_.same_host = true;
  same_host_bytes_ = std::move(read_bytes);
}

std::string StoreService::RenderMetrics() const {
  LiveFigures live;
  live.usage = context_.pieces.usage();
  live.sessions = sessions_.bound();
  live.gather_bytes_free = context_.gather->free_bytes();
  if (same_host_bytes_) live.same_host_bytes = same_host_bytes_();
  return metrics_.Render(live);
}

}  // namespace reprise::store
