#include <algorithm>
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

absl::StatusOr<PieceAttributes> ParseAttributes(const v1::PublishRequest& request,
                                                const Clock& clock) {
  PieceAttributes attributes;
  if (!request.parent().empty()) {
    REPRISE_ASSIGN_OR_RETURN(const Digest parent, ParseDigest(request.parent(), "the parent"));
    attributes.parent = Key{parent};
  }
  if (request.ttl_s() > 0) {
    const uint64_t expires_at_s = uint64_t{clock.WallSeconds()} + request.ttl_s();
    attributes.expires_at_s = static_cast<uint32_t>(std::min<uint64_t>(expires_at_s, UINT32_MAX));
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
absl::StatusOr<storage::UploadOffer> ParseOffer(const v1::PublishRequest& request, const Key& key,
                                                const Clock& clock) {
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
  REPRISE_ASSIGN_OR_RETURN(offer.attributes, ParseAttributes(request, clock));
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

// The answer to a step, and what has to be on the disk before it is given.
struct StepResult {
  v1::PublishReply reply;
  std::optional<ContentId> durable{};
};

absl::StatusOr<UploadTable::Started> StartUpload(StoreContext& context, StoreCall& call,
                                                 const storage::UploadOffer& offer, bool durable) {
  return call.session().uploads().Begin(
      {offer.key, offer.quality.content_id, durable}, offer.total_bytes, context.clock.Now(),
      [&] { return context.pieces.BeginUpload(call.tenant(), offer); });
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

absl::StatusOr<StepResult> CommitUpload(StoreContext& context, StoreCall& call,
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
  const bool stored = *outcome == CommitOutcome::kStored;
  StepResult result{
      .reply =
          MakeReply(stored ? v1::PublishReply::STORED : v1::PublishReply::ALREADY_HELD, upload.id)};
  if (!upload.upload->durable()) return result;
  result.durable = upload.upload->content_id();
  if (stored) return result;
  // Somebody published the key meanwhile, perhaps with other content.
  const std::optional<storage::PieceSummary> held =
      context.pieces.Describe(call.tenant(), upload.upload->key());
  if (held.has_value()) result.durable = held->content_id;
  return result;
}

absl::StatusOr<StepResult> TakeBulk(StoreContext& context, StoreCall& call,
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
  return StepResult{.reply = MakeReply(v1::PublishReply::IN_PROGRESS, upload.id)};
}

absl::StatusOr<StepResult> TakeFirstStep(StoreContext& context, StoreCall& call,
                                         const v1::PublishRequest& request, const Key& key) {
  // Before the bytes are sent in vain.
  if (request.durable() && !context.pieces.usage().disk.has_value()) {
    return absl::FailedPreconditionError(
        "this store keeps pieces in memory only, so none can be durable; start it with --disk");
  }
  REPRISE_ASSIGN_OR_RETURN(const storage::UploadOffer offer,
                           ParseOffer(request, key, context.clock));
  const std::optional<storage::PieceSummary> held = context.pieces.Describe(call.tenant(), key);
  if (held.has_value() && Reaches(held->quality(), offer.quality)) {
    context.metrics.CountPublish(CommitOutcome::kAlreadyHeld, 0);
    StepResult result{.reply = MakeReply(v1::PublishReply::ALREADY_HELD, 0)};
    if (request.durable()) result.durable = held->content_id;
    return result;
  }
  REPRISE_ASSIGN_OR_RETURN(const UploadTable::Started upload,
                           StartUpload(context, call, offer, request.durable()));
  // The client could not know that the store has these bytes.
  const bool has_bulk = !call.bulk().empty() && request.offset() >= upload.upload->from_offset();
  StepResult result{.reply = MakeReply(v1::PublishReply::IN_PROGRESS, upload.id)};
  if (has_bulk) {
    REPRISE_ASSIGN_OR_RETURN(result, TakeBulk(context, call, request, upload));
  }
  result.reply.set_from_offset(upload.upload->from_offset());
  return result;
}

absl::StatusOr<StepResult> TakeStep(StoreContext& context, StoreCall& call,
                                    const v1::PublishRequest& request, const Key& key) {
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
  const absl::StatusOr<Digest> key = ParseDigest(request.key(), "the key");
  if (!key.ok()) return call->Fail(key.status());
  // The step has let go of its upload when the client hears of it.
  const absl::StatusOr<StepResult> result = TakeStep(context, *call, request, Key{*key});
  if (!result.ok()) return call->Fail(result.status());
  if (!result->durable.has_value()) return call->Reply(result->reply.SerializeAsString());
  call->DropBulk();
  context.pieces.Persist(call->tenant(), Key{*key}, *result->durable,
                         [call, reply = result->reply.SerializeAsString()](absl::Status status) {
                           if (status.ok()) return call->Reply(reply);
                           call->Fail(Annotate(status, "the piece is held, but not durable"));
                         });
}

}  // namespace reprise::store
