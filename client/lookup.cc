// Lookup: how many leading chunks of a prefix the store holds.

#include <algorithm>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"

#include "client/entry_points.h"
#include "client/hit_rule.h"
#include "client/miss_reason.h"
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
        hold_(std::clamp(options.hold, std::chrono::milliseconds{0}, kMaxHold)),
        hold_level_(options.hold_level) {
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
    request.set_hold_level(hold_level_);
    auto self = std::static_pointer_cast<LookupOperation>(shared_from_this());
    CallUnary(v1::LOOKUP, request.SerializeAsString(), {},
              [self, end](absl::StatusOr<transport::UnaryReply> reply) {
                self->OnReply(end, std::move(reply));
              });
  }

  void OnReply(size_t end, absl::StatusOr<transport::UnaryReply> reply) {
    if (!reply.ok()) return EndEarly(reply.status());
    v1::LookupReply answer;
    const size_t asked = end - states_.size();
    if (!answer.ParseFromString(reply->message) ||
        static_cast<size_t>(answer.pieces_size()) > asked) {
      return EndEarly(absl::UnavailableError("the store's answer to a lookup makes no sense"));
    }
    result_.store_queue_delay = std::chrono::microseconds(answer.queue_delay_us());
    bool ended = static_cast<size_t>(answer.pieces_size()) < asked;
    bool hit = false;
    for (const v1::PieceInfo& info : answer.pieces()) {
      states_.push_back(ReadPieceInfo(info));
      hit = hit || states_.back();
      if (stop_at_absent_ && !states_.back()) ended = true;
    }
    // A batch without hits had nothing to hold, and says nothing about the others' holds.
    if (hit) TakeHold(std::chrono::milliseconds(answer.held_ms()));
    if (ended) return Answer();
    Ask();
  }

  void TakeHold(std::chrono::milliseconds held) {
    result_.held = any_hit_ ? std::min(result_.held, held) : held;
    any_hit_ = true;
  }

  // What is known so far, and why not more.
  void EndEarly(const absl::Status& status) {
    if (cancelled()) return Finish(absl::CancelledError("the lookup was cancelled"));
    unanswered_ = ReasonOfCall(status);
    unanswered_detail_ = std::string(status.message());
    core().counters.Missed(unanswered_);
    Answer();
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
      const bool answered = size_t{result_.chunks} * slot_count_ + slot < states_.size();
      result_.miss = Miss{
          .chunk = result_.chunks,
          .slot = slot,
          .reason = answered ? MissReason::kAbsent : unanswered_,
          .detail = answered ? "the store does not hold the key" : std::move(unanswered_detail_)};
    }
    Finish(std::move(result_));
  }

  // A store that cannot be reached holds nothing.
  void OnUnreachable(absl::Status status) override { EndEarly(status); }

  const uint32_t slot_count_;
  const uint32_t chunk_count_;
  const std::vector<uint32_t> reaches_;
  const std::chrono::milliseconds hold_;
  const uint32_t hold_level_;
  std::vector<Key> keys_;
  bool stop_at_absent_ = false;
  std::vector<std::optional<PieceState>> states_;  // of the keys answered so far
  bool any_hit_ = false;
  // Of the keys that were not answered. A store that stops at the first absent key leaves it out.
  MissReason unanswered_ = MissReason::kAbsent;
  std::string unanswered_detail_ = "the store does not hold the key";
  LookupResult result_;
};

Tier ReadTier(v1::Tier tier) {
  switch (tier) {
    case v1::GPU:
      return Tier::kGpu;
    case v1::HOST:
      return Tier::kHost;
    case v1::NVME:
      return Tier::kNvme;
    default:
      return Tier::kUnknown;
  }
}

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
  state.tier = ReadTier(info.tier());
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
