#include "transport/ucx/testing/raw_peer.h"

#include <chrono>
#include <utility>

#include "transport/ucx/socket_address.h"
#include "transport/ucx/testing/test_address.h"

namespace reprise::transport {

absl::StatusOr<std::unique_ptr<RawPeer>> RawPeer::Create() {
  REPRISE_ASSIGN_OR_RETURN(std::shared_ptr<UcxContext> context, UcxContext::Shared());
  std::unique_ptr<RawPeer> peer(new RawPeer());
  REPRISE_ASSIGN_OR_RETURN(peer->worker_, UcxWorker::Create(std::move(context)));
  ucp_am_handler_param_t handler{};
  handler.field_mask = UCP_AM_HANDLER_PARAM_FIELD_ID | UCP_AM_HANDLER_PARAM_FIELD_CB |
                       UCP_AM_HANDLER_PARAM_FIELD_ARG;
  handler.id = kFrameAmId;
  handler.cb = OnReceived;
  handler.arg = peer.get();
  const ucs_status_t status = ucp_worker_set_am_recv_handler(peer->worker_->get(), &handler);
  if (status != UCS_OK) return StatusFromUcs(status, "set the raw peer's handler");
  return peer;
}

RawPeer::~RawPeer() {
  listener_ = nullptr;
  for (const ucp_ep_h endpoint : endpoints_) {
    ucp_request_param_t param{};
    param.op_attr_mask = UCP_OP_ATTR_FIELD_FLAGS;
    param.flags = UCP_EP_CLOSE_FLAG_FORCE;
    const ucs_status_ptr_t request = ucp_ep_close_nbx(endpoint, &param);
    if (UCS_PTR_IS_PTR(request)) ucp_request_free(request);
  }
  ProgressUntil([this] { return sends_under_way_ == 0; });
}

absl::Status RawPeer::Listen() {
  REPRISE_ASSIGN_OR_RETURN(const std::vector<SocketAddress> any, ResolveAddress(TestAddress()));
  REPRISE_ASSIGN_OR_RETURN(
      listener_, Listener::Create(*worker_, any.front(), [this](const ConnectionRequest& request) {
        ucp_ep_params_t params{};
        params.field_mask = UCP_EP_PARAM_FIELD_CONN_REQUEST;
        params.conn_request = request.request;
        static_cast<void>(Add(params));
        return true;
      }));
  return absl::OkStatus();
}

absl::Status RawPeer::Connect(const std::string& address) {
  REPRISE_ASSIGN_OR_RETURN(const std::vector<SocketAddress> server, ResolveAddress(address));
  ucp_ep_params_t params{};
  params.field_mask = UCP_EP_PARAM_FIELD_FLAGS | UCP_EP_PARAM_FIELD_SOCK_ADDR;
  params.flags = UCP_EP_PARAMS_FLAGS_CLIENT_SERVER;
  params.sockaddr.addr = server.front().get();
  params.sockaddr.addrlen = server.front().size();
  return Add(params);
}

absl::Status RawPeer::Add(ucp_ep_params_t params) {
  params.field_mask |= UCP_EP_PARAM_FIELD_ERR_HANDLING_MODE | UCP_EP_PARAM_FIELD_ERR_HANDLER;
  params.err_mode = UCP_ERR_HANDLING_MODE_PEER;
  params.err_handler.cb = OnLost;
  params.err_handler.arg = this;
  ucp_ep_h endpoint = nullptr;
  const ucs_status_t status = ucp_ep_create(worker_->get(), &params, &endpoint);
  if (status != UCS_OK) return StatusFromUcs(status, "create a raw endpoint");
  endpoints_.push_back(endpoint);
  return absl::OkStatus();
}

void RawPeer::SendRaw(size_t endpoint, const std::string& header, std::string data,
                      uint32_t flags) {
  auto* const send = new RawSend{this, header, std::move(data)};
  ucp_request_param_t param{};
  param.op_attr_mask =
      UCP_OP_ATTR_FIELD_FLAGS | UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA;
  param.flags = flags;
  param.cb.send = OnSent;
  param.user_data = send;
  const ucs_status_ptr_t request =
      ucp_am_send_nbx(endpoints_.at(endpoint), kFrameAmId, send->header.data(), send->header.size(),
                      send->data.data(), send->data.size(), &param);
  if (UCS_PTR_IS_PTR(request)) {
    ++sends_under_way_;
  } else {
    delete send;
  }
}

void RawPeer::Send(size_t endpoint, Frame frame, std::string message, std::string bulk) {
  frame.message_bytes = static_cast<uint32_t>(message.size());
  frame.bulk_bytes = static_cast<uint32_t>(bulk.size());
  std::string header(AsText(EncodeFrame(frame)));
  if (bulk.empty()) {
    SendRaw(endpoint, header, std::move(message), UCP_AM_SEND_FLAG_REPLY | UCP_AM_SEND_FLAG_EAGER);
  } else {
    SendRaw(endpoint, header + message, std::move(bulk),
            UCP_AM_SEND_FLAG_REPLY | UCP_AM_SEND_FLAG_RNDV);
  }
}

bool RawPeer::ProgressUntil(const std::function<bool()>& done) {
  const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  while (!done()) {
    if (std::chrono::steady_clock::now() > give_up) return false;
    if (!worker_->Progress()) worker_->Wait(std::chrono::milliseconds(1));
  }
  return true;
}

void RawPeer::OnLost(void* peer, ucp_ep_h /*endpoint*/, ucs_status_t /*status*/) {
  ++static_cast<RawPeer*>(peer)->lost_;
}

void RawPeer::OnSent(void* request, ucs_status_t /*status*/, void* send) {
  const std::unique_ptr<RawSend> sent(static_cast<RawSend*>(send));
  --sent->peer->sends_under_way_;
  ucp_request_free(request);
}

ucs_status_t RawPeer::OnReceived(void* peer, const void* header, size_t header_bytes, void* data,
                                 size_t data_bytes, const ucp_am_recv_param_t* param) {
  const ByteSpan header_span(static_cast<const std::byte*>(header), header_bytes);
  const absl::StatusOr<Frame> frame = DecodeFrame(header_span, data_bytes);
  if (!frame.ok()) return UCS_OK;
  Received received{.frame = *frame,
                    .message = std::string(static_cast<const char*>(data),
                                           frame->carries_bulk() ? 0 : data_bytes),
                    .rendezvous = (param->recv_attr & UCP_AM_RECV_ATTR_FLAG_RNDV) != 0};
  static_cast<RawPeer*>(peer)->received_.push_back(std::move(received));
  return UCS_OK;
}

}  // namespace reprise::transport
