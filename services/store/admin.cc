#include <algorithm>
#include <chrono>

#include "absl/strings/str_cat.h"

#include "common/clock.h"
#include "common/limits.h"
#include "common/log.h"
#include "proto/reprise.pb.h"
#include "services/store/absl_text.h"
#include "services/store/handlers.h"

namespace reprise::store {
namespace {

// Everything a held piece can be checked for without decoding it.
absl::Status VerifyHeld(const storage::HeldPiece& piece) {
  REPRISE_ASSIGN_OR_RETURN(const PieceMeta meta, PieceMeta::Parse(piece.meta_bytes()));
  if (meta.header().content_id != piece.meta().header().content_id) {
    return absl::DataLossError("the header is of another content id than when it was stored");
  }
  return meta.VerifyBody(piece.body(), piece.level());
}

// `held` is what all tiers have of `piece`, which may have fewer planes in memory.
void AnswerStat(const CallPtr& call, const storage::PieceRef& piece,
                const std::optional<storage::PieceSummary>& held, bool dropped_as_corrupt) {
  v1::StatReply reply;
  reply.mutable_info();
  reply.set_dropped_as_corrupt(dropped_as_corrupt);
  if (piece != nullptr) {
    const storage::PieceSummary here = piece->Summarize();
    const bool same = held.has_value() && held->content_id == here.content_id;
    DescribePiece(same ? *held : here, *reply.mutable_info());
    reply.set_meta(piece->meta_bytes().data(), piece->meta_bytes().size());
    const storage::PieceAttributes& attributes = piece->attributes();
    if (attributes.parent.has_value()) {
      reply.set_parent(std::string(attributes.parent->digest.AsString()));
    }
    reply.set_position(attributes.position);
    reply.set_recompute_seconds(attributes.recompute_seconds);
  }
  call->Reply(reply.SerializeAsString());
}

void VerifyAndAnswer(StoreContext& context, const CallPtr& call, const Key& key,
                     const std::optional<storage::PieceSummary>& held,
                     const storage::PieceRef& piece) {
  const absl::Status wanted = call->StillWanted();
  if (!wanted.ok()) return call->Fail(wanted);
  if (piece == nullptr) {
    const bool was_on_disk = held.has_value() && held->tier == storage::Tier::kNvme;
    if (was_on_disk && context.pieces.Describe(call->tenant(), key).has_value()) {
      return call->Fail(absl::UnavailableError(
          absl::StrCat("piece ", key.digest.Hex(),
                       " cannot be read from the disk now; the store's log says why")));
    }
    return AnswerStat(call, nullptr, held, was_on_disk);
  }
  const absl::Status intact = VerifyHeld(*piece);
  if (intact.ok()) return AnswerStat(call, piece, held, false);

  // Two readers may find the same damage; only one drops it and counts it, and what was published
  // anew meanwhile stays.
  if (context.pieces.Remove(call->tenant(), key, piece.get())) {
    context.metrics.CountCorruptPiece();
    LogError("dropped a corrupt piece", {{"tenant", call->session().tenant_name()},
                                         {"key", key.digest.Hex()},
                                         {"reason", ToStd(intact.message())}});
  }
  AnswerStat(call, nullptr, held, true);
}

// One line a second at most: whoever tries in a loop must not fill the disk. Each is counted.
void LogRefusedLogin(StoreContext& context, const std::string& tenant, const absl::Status& why) {
  const int64_t now_s =
      std::chrono::duration_cast<std::chrono::seconds>(context.clock.Now().time_since_epoch())
          .count();
  if (context.login_logged_s.exchange(now_s) == now_s) return;
  LogWarning("login refused", {{"tenant", tenant}, {"why", ToStd(why.message())}});
}

}  // namespace

void HandleOpenSession(StoreContext& context, const CallPtr& call) {
  v1::OpenSessionRequest request;
  if (!request.ParseFromString(call->message()) || request.tenant().size() > kMaxTenantNameBytes ||
      request.credential().size() > kMaxCredentialBytes) {
    context.metrics.CountSessionRefused();
    return call->Fail(absl::InvalidArgumentError("the OpenSession message makes no sense"));
  }
  const absl::StatusOr<Token> token = context.sessions.Open(request.tenant(), request.credential());
  if (!token.ok()) {
    context.metrics.CountSessionRefused();
    LogRefusedLogin(context, request.tenant(), token.status());
    return call->Fail(token.status());
  }
  v1::OpenSessionReply reply;
  reply.set_token(token->data(), token->size());
  reply.set_data_address(context.data_address);
  reply.set_software(context.software);
  reply.set_same_host(context.same_host);
  call->Reply(reply.SerializeAsString());
}

void HandleStat(StoreContext& context, const CallPtr& call) {
  v1::StatRequest request;
  if (!request.ParseFromString(call->message())) {
    return call->Fail(absl::InvalidArgumentError("the Stat message cannot be parsed"));
  }
  const absl::StatusOr<Digest> key = ParseDigest(request.key(), "the key");
  if (!key.ok()) return call->Fail(key.status());
  const std::optional<storage::PieceSummary> held =
      context.pieces.Describe(call->tenant(), Key{*key});
  if (!request.verify()) {
    // The first plane comes with header and directory.
    if (storage::PieceRef piece = context.pieces.Peek(call->tenant(), Key{*key})) {
      return AnswerStat(call, piece, held, false);
    }
    return context.pieces.Open(
        call->tenant(), Key{*key}, 0,
        [call, held](const storage::PieceRef& piece) { AnswerStat(call, piece, held, false); });
  }
  context.pieces.Open(
      call->tenant(), Key{*key}, held.has_value() ? held->planes_held - 1 : 0,
      [&context, call, key = Key{*key}, held](storage::PieceRef piece) {
        const uint64_t bytes = piece != nullptr ? piece->body().size() : 0;
        if (context.executor.TryRun(WorkClass::kBackground, call->session_name(),
                                    kSmallWorkBytes + bytes, [&context, call, key, held, piece] {
                                      VerifyAndAnswer(context, call, key, held, piece);
                                    })) {
          return;
        }
        context.metrics.CountRefused();
        call->Fail(absl::ResourceExhaustedError("the store has too much to verify; try again"));
      });
}

void HandleList(StoreContext& context, const CallPtr& call) {
  v1::ListRequest request;
  if (!request.ParseFromString(call->message())) {
    return call->Fail(absl::InvalidArgumentError("the List message cannot be parsed"));
  }
  if (request.limit() > kMaxKeysPerList) {
    return call->Fail(absl::InvalidArgumentError(absl::StrCat(
        "List of ", request.limit(), " keys; at most ", kMaxKeysPerList, " are allowed")));
  }
  std::optional<Key> after;
  if (!request.after().empty()) {
    const absl::StatusOr<Digest> digest = ParseDigest(request.after(), "after");
    if (!digest.ok()) return call->Fail(digest.status());
    after = Key{*digest};
  }
  std::optional<Digest> fingerprint;
  if (!request.namespace_fingerprint().empty()) {
    const absl::StatusOr<Digest> digest =
        ParseDigest(request.namespace_fingerprint(), "the namespace fingerprint");
    if (!digest.ok()) return call->Fail(digest.status());
    fingerprint = *digest;
  }
  const uint32_t limit =
      request.limit() == 0 ? static_cast<uint32_t>(kMaxKeysPerList) : request.limit();
  const storage::ListPage page =
      context.pieces.List(call->tenant(), after.has_value() ? &*after : nullptr, limit,
                          fingerprint.has_value() ? &*fingerprint : nullptr);
  v1::ListReply reply;
  reply.set_more(page.more);
  for (const auto& [key, summary] : page.pieces) {
    v1::ListReply::Entry& entry = *reply.add_entries();
    entry.set_key(std::string(key.digest.AsString()));
    DescribePiece(summary, *entry.mutable_info());
    entry.set_namespace_fingerprint(std::string(summary.namespace_fingerprint.AsString()));
    entry.set_position(summary.attributes.position);
  }
  call->Reply(reply.SerializeAsString());
}

void HandleRemove(StoreContext& context, const CallPtr& call) {
  v1::RemoveRequest request;
  if (!request.ParseFromString(call->message())) {
    return call->Fail(absl::InvalidArgumentError("the Remove message cannot be parsed"));
  }
  const bool whole_namespace = !request.namespace_fingerprint().empty();
  if (whole_namespace == (request.keys_size() != 0)) {
    return call->Fail(
        absl::InvalidArgumentError("Remove needs either keys or a namespace fingerprint"));
  }
  if (static_cast<size_t>(request.keys_size()) > kMaxKeysPerLookup) {
    return call->Fail(absl::InvalidArgumentError(absl::StrCat(
        "Remove of ", request.keys_size(), " keys; at most ", kMaxKeysPerLookup, " are allowed")));
  }
  v1::RemoveReply reply;
  if (whole_namespace) {
    const absl::StatusOr<Digest> fingerprint =
        ParseDigest(request.namespace_fingerprint(), "the namespace fingerprint");
    if (!fingerprint.ok()) return call->Fail(fingerprint.status());
    reply.set_removed(context.pieces.RemoveNamespace(call->tenant(), *fingerprint));
    return call->Reply(reply.SerializeAsString());
  }
  std::vector<Key> keys;
  keys.reserve(static_cast<size_t>(request.keys_size()));
  for (const std::string& bytes : request.keys()) {
    const absl::StatusOr<Digest> key = ParseDigest(bytes, "a key");
    if (!key.ok()) return call->Fail(key.status());
    keys.push_back(Key{*key});
  }
  uint64_t removed = 0;
  for (const Key& key : keys)
    removed += context.pieces.Remove(call->tenant(), key, nullptr) ? 1 : 0;
  reply.set_removed(removed);
  call->Reply(reply.SerializeAsString());
}

}  // namespace reprise::store
