#include "transport/grpc/grpc_sessions.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace reprise::transport {

absl::StatusOr<std::shared_ptr<GrpcSession>> GrpcSessions::Acquire(const std::string& peer,
                                                                   std::string_view hello) {
  // A peer's name has no NUL byte.
  std::string key = peer;
  key.push_back('\0');
  key.append(hello);
  MutexLock lock(mutex_);
  auto found = sessions_.find(key);
  if (found == sessions_.end()) {
    if (sessions_.size() >= kMaxGrpcSessions) {
      return absl::ResourceExhaustedError(
          absl::StrCat("the server has ", sessions_.size(), " sessions; try again later"));
    }
    REPRISE_ASSIGN_OR_RETURN(HelloReply reply, service_.Hello(hello, peer));
    auto session = std::make_shared<GrpcSession>();
    session->key = key;
    session->reply = std::move(reply);
    found = sessions_.emplace(std::move(key), std::move(session)).first;
  }
  ++found->second->uses;
  return found->second;
}

void GrpcSessions::Release(const std::shared_ptr<GrpcSession>& session) {
  MutexLock lock(mutex_);
  --session->uses;
  session->idle_since = clock_.Now();
}

void GrpcSessions::Lose(const std::shared_ptr<GrpcSession>& session) {
  {
    MutexLock lock(mutex_);
    if (std::exchange(session->lost, true)) return;
    sessions_.erase(session->key);
  }
  service_.SessionLost(session->reply.session);
}

void GrpcSessions::LoseIdle() {
  std::vector<std::shared_ptr<GrpcSession>> idle;
  {
    MutexLock lock(mutex_);
    const TimePoint now = clock_.Now();
    for (const auto& [key, session] : sessions_) {
      if (session->uses == 0 && now - session->idle_since >= idle_) idle.push_back(session);
    }
  }
  for (const std::shared_ptr<GrpcSession>& session : idle) {
    {
      MutexLock lock(mutex_);
      // A call may have come in between.
      if (session->uses > 0 || std::exchange(session->lost, true)) continue;
      sessions_.erase(session->key);
    }
    service_.SessionLost(session->reply.session);
  }
}

void GrpcSessions::LoseAll() {
  absl::flat_hash_map<std::string, std::shared_ptr<GrpcSession>> sessions;
  {
    MutexLock lock(mutex_);
    sessions = sessions_;
  }
  for (const auto& [key, session] : sessions) Lose(session);
}

}  // namespace reprise::transport
