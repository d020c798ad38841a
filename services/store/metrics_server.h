// Metrics and health over HTTP: GET /metrics, /healthz (the process answers) and /readyz (it takes
// requests).
//
// Thread-safe. Runs threads of its own and never touches the data path.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>

#include "common/status.h"

namespace reprise::store {

class MetricsServer {
 public:
  // Listens on `address` ("host:port", port 0 for any). `render` is called, perhaps concurrently,
  // for each scrape and must stay callable until this object is gone. INVALID_ARGUMENT for a
  // malformed address, UNAVAILABLE when it cannot be bound, with the reason.
  static absl::StatusOr<std::unique_ptr<MetricsServer>> Create(const std::string& address,
                                                               std::function<std::string()> render);
  // Answers what is under way, then stops; a connection that idles may take up to a second.
  ~MetricsServer();
  MetricsServer(const MetricsServer&) = delete;
  MetricsServer& operator=(const MetricsServer&) = delete;

  // "host:port" as bound.
  const std::string& address() const { return address_; }
  // /readyz answers 503 until this is true. False at first.
  void set_ready(bool ready) { ready_.store(ready); }

 private:
  struct Http;
  MetricsServer();

  std::unique_ptr<Http> http_;
  std::string address_;
  std::atomic<bool> ready_{false};
};

}  // namespace reprise::store
