#include "transport/ucx/wire.h"

#include "absl/strings/str_cat.h"

#include "transport/ucx/endpoint.h"

namespace reprise::transport {

absl::StatusOr<std::unique_ptr<Wire>> Wire::Create(std::shared_ptr<UcxContext> context) {
  REPRISE_ASSIGN_OR_RETURN(std::unique_ptr<UcxWorker> worker,
                           UcxWorker::Create(std::move(context)));
  const ucp_worker_h handle = worker->get();
  ucp_worker_attr_t attributes{};
  attributes.field_mask = UCP_WORKER_ATTR_FIELD_MAX_AM_HEADER;
  if (const ucs_status_t status = ucp_worker_query(handle, &attributes); status != UCS_OK) {
    return StatusFromUcs(status, "query a UCX worker");
  }
  if (attributes.max_am_header < sizeof(SendOp::header)) {
    return absl::InternalError(
        absl::StrCat("UCX carries active message headers of ", attributes.max_am_header,
                     " bytes with these settings; Reprise needs ", sizeof(SendOp::header)));
  }
  std::unique_ptr<Wire> wire(new Wire(std::move(worker)));
  ucp_am_handler_param_t handler{};
  handler.field_mask = UCP_AM_HANDLER_PARAM_FIELD_ID | UCP_AM_HANDLER_PARAM_FIELD_CB |
                       UCP_AM_HANDLER_PARAM_FIELD_ARG;
  handler.id = kFrameAmId;
  handler.cb = OnActiveMessage;
  handler.arg = wire.get();
  if (const ucs_status_t status = ucp_worker_set_am_recv_handler(handle, &handler);
      status != UCS_OK) {
    return StatusFromUcs(status, "set the active message handler");
  }
  return wire;
}

Wire::~Wire() {
  // Callbacks of UCX's use the rest of the wire.
  worker_ = nullptr;
}

SendOp* Wire::TakeSendOp() {
  if (free_send_ops_.empty()) {
    send_ops_.push_back(std::make_unique<SendOp>());
    // Giving one back must not allocate.
    free_send_ops_.reserve(send_ops_.capacity());
    return send_ops_.back().get();
  }
  SendOp* op = free_send_ops_.back();
  free_send_ops_.pop_back();
  return op;
}

void Wire::GiveBack(SendOp* op) {
  op->message.clear();
  op->bulk = SharedBytes();
  op->memory = nullptr;
  op->observer = nullptr;
  op->endpoint = nullptr;
  free_send_ops_.push_back(op);
}

ucs_status_t Wire::OnActiveMessage(void* wire, const void* header, size_t header_bytes, void* data,
                                   size_t data_bytes, const ucp_am_recv_param_t* param) {
  auto& self = *static_cast<Wire*>(wire);
  Endpoint* endpoint = nullptr;
  if ((param->recv_attr & UCP_AM_RECV_ATTR_FIELD_REPLY_EP) != 0) {
    const auto found = self.endpoints_.find(param->reply_ep);
    if (found != self.endpoints_.end()) endpoint = found->second;
  }
  if (endpoint == nullptr) {
    ++self.unknown_senders_;
    return UCS_OK;
  }
  const bool rendezvous = (param->recv_attr & UCP_AM_RECV_ATTR_FLAG_RNDV) != 0;
  const ByteSpan header_span(static_cast<const std::byte*>(header), header_bytes);
  return endpoint->OnActiveMessage(header_span, data, data_bytes, rendezvous);
}

}  // namespace reprise::transport
