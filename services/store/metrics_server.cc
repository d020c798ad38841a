#include "services/store/metrics_server.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include <chrono>
#include <future>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include <httplib.h>

#include "common/host_port.h"

namespace reprise::store {

struct MetricsServer::Http {
  httplib::Server server;
  std::promise<void> listening;
  std::thread thread;
};

MetricsServer::MetricsServer() : http_(std::make_unique<Http>()) {}

absl::StatusOr<std::unique_ptr<MetricsServer>> MetricsServer::Create(
    const std::string& address, std::function<std::string()> render) {
  REPRISE_ASSIGN_OR_RETURN(HostPort endpoint, ParseHostPort(address, "the metrics address"));
  std::unique_ptr<MetricsServer> self(new MetricsServer());
  httplib::Server& server = self->http_->server;

  server.Get("/metrics",
             [render = std::move(render)](const httplib::Request&, httplib::Response& response) {
               response.set_content(render(), "text/plain; version=0.0.4; charset=utf-8");
             });
  server.Get("/healthz", [](const httplib::Request&, httplib::Response& response) {
    response.set_content("ok\n", "text/plain");
  });
  server.Get("/readyz", [raw = self.get()](const httplib::Request&, httplib::Response& response) {
    const bool ready = raw->ready_.load();
    response.status = ready ? 200 : 503;
    response.set_content(ready ? "ready\n" : "not ready\n", "text/plain");
  });
  // Without this a wrong method looks like a wrong path.
  server.set_pre_routing_handler([](const httplib::Request& request, httplib::Response& response) {
    if (request.method == "GET" || request.method == "HEAD") {
      return httplib::Server::HandlerResponse::Unhandled;
    }
    response.status = 405;
    response.set_header("Allow", "GET, HEAD");
    response.set_content("only GET and HEAD are allowed here\n", "text/plain");
    return httplib::Server::HandlerResponse::Handled;
  });
  // Without SO_REUSEPORT, which would let a second store share the port unnoticed.
  server.set_socket_options([](socket_t socket) {
    const int yes = 1;
    setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
  });
  server.set_keep_alive_timeout(1);
  server.set_read_timeout(std::chrono::seconds(1));
  server.set_write_timeout(std::chrono::seconds(1));
  server.set_payload_max_length(4096);
  // Called once, when the server has begun to listen; from then on stop() works.
  server.new_task_queue = [raw = self.get()]() -> httplib::TaskQueue* {
    raw->http_->listening.set_value();
    return new httplib::ThreadPool(2);
  };

  errno = 0;
  const bool any_port = endpoint.port == 0;
  const int port = any_port
                       ? server.bind_to_any_port(endpoint.host)
                       : (server.bind_to_port(endpoint.host, endpoint.port) ? endpoint.port : -1);
  if (port <= 0) {
    const std::string reason = errno != 0 ? strerror(errno) : "the host is unknown";
    return absl::UnavailableError(
        absl::StrCat("cannot listen on ", address, " for metrics: ", reason));
  }
  endpoint.port = static_cast<uint16_t>(port);
  self->address_ = FormatHostPort(endpoint);
  self->http_->thread = std::thread([raw = self.get()] { raw->http_->server.listen_after_bind(); });
  self->http_->listening.get_future().wait();
  return self;
}

MetricsServer::~MetricsServer() {
  if (!http_->thread.joinable()) return;
  http_->server.stop();
  http_->thread.join();
}

}  // namespace reprise::store
