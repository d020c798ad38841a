#include "transport/ucx/frame.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

#include "common/byte_io.h"
#include "common/limits.h"

namespace reprise::transport {
namespace {

// Which optional fields each kind uses.
struct Fields {
  bool call_id = false;
  bool method_and_deadline = false;
  bool sequence = false;
  bool address = false;
  bool bulk = false;
  bool credit = false;
  bool status = false;
  bool message = false;
};

constexpr Fields FieldsOf(FrameKind kind) {
  switch (kind) {
    case FrameKind::kHello:
      return {.message = true};
    case FrameKind::kWelcome:
      return {.status = true, .message = true};
    case FrameKind::kRequest:
      return {.call_id = true,
              .method_and_deadline = true,
              .bulk = true,
              .credit = true,
              .message = true};
    case FrameKind::kPart:
      return {.call_id = true, .sequence = true, .bulk = true, .message = true};
    case FrameKind::kDone:
      return {.call_id = true, .sequence = true, .status = true, .message = true};
    case FrameKind::kCancel:
      return {.call_id = true};
    case FrameKind::kCredit:
      return {.call_id = true, .credit = true};
    case FrameKind::kHelloSameHost:
      return {.call_id = true, .message = true};
    case FrameKind::kToken:
      return {.sequence = true, .address = true};
    case FrameKind::kProof:
      return {.message = true};
    case FrameKind::kLentPart:
      return {.call_id = true, .sequence = true, .address = true, .bulk = true, .message = true};
    case FrameKind::kRead:
      return {.call_id = true, .sequence = true};
  }
  return {};
}

absl::Status Violation(absl::string_view field, uint64_t value, const Frame& frame) {
  return absl::InvalidArgumentError(absl::StrCat("frame of kind ", static_cast<int>(frame.kind),
                                                 " of call ", frame.call_id, ": ", field, " ",
                                                 value, " is not allowed"));
}

absl::Status CheckSizes(const Frame& frame, size_t header_bytes, uint64_t data_bytes) {
  const bool bulk = frame.carries_bulk();
  if (frame.bulk_bytes > kMaxPartBytes) return Violation("bulk size", frame.bulk_bytes, frame);
  size_t message_limit = frame.bulk_bytes > 0 ? kMaxBulkMessageBytes : kMaxMessageBytes;
  if (frame.status != absl::StatusCode::kOk) message_limit = kMaxStatusTextBytes;
  if (frame.kind == FrameKind::kProof) message_limit = kProofBytes;
  if (frame.message_bytes > message_limit) {
    return Violation("message size", frame.message_bytes, frame);
  }
  if (frame.kind == FrameKind::kProof && frame.message_bytes % kProofBytes != 0) {
    return Violation("proof size", frame.message_bytes, frame);
  }
  const size_t expected_header = kFrameHeaderBytes + (bulk ? frame.message_bytes : 0);
  if (header_bytes != expected_header) return Violation("header size", header_bytes, frame);
  if (data_bytes != (bulk ? frame.bulk_bytes : frame.message_bytes)) {
    return Violation("data size", data_bytes, frame);
  }
  return absl::OkStatus();
}

absl::Status CheckFields(const Frame& frame) {
  const Fields used = FieldsOf(frame.kind);
  if (!used.call_id && frame.call_id != 0) return Violation("call id", frame.call_id, frame);
  if (!used.method_and_deadline && frame.method != 0) {
    return Violation("method", frame.method, frame);
  }
  if (!used.method_and_deadline && frame.deadline_ms != 0) {
    return Violation("deadline", frame.deadline_ms, frame);
  }
  if (!used.sequence && frame.sequence != 0) return Violation("sequence", frame.sequence, frame);
  if (!used.bulk && frame.bulk_bytes != 0) return Violation("bulk size", frame.bulk_bytes, frame);
  if (!used.message && frame.message_bytes != 0) {
    return Violation("message size", frame.message_bytes, frame);
  }
  if (used.credit ? frame.credit == 0 || frame.credit > kMaxCreditParts : frame.credit != 0) {
    return Violation("credit", frame.credit, frame);
  }
  // Nothing lent is empty, at no address, or reaches beyond the last one.
  if (frame.kind == FrameKind::kLentPart && frame.bulk_bytes == 0) {
    return Violation("bulk size", frame.bulk_bytes, frame);
  }
  if (used.address && (frame.address == 0 || frame.address > UINT64_MAX - kMaxPartBytes)) {
    return Violation("address", frame.address, frame);
  }
  if (!used.status && frame.status != absl::StatusCode::kOk) {
    return Violation("status", static_cast<uint64_t>(frame.status), frame);
  }
  return absl::OkStatus();
}

}  // namespace

FrameHeader EncodeFrame(const Frame& frame) {
  FrameHeader header{};
  size_t at = 0;
  const auto put = [&](uint64_t value, size_t size) {
    for (size_t i = 0; i < size; ++i) header.at(at++) = static_cast<std::byte>(value >> (8 * i));
  };
  put(kFrameVersion, 1);
  put(static_cast<uint8_t>(frame.kind), 1);
  put(frame.method, 2);
  put(frame.message_bytes, 4);
  put(frame.call_id, 8);
  put(frame.sequence, 4);
  put(frame.bulk_bytes, 4);
  if (FieldsOf(frame.kind).address) {
    put(frame.address, 8);
  } else {
    put(frame.deadline_ms, 4);
    put(frame.credit, 4);
  }
  put(static_cast<uint32_t>(frame.status), 4);
  put(0, 4);
  return header;
}

absl::StatusOr<Frame> DecodeFrame(ByteSpan am_header, uint64_t data_bytes) {
  ByteReader reader(am_header);
  Frame frame;
  const uint8_t version = reader.U8();
  const uint8_t kind = reader.U8();
  frame.method = reader.U16();
  frame.message_bytes = reader.U32();
  frame.call_id = reader.U64();
  frame.sequence = reader.U32();
  frame.bulk_bytes = reader.U32();
  if (FieldsOf(static_cast<FrameKind>(kind)).address) {
    frame.address = reader.U64();
  } else {
    frame.deadline_ms = reader.U32();
    frame.credit = reader.U32();
  }
  const uint32_t status = reader.U32();
  const uint32_t zero = reader.U32();
  if (!reader.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat("frame header of ", am_header.size(), " bytes is cut short"));
  }
  if (version != kFrameVersion) {
    return absl::InvalidArgumentError(absl::StrCat(
        "frame version ", version, " is not ", kFrameVersion, ", the one that this build speaks"));
  }
  if (kind < static_cast<uint8_t>(FrameKind::kHello) ||
      kind > static_cast<uint8_t>(FrameKind::kRead)) {
    return absl::InvalidArgumentError(absl::StrCat("frame kind ", kind, " is unknown"));
  }
  frame.kind = static_cast<FrameKind>(kind);
  if (status > static_cast<uint32_t>(absl::StatusCode::kUnauthenticated)) {
    return Violation("status", status, frame);
  }
  frame.status = static_cast<absl::StatusCode>(status);
  if (zero != 0) return Violation("reserved field", zero, frame);
  REPRISE_RETURN_IF_ERROR(CheckFields(frame));
  REPRISE_RETURN_IF_ERROR(CheckSizes(frame, am_header.size(), data_bytes));
  return frame;
}

}  // namespace reprise::transport
