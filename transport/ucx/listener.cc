#include "transport/ucx/listener.h"

#include "absl/strings/str_cat.h"
namespace reprise::transport {
absl::StatusOr<std::unique_ptr<Listener>> Listener::Create(UcxWorker& worker,
                                                           const SocketAddress& address,
                                                           OnConnection on_connection) {
  std::unique_ptr<Listener> listener(new Listener(std::move(on_connection)));
  ucp_listener_params_t params{};
  params.field_mask = UCP_LISTENER_PARAM_FIELD_SOCK_ADDR | UCP_LISTENER_PARAM_FIELD_CONN_HANDLER;
  params.sockaddr.addr = address.get();
  params.sockaddr.addrlen = address.size();
  params.conn_handler.cb = OnRequest;
  params.conn_handler.arg = listener.get();
  const UcxLogSilence silence;
  ucs_status_t status = ucp_listener_create(worker.get(), &params, &listener->listener_);
  if (status != UCS_OK) {
    listener->listener_ = nullptr;
    return absl::UnavailableError(
        absl::StrCat("cannot listen on ", address.ToString(), ": ",
                     status == UCS_ERR_BUSY ? "the port is in use" : ucs_status_string(status)));
  }
  ucp_listener_attr_t attributes{};
  attributes.field_mask = UCP_LISTENER_ATTR_FIELD_SOCKADDR;
  status = ucp_listener_query(listener->listener_, &attributes);
  if (status != UCS_OK) return StatusFromUcs(status, "query the listener's address");
  listener->address_ = SocketAddress::From(attributes.sockaddr);
  return listener;
}

Listener::~Listener() {
  if (listener_ != nullptr) ucp_listener_destroy(listener_);
}

void Listener::OnRequest(ucp_conn_request_h request, void* listener) {
  auto& self = *static_cast<Listener*>(listener);
  ucp_conn_request_attr_t attributes{};
  attributes.field_mask = UCP_CONN_REQUEST_ATTR_FIELD_CLIENT_ADDR;
  std::string peer = "unknown peer";
  if (ucp_conn_request_query(request, &attributes) == UCS_OK) {
    peer = SocketAddress::From(attributes.client_address).ToString();
  }
  if (!self.on_connection_(ConnectionRequest{request, std::move(peer)})) {
    ucp_listener_reject(self.listener_, request);
  }
}

}  // namespace reprise::transport
