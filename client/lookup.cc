// Lookup: how many leading chunks of a prefix the store holds.

#include <algorithm>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"

#include "client/entry_points.h"
#include "client/hit_rule.h"
#include "common/limits.h"
#include "proto/reprise.pb.h"

namespace reprise::client {
namespace {

class LookupOperation final : public OperationOf<LookupResult> {
 public:
  LookupOperation(Core& lookup_core, Deadline deadline, const PrefixKeys& keys,
                  LookupOptions options)
      : OperationOf(lookup_core, deadline),
        slot_count_(static_cast<uint32_t>(keys.pieces_per_chunk())),
        chunk_count_(static_cast<uint32_t>(keys.chunk_count())),
        reaches_(SlotReaches(keys)),
        hold_(std::clamp(options.hold, std::chrono::milliseconds{0}, kMaxHold)) {
    keys_.reserve(keys.chunk_count() * slot_count_);
    for (uint32_t chunk = 0; chunk < chunk_count_; ++chunk) {
      for (uint32_t slot = 0; slot < slot_count_; ++slot) keys_.push_back(keys.key(chunk, slot));
    }
    // Only where every piece of every chunk is needed does the first absent one end the prefix.
    stop_at_absent_ = std::all_of(reaches_.begin(), reaches_.end(),
                                  [](uint32_t reach) { return reach == kWholePrefix; });
  }

 private:
  void OnChannel() override { Ask(); }

  void Ask() {
    if (states_.size() == keys_.size()) return Answer();
    const size_t end = std::min(keys_.size(), states_.size() + kMaxKeysPerLookup);
    v1::LookupRequest request;
    request.mutable_keys()->Reserve(static_cast<int>(end - states_.size()));
    for (size_t i = states_.size(); i < end; ++i)
      request.add_keys(std::string(keys_[i].digest.AsString()));
    request.set_stop_at_absent(stop_at_absent_);
    request.set_hold_ms(static_cast<uint32_t>(hold_.count()));
    request.set_hold_level(kMaxPlanes - 1);
    auto self = std::static_pointer_cast<LookupOperation>(shared_from_this());
    CallUnary(v1::LOOKUP, request.SerializeAsString(), {},
              [self, end](absl::StatusOr<transport::UnaryReply> reply) {
                self->OnReply(end, std::move(reply));
              });
  }

  void OnReply(size_t end, absl::StatusOr<transport::UnaryReply> reply) {
    if (!reply.ok()) return OnRefused(reply.status());
    v1::LookupReply answer;
    const size_t asked = end - states_.size();
    if (!answer.ParseFromString(reply->message) ||
        static_cast<size_t>(answer.pieces_size()) > asked) {
      return OnRefused(absl::UnavailableError("the store's answer to a lookup makes no sense"));
    }
    result_.store_queue_delay = std::chrono::microseconds(answer.queue_delay_us());
    const std::chrono::milliseconds held(answer.held_ms());
    result_.held = states_.empty() ? held : std::min(result_.held, held);
    bool ended = static_cast<size_t>(answer.pieces_size()) < asked;
    for (const v1::PieceInfo& info : answer.pieces()) {
      states_.push_back(ReadPieceInfo(info));
      if (stop_at_absent_ && !states_.back()) ended = true;
    }
    if (ended) return Answer();
    Ask();
  }

  void Answer() {
    const auto held = [this](uint32_t chunk, uint32_t slot) {
      const size_t index = size_t{chunk} * slot_count_ + slot;
      return index < states_.size() && states_[index].has_value();
    };
    result_.chunks = LongestHit(reaches_, 0, chunk_count_, held);
    const size_t reported = size_t{result_.chunks} * slot_count_;
    result_.pieces.reserve(reported);
    for (size_t i = 0; i < reported; ++i) {
      result_.pieces.push_back(states_[i] ? *std::move(states_[i]) : PieceState{});
    }
    if (result_.chunks < chunk_count_) {
      uint32_t slot = 0;
      while (slot + 1 < slot_count_ && held(result_.chunks, slot)) ++slot;
      result_.miss = Miss{.chunk = result_.chunks,
                          .slot = slot,
                          .reason = MissReason::kAbsent,
                          .detail = "the store does not hold the key"};
    }
    Finish(std::move(result_));
  }

  // A store that cannot be reached holds nothing.
  void OnRefused(absl::Status status) override {
    if (absl::IsCancelled(status) || absl::IsResourceExhausted(status))
      return Finish(std::move(status));
    const MissReason reason =
        absl::IsDeadlineExceeded(status) ? MissReason::kDeadline : MissReason::kPeerLost;
    core().counters.Missed(reason);
    LookupResult nothing;
    nothing.miss =
        Miss{.chunk = 0, .slot = 0, .reason = reason, .detail = std::string(status.message())};
    Finish(std::move(nothing));
  }

  const uint32_t slot_count_;
  const uint32_t chunk_count_;
  const std::vector<uint32_t> reaches_;
  const std::chrono::milliseconds hold_;
  std::vector<Key> keys_;
  bool stop_at_absent_ = false;
  std::vector<std::optional<PieceState>> states_;  // of the keys answered so far
  LookupResult result_;
};

}  // namespace

std::optional<PieceState> ReadPieceInfo(const v1::PieceInfo& info) {
  const std::optional<Digest> content_id = Digest::FromBytes(info.content_id());
  const int levels = info.levels_size();
  if (!content_id || levels < 1 || levels > static_cast<int>(kMaxPlanes) ||
      info.planes_held() < 1 || info.planes_held() > static_cast<uint32_t>(levels)) {
    return std::nullopt;
  }
  PieceState state;
  state.content_id = ContentId{*content_id};
  state.planes_held = info.planes_held();
  for (const v1::LevelInfo& level : info.levels()) {
    state.level_bytes.push_back(level.bytes());
    state.distortions.push_back({.key = level.key_distortion(), .value = level.value_distortion()});
  }
  return state;
}

Async<LookupResult> BeginLookup(Core& core, const PrefixKeys& keys, LookupOptions options,
                                Deadline deadline) {
  return LookupOperation::Run(std::make_shared<LookupOperation>(core, deadline, keys, options));
}

}  // namespace reprise::client
