#include "services/store/sessions.h"

#include <errno.h>
#include <sys/random.h>

#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include <openssl/crypto.h>

#include "common/sha256.h"
#include "services/store/absl_text.h"

namespace reprise::store {

bool StoreSession::Enter(size_t bytes) {
  if (requests_.fetch_add(1, std::memory_order_relaxed) < limits_.max_requests) {
    const size_t before = request_bytes_.fetch_add(bytes, std::memory_order_relaxed);
    if (before + bytes <= limits_.max_request_bytes) return true;
    request_bytes_.fetch_sub(bytes, std::memory_order_relaxed);
  }
  requests_.fetch_sub(1, std::memory_order_relaxed);
  return false;
}

void StoreSession::Leave(size_t bytes) {
  requests_.fetch_sub(1, std::memory_order_relaxed);
  request_bytes_.fetch_sub(bytes, std::memory_order_relaxed);
}

RandomSource SystemRandom() {
  return [](MutableByteSpan out) -> absl::Status {
    size_t filled = 0;
    while (filled < out.size()) {
      const ssize_t got = getrandom(out.data() + filled, out.size() - filled, 0);
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) {
        return absl::InternalError(absl::StrCat("getrandom failed: ", std::strerror(errno)));
      }
      filled += static_cast<size_t>(got);
    }
    return absl::OkStatus();
  };
}

SessionTable::SessionTable(const std::vector<TenantConfig>& tenants, SessionLimits limits,
                           const Clock& clock, RandomSource random,
                           std::vector<storage::TenantId> numbers)
    : limits_(limits), clock_(clock), random_(std::move(random)) {
  for (const TenantConfig& tenant : tenants) {
    tenants_.push_back({tenant.name, 0, Sha256::Of(AsBytes(tenant.credential))});
  }
  if (tenants.empty()) tenants_.push_back({std::string(kDefaultTenant), 0, Sha256::Of({})});
  for (size_t i = 0; i < tenants_.size(); ++i) {
    tenants_[i].number = numbers.empty() ? static_cast<storage::TenantId>(i + 1) : numbers[i];
    tenant_index_[tenants_[i].name] = i;
  }
}

absl::StatusOr<Token> SessionTable::Open(std::string_view tenant, std::string_view credential) {
  const Digest given = Sha256::Of(AsBytes(credential));
  Token token;
  REPRISE_RETURN_IF_ERROR(random_(token));

  MutexLock lock(mutex_);
  const auto found = tenant_index_.find(ToAbsl(tenant));
  const bool known = found != tenant_index_.end();
  // An unknown tenant is compared with somebody's credential too, to take as long.
  const size_t index = known ? found->second : 0;
  const bool matches = CRYPTO_memcmp(given.bytes.data(), tenants_[index].credential.bytes.data(),
                                     given.bytes.size()) == 0;
  if (!known || !matches) {
    return absl::PermissionDeniedError("unknown tenant or wrong credential");
  }

  const TimePoint now = clock_.Now();
  DropExpired(now);
  Tenant& owner = tenants_[index];
  if (owner.sessions >= limits_.max_sessions_per_tenant) {
    return absl::ResourceExhaustedError(
        absl::StrCat("tenant \"", owner.name, "\" has ", owner.sessions,
                     " sessions open, which is the limit; close some or try again later"));
  }
  if (unbound_.size() + bound_.size() >= limits_.max_sessions) {
    return absl::ResourceExhaustedError(
        absl::StrCat("the store has ", limits_.max_sessions,
                     " sessions open, which is the limit; try again later"));
  }
  ++owner.sessions;
  unbound_.insert_or_assign(std::string(AsText(token)), Unbound{index, now + limits_.unbound});
  return token;
}

absl::StatusOr<std::shared_ptr<StoreSession>> SessionTable::Bind(std::string_view token,
                                                                 VersionRange versions,
                                                                 const CarrierMetrics& carrier) {
  if (versions.lowest > versions.highest) {
    return absl::InvalidArgumentError(absl::StrCat("Hello names versions ", versions.lowest, " to ",
                                                   versions.highest, ", which is no range"));
  }
  if (!HighestCommonVersion(kProtocolVersions, versions).has_value()) {
    return absl::UnimplementedError(
        absl::StrCat("the client speaks protocol versions ", versions.lowest, " to ",
                     versions.highest, ", this store ", kProtocolVersions.lowest, " to ",
                     kProtocolVersions.highest, "; update the older one"));
  }
  MutexLock lock(mutex_);
  DropExpired(clock_.Now());
  const auto found = unbound_.find(ToAbsl(token));
  if (found == unbound_.end()) {
    return absl::UnauthenticatedError(
        "the session token is unknown, expired or in use already; open a new session");
  }
  const size_t tenant = found->second.tenant;
  unbound_.erase(found);
  auto session = std::make_shared<StoreSession>(tenants_[tenant].number, tenant,
                                                tenants_[tenant].name, limits_, carrier);
  bound_.emplace(session.get(), session);
  return session;
}

void SessionTable::Lost(const std::shared_ptr<StoreSession>& session) {
  {
    MutexLock lock(mutex_);
    if (bound_.erase(session.get()) == 0) return;
    --tenants_[session->place_].sessions;
  }
  session->uploads().Close();
}

void SessionTable::Sweep() {
  const TimePoint now = clock_.Now();
  std::vector<std::shared_ptr<StoreSession>> sessions;
  {
    MutexLock lock(mutex_);
    DropExpired(now);
    sessions.reserve(bound_.size());
    for (const auto& [raw, session] : bound_) sessions.push_back(session);
  }
  for (const std::shared_ptr<StoreSession>& session : sessions) session->uploads().DropIdle(now);
}

size_t SessionTable::bound() const {
  MutexLock lock(mutex_);
  return bound_.size();
}

void SessionTable::DropExpired(TimePoint now) {
  for (auto entry = unbound_.begin(); entry != unbound_.end();) {
    if (now < entry->second.expires) {
      ++entry;
      continue;
    }
    --tenants_[entry->second.tenant].sessions;
    unbound_.erase(entry++);
  }
}

}  // namespace reprise::store
