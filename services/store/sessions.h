// Who may talk to this store: tenants, the tokens they were given, and the sessions bound to
// endpoints.
//
// OpenSession proves a tenant and yields a random 128-bit token; the first Hello that presents it
// binds the session to its endpoint, once. A token that is not presented in time is forgotten.
// Everything is bounded, in all and per tenant, so that one tenant cannot keep another out.
// Thread-safe, never blocks.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/any_invocable.h"

#include "common/clock.h"
#include "common/mutex.h"
#include "common/status.h"
#include "proto/methods.h"
#include "services/store/metrics.h"
#include "services/store/send_window.h"
#include "services/store/store_config.h"
#include "services/store/uploads.h"
#include "storage/piece_store.h"
#include "transport/transport.h"

namespace reprise::store {

inline constexpr size_t kTokenBytes = 16;

struct SessionLimits {
  size_t max_sessions = 4096;  // unbound tokens included
  size_t max_sessions_per_tenant = 1024;
  Duration unbound = std::chrono::seconds(30);
  // Requests being worked on, and the bytes of their messages, for one session.
  size_t max_requests = 256;
  size_t max_request_bytes = 8 * kMiB;
  UploadLimits uploads = {};
};

// One client on one endpoint.
class StoreSession final : public transport::Session {
 public:
  // `place` is the table's own way to find the tenant.
  StoreSession(storage::TenantId tenant, size_t place, std::string tenant_name,
               const SessionLimits& limits, const CarrierMetrics& carrier)
      : tenant_(tenant),
        place_(place),
        tenant_name_(std::move(tenant_name)),
        limits_(limits),
        carrier_(carrier),
        uploads_(limits.uploads) {}

  storage::TenantId tenant() const { return tenant_; }
  const std::string& tenant_name() const { return tenant_name_; }
  const CarrierMetrics& carrier() const { return carrier_; }
  UploadTable& uploads() { return uploads_; }
  const std::shared_ptr<SendWindow>& send_window() const { return send_window_; }

  // Room for one more request of `bytes`; false when the session has too much under way. Paired
  // with Leave.
  [[nodiscard]] bool Enter(size_t bytes);
  void Leave(size_t bytes);

 private:
  friend class SessionTable;

  const storage::TenantId tenant_;
  const size_t place_;
  const std::string tenant_name_;
  const SessionLimits limits_;
  const CarrierMetrics carrier_;
  UploadTable uploads_;
  const std::shared_ptr<SendWindow> send_window_ = std::make_shared<SendWindow>();
  std::atomic<size_t> requests_{0};
  std::atomic<size_t> request_bytes_{0};
};

// Fills the span with bytes that nobody can guess.
using RandomSource = absl::AnyInvocable<absl::Status(MutableByteSpan) const>;
// getrandom(2).
RandomSource SystemRandom();

using Token = std::array<std::byte, kTokenBytes>;

class SessionTable {
 public:
  // An empty `tenants` means one, "default", with an empty credential. `numbers` are theirs, in the
  // same order; empty: 1, 2, ...
  SessionTable(const std::vector<TenantConfig>& tenants, SessionLimits limits, const Clock& clock,
               RandomSource random, std::vector<storage::TenantId> numbers = {});

  // PERMISSION_DENIED for an unknown tenant and for a wrong credential alike, in the same time;
  // RESOURCE_EXHAUSTED when too many sessions are open.
  absl::StatusOr<Token> Open(std::string_view tenant, std::string_view credential)
      ABSL_LOCKS_EXCLUDED(mutex_);

  // UNAUTHENTICATED for a token that is unknown, expired or bound already; INVALID_ARGUMENT or
  // UNIMPLEMENTED when the versions make no sense or do not meet ours.
  absl::StatusOr<std::shared_ptr<StoreSession>> Bind(std::string_view token, VersionRange versions,
                                                     const CarrierMetrics& carrier)
      ABSL_LOCKS_EXCLUDED(mutex_);

  // The session's endpoint is gone: forgets it and drops its uploads.
  void Lost(const std::shared_ptr<StoreSession>& session) ABSL_LOCKS_EXCLUDED(mutex_);

  // Forgets expired tokens and idle uploads. Called about once a second.
  void Sweep() ABSL_LOCKS_EXCLUDED(mutex_);

  // Sessions bound to an endpoint now.
  size_t bound() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  struct Tenant {
    std::string name;
    storage::TenantId number = 0;
    Digest credential;  // hashed, so that comparing takes the same time whatever its length
    size_t sessions = 0;
  };
  struct Unbound {
    size_t tenant = 0;  // index into tenants_
    TimePoint expires;
  };

  void DropExpired(TimePoint now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const SessionLimits limits_;
  const Clock& clock_;
  const RandomSource random_;
  mutable Mutex mutex_;
  std::vector<Tenant> tenants_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_map<std::string, size_t> tenant_index_;
  absl::flat_hash_map<std::string, Unbound> unbound_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_map<const StoreSession*, std::shared_ptr<StoreSession>> bound_
      ABSL_GUARDED_BY(mutex_);
};

}  // namespace reprise::store
