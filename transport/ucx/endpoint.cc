#include "transport/ucx/endpoint.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"

#include "common/log.h"

namespace reprise::transport {

Endpoint::Endpoint(Wire& wire, CarrierMemory& memory, Owner& owner, uint64_t id, std::string peer,
                   size_t slot_bytes_limit)
    : wire_(wire),
      memory_(memory),
      owner_(owner),
      id_(id),
      peer_(std::move(peer)),
      slot_bytes_limit_(slot_bytes_limit),
      unsent_bytes_(std::make_shared<UnsentBytes>(memory.counters)) {}

Endpoint::~Endpoint() {
  if (handle_ != nullptr) wire_.Remove(handle_);
}

absl::Status Endpoint::Create(ucp_ep_params_t& params) {
  params.field_mask |= UCP_EP_PARAM_FIELD_ERR_HANDLING_MODE | UCP_EP_PARAM_FIELD_ERR_HANDLER |
                       UCP_EP_PARAM_FIELD_USER_DATA;
  // Without it a client whose peer was killed hangs.
  params.err_mode = UCP_ERR_HANDLING_MODE_PEER;
  params.err_handler.cb = OnError;
  params.err_handler.arg = this;
  params.user_data = this;
  const ucs_status_t status = ucp_ep_create(wire_.worker().get(), &params, &handle_);
  if (status != UCS_OK) {
    handle_ = nullptr;
    closed_ = true;
    return StatusFromUcs(status, absl::StrCat("connect with ", peer_));
  }
  wire_.Add(handle_, this);
  return absl::OkStatus();
}

absl::Status Endpoint::Connect(const SocketAddress& address) {
  ucp_ep_params_t params{};
  params.field_mask = UCP_EP_PARAM_FIELD_FLAGS | UCP_EP_PARAM_FIELD_SOCK_ADDR;
  params.flags = UCP_EP_PARAMS_FLAGS_CLIENT_SERVER;
  params.sockaddr.addr = address.get();
  params.sockaddr.addrlen = address.size();
  return Create(params);
}

absl::Status Endpoint::Accept(ucp_conn_request_h request) {
  ucp_ep_params_t params{};
  params.field_mask = UCP_EP_PARAM_FIELD_CONN_REQUEST;
  params.conn_request = request;
  return Create(params);
}

// ---- sending ----

void Endpoint::Send(Frame frame, std::string message, SharedBytes bulk,
                    std::shared_ptr<BulkSentObserver> observer) {
  if (!failure_.ok() || closed_) {
    if (observer != nullptr) observer->OnBulkSent();
    return;
  }
  if (lender_ != nullptr && frame.kind == FrameKind::kPart && bulk.size() >= kSameHostBytes) {
    LendPart(frame, std::move(message), std::move(bulk), std::move(observer));
    return;
  }
  SendOp* op = wire_.TakeSendOp();
  op->endpoint = this;
  op->message = std::move(message);
  op->bulk = std::move(bulk);
  op->observer = std::move(observer);
  frame.message_bytes = static_cast<uint32_t>(op->message.size());
  if (frame.kind != FrameKind::kLentPart) {
    frame.bulk_bytes = static_cast<uint32_t>(op->bulk.size());
  }
  const FrameHeader header = EncodeFrame(frame);
  std::memcpy(op->header.data(), header.data(), header.size());
  op->header_bytes = header.size();

  ByteSpan data = AsBytes(op->message);
  uint32_t flags = UCP_AM_SEND_FLAG_REPLY;
  ucp_request_param_t param{};
  if (!op->bulk.empty()) {
    std::memcpy(op->header.data() + header.size(), op->message.data(), op->message.size());
    op->header_bytes += op->message.size();
    data = op->bulk.bytes();
    op->memory = memory_.registered->Find(data);
    if (op->memory != nullptr) {
      param.op_attr_mask |= UCP_OP_ATTR_FIELD_MEMH;
      param.memh = op->memory->get();
    }
  }
  flags |= op->bulk.size() >= kRendezvousBytes ? UCP_AM_SEND_FLAG_RNDV : UCP_AM_SEND_FLAG_EAGER;
  param.op_attr_mask |= UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA |
                        UCP_OP_ATTR_FIELD_FLAGS | UCP_OP_ATTR_FIELD_MEMORY_TYPE;
  param.flags = flags;
  param.cb.send = OnSent;
  param.user_data = op;
  param.memory_type = UCS_MEMORY_TYPE_HOST;
  ++sends_;
  unsent_bytes_->Add(SendCost(op->message.size()));
  const ucs_status_ptr_t request = ucp_am_send_nbx(
      handle_, kFrameAmId, op->header.data(), op->header_bytes, data.data(), data.size(), &param);
  if (request == nullptr) {
    FinishSend(op, UCS_OK);
  } else if (UCS_PTR_IS_ERR(request)) {
    FinishSend(op, UCS_PTR_STATUS(request));
  }
}

void Endpoint::OnSent(void* request, ucs_status_t status, void* op) {
  auto* const sent = static_cast<SendOp*>(op);
  sent->endpoint->FinishSend(sent, status);
  ucp_request_free(request);
}

void Endpoint::FinishSend(SendOp* op, ucs_status_t status) {
  if (status != UCS_OK) Fail(StatusFromUcs(status, absl::StrCat("send to ", peer_)));
  --sends_;
  unsent_bytes_->Subtract(SendCost(op->message.size()));
  const std::shared_ptr<BulkSentObserver> observer = std::move(op->observer);
  wire_.GiveBack(op);
  if (observer != nullptr) observer->OnBulkSent();
}

// ---- lending ----

void Endpoint::LendPart(Frame frame, std::string message, SharedBytes bulk,
                        std::shared_ptr<BulkSentObserver> observer) {
  frame.kind = FrameKind::kLentPart;
  frame.bulk_bytes = static_cast<uint32_t>(bulk.size());
  frame.address = reinterpret_cast<uintptr_t>(bulk.data());
  const size_t cost = SendCost(message.size());
  if (!lender_->Lend(frame.call_id, frame.sequence,
                     {.bulk = std::move(bulk), .observer = observer, .cost = cost})) {
    FailForViolation(absl::InvalidArgumentError(
        absl::StrCat("call id ", frame.call_id, " was used again before its parts were read")));
    if (observer != nullptr) observer->OnBulkSent();
    return;
  }
  unsent_bytes_->Add(cost);
  Send(frame, std::move(message));
}

void Endpoint::OnPartRead(const Frame& frame) {
  std::optional<SameHostLender::Loan> loan =
      lender_ != nullptr ? lender_->TakeBack(frame.call_id, frame.sequence) : std::nullopt;
  if (!loan.has_value()) {
    FailForViolation(absl::InvalidArgumentError(absl::StrCat(
        "part ", frame.sequence, " of call ", frame.call_id, " was read but is not lent")));
    return;
  }
  memory_.counters->same_host_bytes += loan->bulk.size();
  FinishLoan(*std::move(loan));
}

void Endpoint::FinishLoan(SameHostLender::Loan loan) {
  unsent_bytes_->Subtract(loan.cost);
  loan.bulk = SharedBytes();
  if (loan.observer != nullptr) loan.observer->OnBulkSent();
}

void Endpoint::OnLentPart(const Frame& frame, ByteSpan message) {
  if (!reader_.has_value()) {
    FailForViolation(absl::InvalidArgumentError("a part was lent to a peer that did not ask"));
    return;
  }
  if (!owner_.AdmitBulk(*this, frame)) {
    SendRead(frame);
    return;
  }
  Parked& parked = parked_.emplace_back();
  parked.frame = frame;
  parked.message = std::string(AsText(message));
}

void Endpoint::ReadLentPart(Slot* slot) {
  if (const absl::Status read = reader_->Read(slot->frame.address, slot->bytes); !read.ok()) {
    Fail(read);
  } else {
    memory_.counters->same_host_bytes += slot->bytes.size();
    SendRead(slot->frame);
  }
  FinishReceive(slot, UCS_OK);
}

void Endpoint::SendRead(const Frame& lent) {
  Send(Frame{.kind = FrameKind::kRead, .call_id = lent.call_id, .sequence = lent.sequence}, "");
}

// ---- receiving ----

ucs_status_t Endpoint::OnActiveMessage(ByteSpan header, void* data, size_t data_bytes,
                                       bool rendezvous) {
  if (!failure_.ok() || closed_) return UCS_OK;
  const absl::StatusOr<Frame> frame = DecodeFrame(header, data_bytes);
  if (!frame.ok()) {
    FailForViolation(frame.status());
    return UCS_OK;
  }
  if (frame->carries_bulk() && frame->bulk_bytes >= kRendezvousBytes && !rendezvous) {
    // It would have to be copied whenever no slot is free.
    FailForViolation(absl::InvalidArgumentError(
        absl::StrCat(frame->bulk_bytes, " bytes of bulk came without a rendezvous")));
    return UCS_OK;
  }
  if (frame->carries_bulk()) {
    if (!owner_.AdmitBulk(*this, *frame)) return UCS_OK;
    return OnBulkAnnounced(*frame, MessageBesideBulk(header), data, rendezvous);
  }
  if (rendezvous) {
    FailForViolation(absl::InvalidArgumentError("a message came by rendezvous"));
    return UCS_OK;
  }
  const ByteSpan message(static_cast<const std::byte*>(data), data_bytes);
  if (frame->kind == FrameKind::kLentPart) {
    OnLentPart(*frame, message);
  } else {
    owner_.OnMessage(*this, *frame, message);
  }
  return UCS_OK;
}

ucs_status_t Endpoint::OnBulkAnnounced(const Frame& frame, ByteSpan message, void* data,
                                       bool rendezvous) {
  std::string message_copy(AsText(message));
  Slot* slot = parked_.empty() ? TakeSlot(frame, std::move(message_copy)) : nullptr;
  if (slot == nullptr) return Park(frame, message, data, rendezvous);
  if (rendezvous) {
    StartRendezvous(slot, data);
    return UCS_INPROGRESS;
  }
  std::memcpy(slot->bytes.data(), data, frame.bulk_bytes);
  FinishReceive(slot, UCS_OK);
  return UCS_OK;
}

ucs_status_t Endpoint::Park(const Frame& frame, ByteSpan message, void* data, bool rendezvous) {
  if (!rendezvous && frame.bulk_bytes > memory_.parked_copy_limit - memory_.parked_copy_bytes) {
    owner_.OnNoRoom(*this, frame);
    return UCS_OK;
  }
  ++memory_.counters->parked_parts;
  Parked& parked = parked_.emplace_back();
  parked.frame = frame;
  parked.message = std::string(AsText(message));
  if (rendezvous) {
    parked.rendezvous = data;
    return UCS_INPROGRESS;  // UCX keeps the descriptor for us
  }
  const auto* bytes = static_cast<const std::byte*>(data);
  parked.copied.assign(bytes, bytes + frame.bulk_bytes);
  memory_.parked_copy_bytes += parked.copied.size();
  return UCS_OK;
}

void Endpoint::DiscardParked(const Parked& parked) {
  if (parked.rendezvous != nullptr) ucp_am_data_release(wire_.worker().get(), parked.rendezvous);
  memory_.parked_copy_bytes -= parked.copied.size();
}

Slot* Endpoint::TakeSlot(const Frame& frame, std::string message) {
  if (frame.bulk_bytes > slot_bytes_limit_ - slot_bytes_) return nullptr;
  Slot* slot = memory_.slots->TryTake(frame.bulk_bytes);
  if (slot == nullptr) return nullptr;
  slot->endpoint = this;
  slot->frame = frame;
  slot->message = std::move(message);
  slot_bytes_ += frame.bulk_bytes;
  ++receives_;
  return slot;
}

void Endpoint::StartRendezvous(Slot* slot, void* descriptor) {
  ucp_request_param_t param{};
  param.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA |
                       UCP_OP_ATTR_FIELD_MEMORY_TYPE | UCP_OP_ATTR_FIELD_MEMH |
                       UCP_OP_ATTR_FLAG_NO_IMM_CMPL;
  param.cb.recv_am = OnReceived;
  param.user_data = slot;
  param.memory_type = UCS_MEMORY_TYPE_HOST;
  param.memh = memory_.slots->memory().get();
  const ucs_status_ptr_t request = ucp_am_recv_data_nbx(
      wire_.worker().get(), descriptor, slot->bytes.data(), slot->bytes.size(), &param);
  // A request may have completed inside the call already, and been freed by OnReceived.
  if (UCS_PTR_IS_ERR(request)) FinishReceive(slot, UCS_PTR_STATUS(request));
}

void Endpoint::OnReceived(void* request, ucs_status_t status, size_t /*bytes*/, void* slot) {
  auto* const received = static_cast<Slot*>(slot);
  received->endpoint->FinishReceive(received, status);
  ucp_request_free(request);
}

void Endpoint::FinishReceive(Slot* slot, ucs_status_t status) {
  --receives_;
  if (status != UCS_OK || closed_ || !failure_.ok()) {
    if (status != UCS_OK) Fail(StatusFromUcs(status, absl::StrCat("receive bulk from ", peer_)));
    slot_bytes_ -= slot->bytes.size();
    memory_.slots->GiveBack(slot);
    return;
  }
  const Frame frame = slot->frame;
  std::string message = std::move(slot->message);
  owner_.OnBulk(*this, frame, std::move(message),
                memory_.slots->HandOver(slot, id_, frame.call_id));
}

bool Endpoint::StartParked() {
  while (!parked_.empty() && failure_.ok() && !closed_) {
    Slot* slot = TakeSlot(parked_.front().frame, parked_.front().message);
    if (slot == nullptr) return false;
    const Parked parked = std::move(parked_.front());
    parked_.pop_front();
    if (parked.frame.kind == FrameKind::kLentPart) {
      ReadLentPart(slot);
      return !parked_.empty();
    }
    if (parked.rendezvous != nullptr) {
      StartRendezvous(slot, parked.rendezvous);
    } else {
      memory_.parked_copy_bytes -= parked.copied.size();
      std::memcpy(slot->bytes.data(), parked.copied.data(), parked.copied.size());
      FinishReceive(slot, UCS_OK);
    }
  }
  return false;
}

void Endpoint::DropParked(uint64_t call_id) {
  std::erase_if(parked_, [&](const Parked& parked) {
    if (parked.frame.call_id != call_id) return false;
    DiscardParked(parked);
    if (parked.frame.kind == FrameKind::kLentPart) SendRead(parked.frame);
    return true;
  });
}

// ---- ending ----

void Endpoint::OnError(void* endpoint, ucp_ep_h /*handle*/, ucs_status_t status) {
  auto& self = *static_cast<Endpoint*>(endpoint);
  self.Fail(StatusFromUcs(status, absl::StrCat("reach ", self.peer_)));
}

void Endpoint::Fail(absl::Status why) {
  if (!failure_.ok()) return;
  failure_ = std::move(why);
  owner_.OnFailed(*this);
}

void Endpoint::FailForViolation(const absl::Status& why) {
  if (!failure_.ok()) return;
  ++memory_.counters->protocol_violations;
  LogWarning("closing a data endpoint for a protocol violation",
             {{"peer", peer_}, {"reason", std::string(why.message())}});
  Fail(absl::UnavailableError(
      absl::StrCat("the peer ", peer_, " broke the protocol: ", why.message())));
}

void Endpoint::Close() {
  if (closed_) return;
  closed_ = true;
  Fail(absl::CancelledError("closed"));
  for (const Parked& parked : parked_) DiscardParked(parked);
  parked_.clear();
  if (lender_ != nullptr) {
    for (SameHostLender::Loan& loan : lender_->Revoke()) FinishLoan(std::move(loan));
  }
  if (handle_ == nullptr) return;
  wire_.Remove(handle_);
  ucp_request_param_t param{};
  param.op_attr_mask =
      UCP_OP_ATTR_FIELD_FLAGS | UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA;
  param.flags = UCP_EP_CLOSE_FLAG_FORCE;
  param.cb.send = OnClosed;
  param.user_data = this;
  closing_ = true;
  const ucs_status_ptr_t request = ucp_ep_close_nbx(std::exchange(handle_, nullptr), &param);
  if (!UCS_PTR_IS_PTR(request)) closing_ = false;
}

void Endpoint::OnClosed(void* request, ucs_status_t /*status*/, void* endpoint) {
  static_cast<Endpoint*>(endpoint)->closing_ = false;
  ucp_request_free(request);
}

}  // namespace reprise::transport
