#include "client/outgoing_copy.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

namespace reprise::client {

void OutgoingCopy::TakeHeld(PieceState state, const OutgoingPiece& piece, bool durable) {
  held = std::move(state);
  if (piece.encoded()) return CompareHeld(piece, durable);
  // Anything less can be compared once it is encoded.
  if (!durable && IsExact(*held)) outcome = Outcome::kAlreadyHeld;
}

void OutgoingCopy::CompareHeld(const OutgoingPiece& piece, bool durable) {
  if (!durable && held && piece.IsReachedBy(*held)) outcome = Outcome::kAlreadyHeld;
}

v1::PublishRequest OutgoingCopy::NextStep(const OutgoingPiece& piece, bool durable, uint32_t ttl_s,
                                          SharedBytes& bulk) {
  // Where the store goes on from what it has is in its first answer; nothing is sent in vain.
  const bool only_asks = !opened && held && (piece.IsBegunBy(*held) || piece.IsReachedBy(*held));
  const size_t size =
      only_asks ? 0 : std::min<size_t>(kMaxPartBytes, piece.container.size() - next_offset);
  bulk = piece.container.Slice(next_offset, size);
  v1::PublishRequest request;
  request.set_key(std::string(piece.key.digest.AsString()));
  request.set_total_bytes(piece.container.size());
  request.set_offset(next_offset);
  request.set_upload_id(upload_id);
  if (!opened) {
    request.set_content_id(std::string(piece.quality.content_id.digest.AsString()));
    request.set_planes(piece.quality.planes);
    request.set_key_distortion(piece.quality.distortion.key);
    request.set_value_distortion(piece.quality.distortion.value);
    if (piece.parent) request.set_parent(std::string(piece.parent->digest.AsString()));
    request.set_position(piece.position);
    request.set_recompute_seconds(piece.recompute_seconds);
    request.set_durable(durable);
    request.set_ttl_s(ttl_s);
  }
  next_offset += size;
  ++steps_under_way;
  return request;
}

absl::Status OutgoingCopy::TakeReply(const OutgoingPiece& piece, std::string_view message) {
  v1::PublishReply answer;
  if (!answer.ParseFromArray(message.data(), static_cast<int>(message.size()))) {
    return absl::InternalError("the store's answer to a publish cannot be parsed");
  }
  switch (answer.outcome()) {
    case v1::PublishReply::STORED:
      outcome = Outcome::kStored;
      return absl::OkStatus();
    case v1::PublishReply::ALREADY_HELD:
      outcome = Outcome::kAlreadyHeld;
      next_offset = piece.container.size();
      return absl::OkStatus();
    default:
      break;
  }
  const uint64_t piece_bytes = piece.container.size();
  if (!opened) {
    opened = true;
    upload_id = answer.upload_id();
    if (answer.from_offset() >= piece_bytes) {
      return absl::InternalError(absl::StrCat("the store wants bytes from ", answer.from_offset(),
                                              " on of a piece of ", piece_bytes));
    }
    // The store has what lies before, and has dropped bulk that began there.
    if (answer.from_offset() > 0) next_offset = answer.from_offset();
  }
  if (next_offset == piece_bytes && steps_under_way == 0) {
    return absl::InternalError(absl::StrCat("the store took all ", piece_bytes, " bytes of piece ",
                                            piece.key.digest.Hex(),
                                            " but did not say that it stored them"));
  }
  return absl::OkStatus();
}

}  // namespace reprise::client
