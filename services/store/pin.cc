// Pin and Warm: what a tenant wants kept, and what it wants in memory soon.

#include <algorithm>
#include <chrono>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

#include "common/limits.h"
#include "common/mutex.h"
#include "proto/reprise.pb.h"
#include "services/store/handlers.h"
#include "services/store/windowed_run.h"

namespace reprise::store {
namespace {

template <typename Request>
absl::StatusOr<std::vector<Key>> ParseKeys(const Request& request) {
  if (request.keys_size() == 0 || static_cast<size_t>(request.keys_size()) > kMaxKeysPerLookup) {
    return absl::InvalidArgumentError(absl::StrCat(
        "a call for ", request.keys_size(), " keys; 1 to ", kMaxKeysPerLookup, " are allowed"));
  }
  std::vector<Key> keys;
  keys.reserve(static_cast<size_t>(request.keys_size()));
  for (const std::string& bytes : request.keys()) {
    REPRISE_ASSIGN_OR_RETURN(const Digest key, ParseDigest(bytes, "a key"));
    keys.push_back(Key{key});
  }
  return keys;
}

void ReplyPinned(const CallPtr& call, uint64_t pinned) {
  v1::PinReply reply;
  reply.set_pinned(pinned);
  call->Reply(reply.SerializeAsString());
}

// What became of the pins of one call so far.
struct PinTally {
  Mutex mutex;
  uint64_t pinned ABSL_GUARDED_BY(mutex) = 0;
  absl::Status failure ABSL_GUARDED_BY(mutex);

  bool Take(const absl::Status& status) ABSL_LOCKS_EXCLUDED(mutex) {
    MutexLock lock(mutex);
    if (status.ok()) ++pinned;
    if (status.ok() || absl::IsNotFound(status)) return true;
    if (failure.ok()) failure = status;
    return false;
  }
};

void PinAll(StoreContext& context, const CallPtr& call, std::vector<Key> keys, Deadline until) {
  auto tally = std::make_shared<PinTally>();
  const size_t count = keys.size();
  WindowedRun::Begin(
      count,
      [&context, call, keys = std::move(keys), until, tally](size_t index,
                                                             WindowedRun::Ended ended) {
        if (const absl::Status wanted = call->StillWanted(); !wanted.ok()) {
          return std::move(ended)(tally->Take(wanted));
        }
        context.pieces.Pin(call->tenant(), keys[index], until,
                           [tally, ended = std::move(ended)](const absl::Status& status) mutable {
                             std::move(ended)(tally->Take(status));
                           });
      },
      [call, tally, count] {
        MutexLock lock(tally->mutex);
        if (tally->failure.ok()) return ReplyPinned(call, tally->pinned);
        call->Fail(Annotate(tally->failure,
                            absl::StrCat("of ", count, " keys ", tally->pinned, " are pinned")));
      });
}

// How many leading pieces are in memory with all planes up to `level` that any tier has.
uint64_t CountWarm(const storage::PieceStore& pieces, storage::TenantId tenant,
                   const std::vector<Key>& keys, uint32_t level) {
  uint64_t warm = 0;
  for (const Key& key : keys) {
    const storage::PieceRef here = pieces.Peek(tenant, key);
    const std::optional<storage::PieceSummary> held = pieces.Describe(tenant, key);
    if (here == nullptr || !held.has_value()) break;
    if (here->level() < std::min(level, held->planes_held - 1)) break;
    ++warm;
  }
  return warm;
}

}  // namespace

void HandlePin(StoreContext& context, const CallPtr& call) {
  v1::PinRequest request;
  if (!request.ParseFromString(call->message())) {
    return call->Fail(absl::InvalidArgumentError("the Pin message cannot be parsed"));
  }
  absl::StatusOr<std::vector<Key>> keys = ParseKeys(request);
  if (!keys.ok()) return call->Fail(keys.status());
  const std::chrono::seconds time(request.ttl_s());
  if (time > kMaxPin) {
    return call->Fail(absl::InvalidArgumentError(
        absl::StrCat("a pin for ", request.ttl_s(), " seconds; at most ",
                     std::chrono::seconds(kMaxPin).count(), " are allowed, then pin again")));
  }
  if (time.count() > 0) {
    return PinAll(context, call, *std::move(keys), Deadline(context.clock.Now() + time));
  }
  uint64_t unpinned = 0;
  for (const Key& key : *keys) unpinned += context.pieces.Unpin(call->tenant(), key) ? 1 : 0;
  ReplyPinned(call, unpinned);
}

void HandleWarm(StoreContext& context, const CallPtr& call) {
  v1::WarmRequest request;
  if (!request.ParseFromString(call->message())) {
    return call->Fail(absl::InvalidArgumentError("the Warm message cannot be parsed"));
  }
  absl::StatusOr<std::vector<Key>> parsed = ParseKeys(request);
  if (!parsed.ok()) return call->Fail(parsed.status());
  const auto keys = std::make_shared<const std::vector<Key>>(*std::move(parsed));
  const uint32_t level = request.level();
  WindowedRun::Begin(
      keys->size(),
      [&context, call, keys, level](size_t index, WindowedRun::Ended ended) {
        if (!call->StillWanted().ok()) return std::move(ended)(false);
        const Key& key = (*keys)[index];
        const std::optional<storage::PieceSummary> held =
            context.pieces.Describe(call->tenant(), key);
        if (!held.has_value()) return std::move(ended)(false);
        context.pieces.Warm(call->tenant(), key, std::min(level, held->planes_held - 1),
                            [ended = std::move(ended)](const storage::PieceRef& piece) mutable {
                              std::move(ended)(piece != nullptr);
                            });
      },
      [&context, call, keys, level] {
        if (const absl::Status wanted = call->StillWanted(); !wanted.ok()) {
          return call->Fail(wanted);
        }
        v1::WarmReply reply;
        reply.set_warm(CountWarm(context.pieces, call->tenant(), *keys, level));
        call->Reply(reply.SerializeAsString());
      });
}

}  // namespace reprise::store
