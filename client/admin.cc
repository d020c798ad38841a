// Stat, List, Remove, Pin and Warm: one call, one answer.

#include <algorithm>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"

#include "client/entry_points.h"
#include "common/limits.h"
#include "proto/reprise.pb.h"

namespace reprise::client {
namespace {

// Sends `message` and makes a T of what comes back.
template <typename T, typename ReplyMessage>
class AdminOperation final : public OperationOf<T> {
 public:
  using Read = absl::StatusOr<T> (*)(const ReplyMessage& reply);

  AdminOperation(Core& core, Deadline deadline, v1::Method method, std::string message, Read read)
      : OperationOf<T>(core, deadline),
        method_(method),
        message_(std::move(message)),
        read_(read) {}

 private:
  void OnChannel() override {
    auto self = std::static_pointer_cast<AdminOperation>(this->shared_from_this());
    this->CallUnary(
        method_, std::move(message_), {},
        [self](absl::StatusOr<transport::UnaryReply> reply) { self->OnReply(std::move(reply)); });
  }

  void OnReply(absl::StatusOr<transport::UnaryReply> reply) {
    if (!reply.ok()) return this->Finish(reply.status());
    ReplyMessage parsed;
    if (!parsed.ParseFromString(reply->message)) {
      return this->Finish(absl::InternalError(absl::StrCat(
          "the store's answer of ", reply->message.size(), " bytes cannot be parsed")));
    }
    this->Finish(read_(parsed));
  }

  const v1::Method method_;
  std::string message_;
  const Read read_;
};

template <typename T, typename ReplyMessage>
Async<T> Begin(Core& core, Deadline deadline, v1::Method method,
               const google::protobuf::MessageLite& request,
               typename AdminOperation<T, ReplyMessage>::Read read) {
  using Admin = AdminOperation<T, ReplyMessage>;
  return Admin::Run(
      std::make_shared<Admin>(core, deadline, method, request.SerializeAsString(), read));
}

absl::StatusOr<ObjectStat> ReadStat(const v1::StatReply& reply) {
  ObjectStat stat;
  stat.dropped_as_corrupt = reply.dropped_as_corrupt();
  std::optional<PieceState> state = ReadPieceInfo(reply.info());
  if (!state) return stat;
  const ByteSpan meta_bytes = AsBytes(reply.meta());
  REPRISE_ASSIGN_OR_RETURN(const PieceMeta meta, PieceMeta::Parse(meta_bytes));
  stat.meta.assign(meta_bytes.begin(), meta_bytes.end());
  stat.info = ObjectInfo{.key = meta.header().key,
                         .namespace_fingerprint = meta.header().namespace_fingerprint,
                         .position = reply.position(),
                         .state = *std::move(state)};
  return stat;
}

absl::StatusOr<ObjectPage> ReadList(const v1::ListReply& reply) {
  ObjectPage page;
  page.more = reply.more();
  for (const v1::ListReply::Entry& entry : reply.entries()) {
    const std::optional<Digest> key = Digest::FromBytes(entry.key());
    const std::optional<Digest> fingerprint = Digest::FromBytes(entry.namespace_fingerprint());
    std::optional<PieceState> state = ReadPieceInfo(entry.info());
    if (!key || !fingerprint || !state) {
      return absl::InternalError(
          absl::StrCat("entry ", page.objects.size(), " of the store's list makes no sense"));
    }
    page.objects.push_back({.key = Key{*key},
                            .namespace_fingerprint = *fingerprint,
                            .position = entry.position(),
                            .state = *std::move(state)});
  }
  return page;
}

absl::StatusOr<uint64_t> ReadRemoved(const v1::RemoveReply& reply) { return reply.removed(); }
absl::StatusOr<uint64_t> ReadPinned(const v1::PinReply& reply) { return reply.pinned(); }
absl::StatusOr<uint64_t> ReadWarm(const v1::WarmReply& reply) { return reply.warm(); }

template <typename Request>
absl::Status AddKeys(const std::vector<Key>& keys, std::string_view purpose, Request& request) {
  if (keys.empty() || keys.size() > kMaxKeysPerLookup) {
    return absl::InvalidArgumentError(absl::StrCat(keys.size(), " keys to ", std::string(purpose),
                                                   "; one call takes 1 to ", kMaxKeysPerLookup));
  }
  for (const Key& key : keys) request.add_keys(std::string(key.digest.AsString()));
  return absl::OkStatus();
}

}  // namespace

Async<ObjectStat> BeginStat(Core& core, const Key& key, bool verify, Deadline deadline) {
  v1::StatRequest request;
  request.set_key(std::string(key.digest.AsString()));
  request.set_verify(verify);
  return Begin<ObjectStat, v1::StatReply>(core, deadline, v1::STAT, request, ReadStat);
}

Async<ObjectPage> BeginList(Core& core, std::optional<Key> after, uint32_t limit,
                            std::optional<Digest> fingerprint, Deadline deadline) {
  v1::ListRequest request;
  if (after) request.set_after(std::string(after->digest.AsString()));
  request.set_limit(std::min(limit, static_cast<uint32_t>(kMaxKeysPerList)));
  if (fingerprint) request.set_namespace_fingerprint(std::string(fingerprint->AsString()));
  return Begin<ObjectPage, v1::ListReply>(core, deadline, v1::LIST, request, ReadList);
}

Async<uint64_t> BeginRemove(Core& core, std::vector<Key> keys, Deadline deadline) {
  v1::RemoveRequest request;
  if (absl::Status taken = AddKeys(keys, "remove", request); !taken.ok()) {
    return Refused<uint64_t>(std::move(taken));
  }
  return Begin<uint64_t, v1::RemoveReply>(core, deadline, v1::REMOVE, request, ReadRemoved);
}

Async<uint64_t> BeginRemoveNamespace(Core& core, const Digest& fingerprint, Deadline deadline) {
  v1::RemoveRequest request;
  request.set_namespace_fingerprint(std::string(fingerprint.AsString()));
  return Begin<uint64_t, v1::RemoveReply>(core, deadline, v1::REMOVE, request, ReadRemoved);
}

Async<uint64_t> BeginPin(Core& core, const std::vector<Key>& keys, std::chrono::seconds time,
                         Deadline deadline) {
  v1::PinRequest request;
  if (absl::Status taken = AddKeys(keys, "pin", request); !taken.ok()) {
    return Refused<uint64_t>(std::move(taken));
  }
  request.set_ttl_s(static_cast<uint32_t>(time.count()));
  return Begin<uint64_t, v1::PinReply>(core, deadline, v1::PIN, request, ReadPinned);
}

Async<uint64_t> BeginWarm(Core& core, const std::vector<Key>& keys, uint32_t level,
                          Deadline deadline) {
  v1::WarmRequest request;
  if (absl::Status taken = AddKeys(keys, "warm", request); !taken.ok()) {
    return Refused<uint64_t>(std::move(taken));
  }
  request.set_level(level);
  return Begin<uint64_t, v1::WarmReply>(core, deadline, v1::WARM, request, ReadWarm);
}

}  // namespace reprise::client
