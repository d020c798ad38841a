// A store for the client's own tests: pieces in a map, one tenant, and ways to misbehave on
// purpose.
//
// Runs over loopback. It keeps what is published without checking it, so that a test can put
// anything under any key; what a store must check is tested with the real one, in
// tests/integration. Thread-safe.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "chunk/keys.h"
#include "client/connector.h"
#include "common/mutex.h"
#include "transport/loopback/loopback.h"
#include "transport/transport.h"

namespace reprise::client {

class FakeStore final : public transport::Service {
 public:
  // Sees each request first; true: it has taken the responder and answers (or does not) itself.
  using Intercept = std::function<bool(const transport::Request& request,
                                       std::unique_ptr<transport::Responder>& responder)>;

  absl::StatusOr<transport::HelloReply> Hello(std::string_view message,
                                              std::string_view endpoint) override;
  void Handle(transport::Request request, std::unique_ptr<transport::Responder> responder) override;
  void SessionLost(const std::shared_ptr<transport::Session>& session) override;

  void set_intercept(Intercept intercept) ABSL_LOCKS_EXCLUDED(mutex_);
  // Largest bulk of one part of a Fetch, whole segments permitting.
  void set_part_bytes(size_t part_bytes) ABSL_LOCKS_EXCLUDED(mutex_);

  // What a Lookup's holds are cut down to.
  void set_max_hold(std::chrono::milliseconds max_hold) ABSL_LOCKS_EXCLUDED(mutex_);

  std::vector<Key> keys() const ABSL_LOCKS_EXCLUDED(mutex_);
  std::vector<std::byte> Container(const Key& key) const ABSL_LOCKS_EXCLUDED(mutex_);
  void Put(const Key& key, std::vector<std::byte> container) ABSL_LOCKS_EXCLUDED(mutex_);
  void Erase(const Key& key) ABSL_LOCKS_EXCLUDED(mutex_);
  // Requests of a method so far; WaitForRequests blocks until there were that many.
  int requests(int method) const ABSL_LOCKS_EXCLUDED(mutex_);
  void WaitForRequests(int method, int count) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  using Handler = absl::Status (FakeStore::*)(const transport::Request&, transport::Responder&);

  absl::Status Lookup(const transport::Request& request, transport::Responder& responder);
  absl::Status Publish(const transport::Request& request, transport::Responder& responder);
  absl::Status Fetch(const transport::Request& request, transport::Responder& responder);
  absl::Status Stat(const transport::Request& request, transport::Responder& responder);
  absl::Status Remove(const transport::Request& request, transport::Responder& responder);

  struct Upload {
    Key key;
    std::vector<std::byte> container;
    uint64_t missing = 0;
  };

  mutable Mutex mutex_;
  CondVar requested_;
  Intercept intercept_ ABSL_GUARDED_BY(mutex_);
  std::chrono::milliseconds max_hold_ ABSL_GUARDED_BY(mutex_){60'000};
  size_t part_bytes_ ABSL_GUARDED_BY(mutex_) = kMaxPartBytes;
  std::map<Key, std::vector<std::byte>> pieces_ ABSL_GUARDED_BY(mutex_);
  std::map<uint64_t, Upload> uploads_ ABSL_GUARDED_BY(mutex_);
  uint64_t next_upload_ ABSL_GUARDED_BY(mutex_) = 1;
  std::map<int, int> requests_ ABSL_GUARDED_BY(mutex_);
};

// Connects to whatever server `server` gives at the time; UNAVAILABLE while that is null.
class LoopbackConnector final : public Connector {
 public:
  using CurrentServer = std::function<transport::LoopbackServer*()>;
  explicit LoopbackConnector(CurrentServer server) : server_(std::move(server)) {}
  absl::StatusOr<std::unique_ptr<transport::Channel>> Open(Deadline deadline) override;

 private:
  const CurrentServer server_;
};

}  // namespace reprise::client
