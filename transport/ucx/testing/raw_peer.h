// A UCX peer without any of the carrier's manners, for tests: it sends whatever active messages it
// is told to, and moves only when Progress is called, so that a test can stop a transfer half way.
//
// Single-threaded. Each endpoint gets an index, from 0, in the order of connecting.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <ucp/api/ucp.h>

#include "common/bytes.h"
#include "common/status.h"
#include "transport/ucx/frame.h"
#include "transport/ucx/listener.h"
#include "transport/ucx/ucx_resources.h"

namespace reprise::transport {

class RawPeer {
 public:
  struct Received {
    Frame frame;
    std::string message;
    bool rendezvous = false;  // its bulk is dropped
  };

  static absl::StatusOr<std::unique_ptr<RawPeer>> Create();
  ~RawPeer();
  RawPeer(const RawPeer&) = delete;
  RawPeer& operator=(const RawPeer&) = delete;

  // Listens at TestAddress() and accepts everybody.
  absl::Status Listen();
  std::string address() const { return listener_->address().ToString(); }
  // Connects to a server; does not wait.
  absl::Status Connect(const std::string& address);

  // Sends an active message as it is; `header` and `data` are copied. `flags` as of
  // ucp_am_send_nbx.
  void SendRaw(size_t endpoint, const std::string& header, std::string data, uint32_t flags);
  // Sends a well-formed frame, its sizes set from what is given, bulk by rendezvous.
  void Send(size_t endpoint, Frame frame, std::string message = "", std::string bulk = "");

  void Progress() { worker_->Progress(); }
  // Makes progress until `done`; false when that takes more than 30 s.
  bool ProgressUntil(const std::function<bool()>& done);

  const std::vector<Received>& received() const { return received_; }
  // How many endpoints there are, and how many of them the other side has closed.
  size_t endpoints() const { return endpoints_.size(); }
  size_t lost() const { return lost_; }
  size_t sends_under_way() const { return sends_under_way_; }

 private:
  struct RawSend {
    RawPeer* peer;
    std::string header;
    std::string data;
  };

  RawPeer() = default;
  absl::Status Add(ucp_ep_params_t params);
  static void OnLost(void* peer, ucp_ep_h endpoint, ucs_status_t status);
  static void OnSent(void* request, ucs_status_t status, void* send);
  static ucs_status_t OnReceived(void* peer, const void* header, size_t header_bytes, void* data,
                                 size_t data_bytes, const ucp_am_recv_param_t* param);

  std::unique_ptr<UcxWorker> worker_;
  std::unique_ptr<Listener> listener_;
  std::vector<ucp_ep_h> endpoints_;
  std::vector<Received> received_;
  size_t lost_ = 0;
  size_t sends_under_way_ = 0;
};

}  // namespace reprise::transport
