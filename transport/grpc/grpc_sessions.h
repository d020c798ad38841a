// Which session a call on a connection belongs to. Internal to the gRPC carrier's server.
//
// gRPC does not say when a connection ends. So a session lives as long as a call that holds it, or,
// for clients that make none, until it has been idle for a while. Thread-safe. The service's Hello
// runs under the lock, because it must run once for one (connection, hello); it may not block, and
// may not call back into the server.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"

#include "common/clock.h"
#include "common/mutex.h"
#include "common/status.h"
#include "transport/transport.h"

namespace reprise::transport {

// Sessions of one server at once.
inline constexpr size_t kMaxGrpcSessions = 16'384;

struct GrpcSession {
  std::string key;
  HelloReply reply;
  // Guarded by the lock of GrpcSessions.
  int uses = 0;
  bool lost = false;
  TimePoint idle_since;
};

class GrpcSessions {
 public:
  GrpcSessions(Service& service, const Clock& clock, Duration idle)
      : service_(service), clock_(clock), idle_(idle) {}

  // The session of `hello` on the connection `peer`, in use until Release. The service's status
  // when it refuses the hello; RESOURCE_EXHAUSTED with kMaxGrpcSessions.
  absl::StatusOr<std::shared_ptr<GrpcSession>> Acquire(const std::string& peer,
                                                       std::string_view hello)
      ABSL_LOCKS_EXCLUDED(mutex_);
  void Release(const std::shared_ptr<GrpcSession>& session) ABSL_LOCKS_EXCLUDED(mutex_);

  // Forgets the session and tells the service, unless that was done.
  void Lose(const std::shared_ptr<GrpcSession>& session) ABSL_LOCKS_EXCLUDED(mutex_);
  // Loses those that nobody uses and that were idle for too long; all of them.
  void LoseIdle() ABSL_LOCKS_EXCLUDED(mutex_);
  void LoseAll() ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  Service& service_;
  const Clock& clock_;
  const Duration idle_;
  Mutex mutex_;
  absl::flat_hash_map<std::string, std::shared_ptr<GrpcSession>> sessions_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace reprise::transport
