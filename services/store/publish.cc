#include <cmath>

#include "absl/strings/str_cat.h"

#include "common/limits.h"
#include "common/log.h"
#include "proto/reprise.pb.h"
#include "services/store/absl_text.h"
#include "services/store/handlers.h"

namespace reprise::store {
namespace {

using storage::CommitOutcome;
using storage::PieceAttributes;

absl::StatusOr<PieceAttributes> ParseAttributes(const v1::PublishRequest& request) {
  PieceAttributes attributes;
  if (!request.parent().empty()) {
    REPRISE_ASSIGN_OR_RETURN(const Digest parent, ParseDigest(request.parent(), "the parent"));
    attributes.parent = Key{parent};
  }
  attributes.position = request.position();
  attributes.recompute_seconds = request.recompute_seconds();
  if (!std::isfinite(attributes.recompute_seconds) || attributes.recompute_seconds < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("recompute_seconds of ", attributes.recompute_seconds, " is not a duration"));
  }
  return attributes;
}

bool IsDistortion(float value) { return std::isfinite(value) && value >= 0; }

// What the first step says of the container. Whether it is true shows when the bytes are there.
absl::StatusOr<storage::UploadOffer> ParseOffer(const v1::PublishRequest& request, const Key& key) {
  storage::UploadOffer offer{.key = key, .total_bytes = request.total_bytes(), .quality = {}};
  REPRISE_ASSIGN_OR_RETURN(offer.quality.content_id.digest,
                           ParseDigest(request.content_id(), "the content id"));
  offer.quality.planes = request.planes();
  if (request.planes() == 0 || request.planes() > kMaxPlanes) {
    return absl::InvalidArgumentError(absl::StrCat("a container of ", request.planes(),
                                                   " planes; 1 to ", kMaxPlanes, " are allowed"));
  }
  offer.quality.distortion = {request.key_distortion(), request.value_distortion()};
  if (!IsDistortion(request.key_distortion()) || !IsDistortion(request.value_distortion())) {
    return absl::InvalidArgumentError(absl::StrCat("distortions of ", request.key_distortion(),
                                                   " and ", request.value_distortion(),
                                                   " are not finite numbers from 0 up"));
  }
  REPRISE_ASSIGN_OR_RETURN(offer.attributes, ParseAttributes(request));
  return offer;
}

absl::Status CheckStep(const v1::PublishRequest& request, size_t bulk_bytes) {
  constexpr uint64_t kMaxTotal = kMaxPieceMetaBytes + kMaxPieceBodyBytes;
  if (request.total_bytes() == 0 || request.total_bytes() > kMaxTotal) {
    return absl::InvalidArgumentError(absl::StrCat("a container of ", request.total_bytes(),
                                                   " bytes; 1 to ", kMaxTotal, " are allowed"));
  }
  if (request.offset() > request.total_bytes() ||
      bulk_bytes > request.total_bytes() - request.offset()) {
    return absl::InvalidArgumentError(
        absl::StrCat(bulk_bytes, " bytes at offset ", request.offset(), " reach outside the ",
                     request.total_bytes(), " bytes of the container"));
  }
  if (bulk_bytes == 0 && request.upload_id() != 0) {
    return absl::InvalidArgumentError("a step of an upload without bytes");
  }
  return absl::OkStatus();
}

v1::PublishReply MakeReply(v1::PublishReply::Outcome outcome, uint64_t upload_id) {
  v1::PublishReply reply;
  reply.set_outcome(outcome);
  reply.set_upload_id(upload_id);
  return reply;
}

absl::StatusOr<UploadTable::Started> StartUpload(StoreContext& context, StoreCall& call,
                                                 const storage::UploadOffer& offer) {
  return call.session().uploads().Begin(offer.key, offer.total_bytes, context.clock.Now(), [&] {
    return context.pieces.BeginUpload(call.tenant(), offer);
  });
}

absl::StatusOr<UploadTable::Started> FindUpload(StoreContext& context, StoreCall& call,
                                                const v1::PublishRequest& request, const Key& key) {
  UploadTable::Started found{
      request.upload_id(), call.session().uploads().Find(request.upload_id(), context.clock.Now())};
  if (found.upload == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat(
        "upload ", request.upload_id(),
        " is not under way in this session: it ended, failed or idled too long; start again"));
  }
  if (found.upload->key() != key || found.upload->total_bytes() != request.total_bytes()) {
    return absl::InvalidArgumentError(absl::StrCat("upload ", request.upload_id(),
                                                   " is of another key or length than this step"));
  }
  return found;
}

// Whether the container was at fault, rather than the room for it.
bool IsRejection(const absl::Status& status) {
  return absl::IsDataLoss(status) || absl::IsUnimplemented(status);
}

absl::StatusOr<v1::PublishReply> CommitUpload(StoreContext& context, StoreCall& call,
                                              const UploadTable::Started& upload) {
  const absl::StatusOr<CommitOutcome> outcome = upload.upload->Commit();
  call.session().uploads().Erase(upload.id);
  if (!outcome.ok()) {
    if (IsRejection(outcome.status())) context.metrics.CountPublishRejected();
    LogDebug("publish failed", {{"tenant", call.session().tenant_name()},
                                {"key", upload.upload->key().digest.Hex()},
                                {"reason", ToStd(outcome.status().message())}});
    return outcome.status();
  }
  context.metrics.CountPublish(*outcome, upload.upload->total_bytes());
  return MakeReply(*outcome == CommitOutcome::kStored ? v1::PublishReply::STORED
                                                      : v1::PublishReply::ALREADY_HELD,
                   upload.id);
}

absl::StatusOr<v1::PublishReply> TakeBulk(StoreContext& context, StoreCall& call,
                                          const v1::PublishRequest& request,
                                          const UploadTable::Started& upload) {
  const absl::StatusOr<bool> is_last = upload.upload->Write(request.offset(), call.bulk().bytes());
  call.DropBulk();
  if (!is_last.ok()) {
    // The client's idea of this upload is wrong, so nothing good can come of it.
    call.session().uploads().Erase(upload.id);
    return is_last.status();
  }
  if (*is_last) return CommitUpload(context, call, upload);
  return MakeReply(v1::PublishReply::IN_PROGRESS, upload.id);
}

absl::StatusOr<v1::PublishReply> TakeFirstStep(StoreContext& context, StoreCall& call,
                                               const v1::PublishRequest& request, const Key& key) {
  REPRISE_ASSIGN_OR_RETURN(const storage::UploadOffer offer, ParseOffer(request, key));
  const std::optional<storage::PieceSummary> held = context.pieces.Describe(call.tenant(), key);
  if (held.has_value() && Reaches(held->quality(), offer.quality)) {
    context.metrics.CountPublish(CommitOutcome::kAlreadyHeld, 0);
    return MakeReply(v1::PublishReply::ALREADY_HELD, 0);
  }
  REPRISE_ASSIGN_OR_RETURN(const UploadTable::Started upload, StartUpload(context, call, offer));
  // The client could not know that the store has these bytes.
  const bool has_bulk = !call.bulk().empty() && request.offset() >= upload.upload->from_offset();
  v1::PublishReply reply = MakeReply(v1::PublishReply::IN_PROGRESS, upload.id);
  if (has_bulk) {
    REPRISE_ASSIGN_OR_RETURN(reply, TakeBulk(context, call, request, upload));
  }
  reply.set_from_offset(upload.upload->from_offset());
  return reply;
}

absl::StatusOr<v1::PublishReply> TakeStep(StoreContext& context, StoreCall& call,
                                          const v1::PublishRequest& request) {
  REPRISE_ASSIGN_OR_RETURN(const Digest digest, ParseDigest(request.key(), "the key"));
  const Key key{digest};
  REPRISE_RETURN_IF_ERROR(CheckStep(request, call.bulk().size()));

  if (request.upload_id() == 0) return TakeFirstStep(context, call, request, key);
  REPRISE_ASSIGN_OR_RETURN(const UploadTable::Started upload,
                           FindUpload(context, call, request, key));
  return TakeBulk(context, call, request, upload);
}

}  // namespace

void HandlePublish(StoreContext& context, const CallPtr& call) {
  v1::PublishRequest request;
  if (!request.ParseFromString(call->message())) {
    return call->Fail(absl::InvalidArgumentError("the Publish message cannot be parsed"));
  }
  // The step has let go of its upload when the client hears of it.
  const absl::StatusOr<v1::PublishReply> reply = TakeStep(context, *call, request);
  if (!reply.ok()) return call->Fail(reply.status());
  call->Reply(reply->SerializeAsString());
}

}  // namespace reprise::store
