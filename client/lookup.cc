// Lookup: how many leading chunks of a prefix the stores hold.
//
// Each run of chunks is asked of the first of its nodes that answers; all nodes at once.

#include <algorithm>
#include <map>
#include <memory>
#include <numeric>
#include <utility>

#include "client/entry_points.h"
#include "client/hit_rule.h"
#include "client/miss_reason.h"
#include "client/placement.h"
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
        hold_level_(options.hold_level),
        placement_(view(), lookup_core.options.replicas, keys),
        runs_((chunk_count_ + kRunChunks - 1) / kRunChunks) {
    keys_.reserve(keys.chunk_count() * slot_count_);
    for (uint32_t chunk = 0; chunk < chunk_count_; ++chunk) {
      for (uint32_t slot = 0; slot < slot_count_; ++slot) keys_.push_back(keys.key(chunk, slot));
    }
    answers_.resize(keys_.size());
    // Only where every piece of every chunk is needed does the first absent one end the prefix.
    stop_at_absent_ = std::all_of(reaches_.begin(), reaches_.end(),
                                  [](uint32_t reach) { return reach == kWholePrefix; });
  }

 private:
  // A node, and the keys that it is asked for, a batch at a time.
  struct Question {
    uint32_t node = 0;
    bool last = false;         // no other node can be asked for these
    std::vector<size_t> keys;  // ascending
    size_t answered = 0;       // of them, from the first on
  };
  struct Answer {
    bool given = false;
    std::optional<PieceState> state;
  };
  struct RunState {
    uint32_t attempts = 0;  // nodes that did not answer
    absl::Status failure;   // of the last of them, when there was no other to ask
  };

  uint32_t RunOf(size_t key) const { return static_cast<uint32_t>(key / slot_count_) / kRunChunks; }

  void Start() override {
    if (keys_.empty()) return Conclude();
    std::vector<size_t> all(keys_.size());
    std::iota(all.begin(), all.end(), size_t{0});
    AskNodes(all);
  }

  // Asks for `keys`, ascending, the node whose turn it is for each.
  void AskNodes(const std::vector<size_t>& keys) ABSL_LOCKS_EXCLUDED(answers_mutex_) {
    std::map<std::pair<uint32_t, bool>, std::shared_ptr<Question>> questions;
    {
      MutexLock lock(answers_mutex_);
      for (const size_t key : keys) {
        const Replicas& replicas = placement_.OfChunk(RunOf(key) * kRunChunks);
        const uint32_t node = replicas[runs_[RunOf(key)].attempts];
        const bool last = node == replicas.back();
        std::shared_ptr<Question>& question = questions[{node, last}];
        if (question == nullptr)
          question = std::make_shared<Question>(
              Question{.node = node, .last = last, .keys = {}, .answered = 0});
        question->keys.push_back(key);
      }
      under_way_ += questions.size();
    }
    for (const auto& [place, question] : questions) Send(question);
  }

  void Send(const std::shared_ptr<Question>& question) {
    const size_t end = std::min(question->keys.size(), question->answered + kMaxKeysPerLookup);
    v1::LookupRequest request;
    request.mutable_keys()->Reserve(static_cast<int>(end - question->answered));
    for (size_t i = question->answered; i < end; ++i)
      request.add_keys(std::string(keys_[question->keys[i]].digest.AsString()));
    request.set_stop_at_absent(stop_at_absent_);
    request.set_hold_ms(static_cast<uint32_t>(hold_.count()));
    request.set_hold_level(hold_level_);
    auto self = std::static_pointer_cast<LookupOperation>(shared_from_this());
    CallUnary(question->node, Patience(question->last), v1::LOOKUP, request.SerializeAsString(), {},
              [self, question, end](const absl::StatusOr<transport::UnaryReply>& reply) {
                self->OnReply(question, end, reply);
              });
  }

  void OnReply(const std::shared_ptr<Question>& question, size_t end,
               const absl::StatusOr<transport::UnaryReply>& reply)
      ABSL_LOCKS_EXCLUDED(answers_mutex_) {
    bool more = false;
    std::vector<size_t> for_replicas;
    {
      MutexLock lock(answers_mutex_);
      const absl::StatusOr<bool> taken = TakeReply(*question, end, reply);
      if (taken.ok()) {
        more = *taken;
      } else {
        for_replicas = TakeFailure(*question, taken.status());
      }
    }
    if (more) return Send(question);
    AskNodes(for_replicas);
    {
      MutexLock lock(answers_mutex_);
      if (--under_way_ > 0) return;
    }
    Conclude();
  }

  // Whether the question goes on; an error when the node did not answer.
  absl::StatusOr<bool> TakeReply(Question& question, size_t end,
                                 const absl::StatusOr<transport::UnaryReply>& reply)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(answers_mutex_) {
    REPRISE_RETURN_IF_ERROR(reply.status());
    v1::LookupReply answer;
    const size_t asked = end - question.answered;
    if (!answer.ParseFromString(reply->message) ||
        static_cast<size_t>(answer.pieces_size()) > asked) {
      return absl::UnavailableError("the store's answer to a lookup makes no sense");
    }
    result_.store_queue_delay =
        std::max(result_.store_queue_delay, std::chrono::microseconds(answer.queue_delay_us()));
    bool ended = static_cast<size_t>(answer.pieces_size()) < asked;
    bool hit = false;
    for (const v1::PieceInfo& info : answer.pieces()) {
      Answer& given = answers_[question.keys[question.answered++]];
      given = {.given = true, .state = ReadPieceInfo(info)};
      hit = hit || given.state;
      if (stop_at_absent_ && !given.state) ended = true;
    }
    // A batch without hits had nothing to hold, and says nothing about the others' holds.
    if (hit) TakeHold(std::chrono::milliseconds(answer.held_ms()));
    return !ended && question.answered < question.keys.size();
  }

  void TakeHold(std::chrono::milliseconds held) ABSL_EXCLUSIVE_LOCKS_REQUIRED(answers_mutex_) {
    result_.held = any_hit_ ? std::min(result_.held, held) : held;
    any_hit_ = true;
  }

  // The keys that other nodes are to be asked for.
  std::vector<size_t> TakeFailure(const Question& question, const absl::Status& failure)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(answers_mutex_) {
    const auto first = question.keys.begin() + static_cast<ptrdiff_t>(question.answered);
    const bool in_vain = question.last || cancelled() || deadline().PassedAt(Clock::Steady().Now());
    std::optional<uint32_t> counted;
    for (auto key = first; key != question.keys.end(); ++key) {
      if (counted == RunOf(*key)) continue;
      counted = RunOf(*key);
      if (in_vain) {
        runs_[*counted].failure = failure;
      } else {
        ++runs_[*counted].attempts;
      }
    }
    if (in_vain) return {};
    return {first, question.keys.end()};
  }

  // What is known, and why not more. Nothing is under way any more.
  void Conclude() ABSL_LOCKS_EXCLUDED(answers_mutex_) {
    std::vector<Answer> answers;
    std::vector<RunState> runs;
    LookupResult result;
    {
      MutexLock lock(answers_mutex_);
      answers = std::move(answers_);
      runs = std::move(runs_);
      result = std::move(result_);
    }
    const bool complete =
        std::all_of(runs.begin(), runs.end(), [](const RunState& run) { return run.failure.ok(); });
    if (cancelled() && !complete) return Finish(absl::CancelledError("the lookup was cancelled"));
    const auto held = [&](uint32_t chunk, uint32_t slot) {
      return answers[size_t{chunk} * slot_count_ + slot].state.has_value();
    };
    result.chunks = LongestHit(reaches_, 0, chunk_count_, held);
    if (result.chunks < chunk_count_) {
      uint32_t slot = 0;
      while (slot + 1 < slot_count_ && held(result.chunks, slot)) ++slot;
      result.miss = Miss{.chunk = result.chunks,
                         .slot = slot,
                         .reason = MissReason::kAbsent,
                         .detail = "the store does not hold the key"};
      const absl::Status& failure = runs[result.chunks / kRunChunks].failure;
      if (!failure.ok() && !answers[size_t{result.chunks} * slot_count_ + slot].given) {
        result.miss->reason = ReasonOfCall(failure);
        result.miss->detail = std::string(failure.message());
        core().counters.Missed(result.miss->reason);
      }
    }
    answers.resize(size_t{result.chunks} * slot_count_);
    result.pieces.reserve(answers.size());
    for (Answer& answer : answers)
      result.pieces.push_back(std::move(answer.state).value_or(PieceState{}));
    Finish(std::move(result));
  }

  const uint32_t slot_count_;
  const uint32_t chunk_count_;
  const std::vector<uint32_t> reaches_;
  const std::chrono::milliseconds hold_;
  const uint32_t hold_level_;
  const Placement placement_;
  std::vector<Key> keys_;
  bool stop_at_absent_ = false;

  Mutex answers_mutex_;
  std::vector<Answer> answers_ ABSL_GUARDED_BY(answers_mutex_);  // to each key
  std::vector<RunState> runs_ ABSL_GUARDED_BY(answers_mutex_);
  size_t under_way_ ABSL_GUARDED_BY(answers_mutex_) = 0;  // questions
  bool any_hit_ ABSL_GUARDED_BY(answers_mutex_) = false;
  LookupResult result_ ABSL_GUARDED_BY(answers_mutex_);
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
