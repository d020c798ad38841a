#include "client/miss_reason.h"

namespace reprise::client {

MissReason ReasonOfCall(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kDeadlineExceeded:
      return MissReason::kDeadline;
    case absl::StatusCode::kResourceExhausted:
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kPermissionDenied:
    case absl::StatusCode::kUnimplemented:
      return MissReason::kRefused;
    case absl::StatusCode::kDataLoss:
      return MissReason::kCorrupt;
    default:
      return MissReason::kPeerLost;
  }
}

}  // namespace reprise::client

namespace reprise {

std::string_view MissReasonName(MissReason reason) {
  switch (reason) {
    case MissReason::kAbsent:
      return "absent";
    case MissReason::kOtherContent:
      return "other_content";
    case MissReason::kCorrupt:
      return "corrupt";
    case MissReason::kOtherNamespace:
      return "other_namespace";
    case MissReason::kTruncated:
      return "truncated";
    case MissReason::kUnknownFormat:
      return "unknown_format";
    case MissReason::kPeerLost:
      return "peer_lost";
    case MissReason::kDeadline:
      return "deadline";
    case MissReason::kRefused:
      return "refused";
  }
  return "unknown";
}

}  // namespace reprise
