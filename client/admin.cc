// Stat, List, Remove, Pin and Warm: one call to every node, one answer made of theirs.

#include <algorithm>
#include <iterator>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

#include "client/entry_points.h"
#include "common/limits.h"
#include "proto/reprise.pb.h"

namespace reprise::client {
namespace {

// Of every node, in the view's order.
template <typename T>
using Answers = std::vector<absl::StatusOr<T>>;

// Sends `message` to every node, and makes a T of what comes back from all.
template <typename T, typename ReplyMessage>
class AdminOperation final : public OperationOf<T> {
 public:
  using Read = absl::StatusOr<T> (*)(const ReplyMessage& reply);
  using Merge = absl::AnyInvocable<absl::StatusOr<T>(Answers<T> answers) &&>;

  AdminOperation(Core& core, Deadline deadline, v1::Method method, std::string message, Read read,
                 Merge merge)
      : OperationOf<T>(core, deadline),
        method_(method),
        message_(std::move(message)),
        read_(read),
        merge_(std::move(merge)),
        answers_(this->node_count(), absl::UnknownError("not answered")),
        left_(this->node_count()) {}

 private:
  void Start() override {
    auto self = std::static_pointer_cast<AdminOperation>(this->shared_from_this());
    for (uint32_t node = 0; node < this->node_count(); ++node) {
      this->CallUnary(node, this->deadline(), method_, message_, {},
                      [self, node](const absl::StatusOr<transport::UnaryReply>& reply) {
                        self->OnReply(node, reply);
                      });
    }
  }

  void OnReply(uint32_t node, const absl::StatusOr<transport::UnaryReply>& reply)
      ABSL_LOCKS_EXCLUDED(answers_mutex_) {
    absl::StatusOr<T> answer = ReadReply(reply);
    if (!answer.ok() && this->node_count() > 1)
      answer = Annotate(answer.status(), absl::StrCat("store ", this->view().nodes[node].address));
    Answers<T> all;
    {
      MutexLock lock(answers_mutex_);
      answers_[node] = std::move(answer);
      if (--left_ > 0) return;
      all = std::move(answers_);
    }
    this->Finish(std::move(merge_)(std::move(all)));
  }

  absl::StatusOr<T> ReadReply(const absl::StatusOr<transport::UnaryReply>& reply) const {
    REPRISE_RETURN_IF_ERROR(reply.status());
    ReplyMessage parsed;
    if (!parsed.ParseFromString(reply->message)) {
      return absl::InternalError(
          absl::StrCat("the store's answer of ", reply->message.size(), " bytes cannot be parsed"));
    }
    return read_(parsed);
  }

  const v1::Method method_;
  const std::string message_;
  const Read read_;
  Merge merge_;
  Mutex answers_mutex_;
  Answers<T> answers_ ABSL_GUARDED_BY(answers_mutex_);
  size_t left_ ABSL_GUARDED_BY(answers_mutex_);
};

template <typename T, typename ReplyMessage>
Async<T> Begin(Core& core, Deadline deadline, v1::Method method,
               const google::protobuf::MessageLite& request,
               typename AdminOperation<T, ReplyMessage>::Read read,
               typename AdminOperation<T, ReplyMessage>::Merge merge) {
  using Admin = AdminOperation<T, ReplyMessage>;
  return Admin::Run(std::make_shared<Admin>(core, deadline, method, request.SerializeAsString(),
                                            read, std::move(merge)));
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

bool IsBetter(const PieceState& a, const PieceState& b) { return a.planes_held > b.planes_held; }

// The best copy; a node that does not answer matters only when no other has one.
absl::StatusOr<ObjectStat> MergeStats(Answers<ObjectStat> answers) {
  absl::StatusOr<ObjectStat> best = std::move(answers[0]);
  bool dropped = best.ok() && best->dropped_as_corrupt;
  for (size_t i = 1; i < answers.size(); ++i) {
    absl::StatusOr<ObjectStat>& next = answers[i];
    dropped = dropped || (next.ok() && next->dropped_as_corrupt);
    const bool best_has = best.ok() && best->info.has_value();
    const bool next_has = next.ok() && next->info.has_value();
    if (best_has ? next_has && IsBetter(next->info->state, best->info->state)
                 : next_has || !next.ok()) {
      best = std::move(next);
    }
  }
  if (best.ok()) best->dropped_as_corrupt = dropped;
  return best;
}

// What every node has told of: up to the last key of the first that has more.
absl::StatusOr<ObjectPage> MergePages(Answers<ObjectPage> answers, uint32_t limit) {
  ObjectPage page;
  std::optional<Key> end;
  for (absl::StatusOr<ObjectPage>& answer : answers) {
    REPRISE_RETURN_IF_ERROR(answer.status());
    if (answer->more && !answer->objects.empty()) {
      page.more = true;
      end = std::min(end.value_or(answer->objects.back().key), answer->objects.back().key);
    }
    page.objects.insert(page.objects.end(), std::make_move_iterator(answer->objects.begin()),
                        std::make_move_iterator(answer->objects.end()));
  }
  if (answers.size() == 1) return page;
  std::sort(page.objects.begin(), page.objects.end(), [](const ObjectInfo& a, const ObjectInfo& b) {
    return a.key != b.key ? a.key < b.key : IsBetter(a.state, b.state);
  });
  const auto same_key = [](const ObjectInfo& a, const ObjectInfo& b) { return a.key == b.key; };
  page.objects.erase(std::unique(page.objects.begin(), page.objects.end(), same_key),
                     page.objects.end());
  const auto beyond = std::find_if(page.objects.begin(), page.objects.end(),
                                   [&](const ObjectInfo& info) { return end && info.key > *end; });
  page.objects.erase(beyond, page.objects.end());
  if (page.objects.size() > limit) {
    page.objects.resize(limit);
    page.more = true;
  }
  return page;
}

// What names keys of one store's runs: which of several has which is for Lookup alone to tell.
absl::StatusOr<uint64_t> OnlyAnswer(Answers<uint64_t> answers) { return std::move(answers[0]); }

absl::Status CheckOneStore(const Core& core, std::string_view purpose) {
  const size_t stores = core.stores.Current()->view->nodes.size();
  if (stores == 1) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("a client of ", stores, " stores cannot ",
                                                 std::string(purpose),
                                                 "; connect to each of them alone"));
}

absl::StatusOr<uint64_t> MergeRemoved(Answers<uint64_t> answers) {
  uint64_t removed = 0;
  for (const absl::StatusOr<uint64_t>& answer : answers) {
    REPRISE_RETURN_IF_ERROR(answer.status());
    removed += *answer;
  }
  return removed;
}

}  // namespace

Async<ObjectStat> BeginStat(Core& core, const Key& key, bool verify, Deadline deadline) {
  v1::StatRequest request;
  request.set_key(std::string(key.digest.AsString()));
  request.set_verify(verify);
  return Begin<ObjectStat, v1::StatReply>(core, deadline, v1::STAT, request, ReadStat, MergeStats);
}

Async<ObjectPage> BeginList(Core& core, std::optional<Key> after, uint32_t limit,
                            std::optional<Digest> fingerprint, Deadline deadline) {
  v1::ListRequest request;
  if (after) request.set_after(std::string(after->digest.AsString()));
  if (limit == 0 || limit > kMaxKeysPerList) limit = static_cast<uint32_t>(kMaxKeysPerList);
  request.set_limit(limit);
  if (fingerprint) request.set_namespace_fingerprint(std::string(fingerprint->AsString()));
  return Begin<ObjectPage, v1::ListReply>(
      core, deadline, v1::LIST, request, ReadList,
      [limit](Answers<ObjectPage> answers) { return MergePages(std::move(answers), limit); });
}

Async<uint64_t> BeginRemove(Core& core, std::vector<Key> keys, Deadline deadline) {
  v1::RemoveRequest request;
  if (absl::Status taken = AddKeys(keys, "remove", request); !taken.ok()) {
    return Refused<uint64_t>(std::move(taken));
  }
  return Begin<uint64_t, v1::RemoveReply>(core, deadline, v1::REMOVE, request, ReadRemoved,
                                          MergeRemoved);
}

Async<uint64_t> BeginRemoveNamespace(Core& core, const Digest& fingerprint, Deadline deadline) {
  v1::RemoveRequest request;
  request.set_namespace_fingerprint(std::string(fingerprint.AsString()));
  return Begin<uint64_t, v1::RemoveReply>(core, deadline, v1::REMOVE, request, ReadRemoved,
                                          MergeRemoved);
}

Async<uint64_t> BeginPin(Core& core, const std::vector<Key>& keys, std::chrono::seconds time,
                         Deadline deadline) {
  v1::PinRequest request;
  absl::Status taken = CheckOneStore(core, "pin");
  taken.Update(AddKeys(keys, "pin", request));
  if (!taken.ok()) return Refused<uint64_t>(std::move(taken));
  request.set_ttl_s(static_cast<uint32_t>(time.count()));
  return Begin<uint64_t, v1::PinReply>(core, deadline, v1::PIN, request, ReadPinned, OnlyAnswer);
}

Async<uint64_t> BeginWarm(Core& core, const std::vector<Key>& keys, uint32_t level,
                          Deadline deadline) {
  v1::WarmRequest request;
  absl::Status taken = CheckOneStore(core, "warm");
  taken.Update(AddKeys(keys, "warm", request));
  if (!taken.ok()) return Refused<uint64_t>(std::move(taken));
  request.set_level(level);
  return Begin<uint64_t, v1::WarmReply>(core, deadline, v1::WARM, request, ReadWarm, OnlyAnswer);
}

}  // namespace reprise::client
