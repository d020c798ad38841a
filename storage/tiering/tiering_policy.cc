#include "storage/tiering/tiering_policy.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/hash/hash.h"
#include "absl/numeric/int128.h"

namespace reprise::storage {
namespace {

// Below that many calls, no piece grows much older.
constexpr uint64_t kMovePeriod = ReuseModel::kFirstAgeCalls;
constexpr size_t kHistoryPerPiece = 4;
constexpr uint32_t kCountClasses = 4;
constexpr uint32_t kTurnClasses = ReuseModel::kClasses / kCountClasses;
// Used more often than that, a piece is no conversation's but a beginning that many share.
constexpr uint32_t kSharedUses = 8;
// Octaves of recompute seconds per byte that are told apart, most of them below the usual.
constexpr int kDensities = 16;
constexpr int kUsualDensity = 9;
constexpr int kMinOctave = -100;
constexpr int kMaxOctave = 100;
// A piece used within the last 2,048 calls may belong to a prompt that is still being published:
// giving up its end would cut off all that is to follow, so it counts for more. How much more
// decides which share of new prompts comes in at all while everything that is held is worth waiting
// for: some, so that they wait long enough to be used. Where the tier below has room, what comes in
// is not lost when it has to go, so more may come. docs/tiering.md has what other values do.
constexpr uint32_t kUnfinishedAges = 6;
constexpr double kUnfinishedWorth = 2.5;
constexpr double kUnfinishedWorthPerRoomBelow = 0.75;
// Pieces that came or were used within as many calls as an eighth of all pieces are fresh: they may
// lose precision, but go last.
constexpr size_t kFreshShare = 8;
// A write to the next tier pays when one in six of such pieces is used before it would be evicted
// there.
constexpr double kDemotionProbability = 1.0 / 6;
// Pieces that cannot be reached; then a list for each class, age and density.
constexpr RankedLists::List kUnreachable = 0;
constexpr size_t kLists = 1 + size_t{ReuseModel::kClasses} * ReuseModel::kAges * kDensities;

// One multiplication per 8 bytes, both halves of each product kept. Of a key every byte counts.
uint64_t NameOf(uint64_t seed, TenantId tenant, uint64_t position, const Key& key) {
  const auto mix = [](uint64_t a, uint64_t b) {
    const absl::uint128 product = absl::uint128(a ^ 0x9E3779B97F4A7C15) * (b ^ 0xD1B54A32D192ED03);
    return absl::Uint128Low64(product) ^ absl::Uint128High64(product);
  };
  uint64_t name = mix(mix(seed, tenant), position);
  const auto& bytes = key.digest.bytes;
  for (size_t at = 0; at < bytes.size(); at += sizeof(uint64_t)) {
    uint64_t word = 0;
    for (size_t i = 0; i < sizeof(uint64_t); ++i) {
      word |= std::to_integer<uint64_t>(bytes[at + i]) << (8 * i);
    }
    name = mix(name ^ word, seed);
  }
  return name == 0 ? 1 : name;
}

int8_t OctaveOf(double seconds, double bytes) {
  const double density = seconds / std::max(bytes, 1.0);
  // Publishers may say anything.
  if (!(density > 0) || !std::isfinite(density)) return kMinOctave;
  const double octave = std::round(std::log2(density));
  return static_cast<int8_t>(std::clamp(octave, double{kMinOctave}, double{kMaxOctave}));
}

bool Within(const Distortion& distortion, const Distortion& floor) {
  return distortion.key <= floor.key && distortion.value <= floor.value;
}

// What an error does to a model's output, measured as divergence, grows with its square.
double HarmOf(const Distortion& distortion) {
  const double worst = std::max(distortion.key, distortion.value);
  return worst * worst;
}

}  // namespace

struct TieringPolicy::Node final : TrackedPiece, RankedLists::Entry {
  // Planes that may be given up together.
  struct Refinement {
    uint8_t keep_planes = 0;
    int8_t octave = 0;  // of seconds per byte given up
  };
  // So many planes go one by one, but the last of these steps takes all that are left.
  static constexpr size_t kRefinements = 4;

  explicit Node(uint64_t tag) : TrackedPiece(tag) {}

  bool has_refinement() const { return floor_planes != 0 && planes_held > floor_planes; }
  // The next that may go.
  Refinement next_refinement() const {
    const size_t step = std::min<size_t>(top_planes - planes_held, kRefinements - 1);
    const bool is_last = step == kRefinements - 1;
    return {.keep_planes = is_last ? floor_planes : static_cast<uint8_t>(planes_held - 1),
            .octave = refinement_octaves[step]};
  }
  Victim AsVictim() {
    return {.piece = this, .keep_planes = has_refinement() ? next_refinement().keep_planes : 0u};
  }
  bool may_be_victim() const { return !held && (children == 0 || has_refinement()); }
  uint32_t piece_class() const {
    const uint32_t count = uses <= 2 ? uses - 1 : uses <= 4 ? 2 : 3;
    return count * kTurnClasses + std::min<uint32_t>(turn, kTurnClasses) - 1;
  }
  void AddRefinements(const PolicyPiece& piece, const TieringOptions& options);

  uint64_t name = 0;
  uint64_t parent = 0;  // 0: it begins a prefix
  uint32_t children = 0;
  uint8_t uses = 0;
  uint8_t turn = 1;
  uint8_t planes_held = 0;
  int8_t octave = 0;         // of the whole piece, at its floor
  uint8_t top_planes = 0;    // when it came
  uint8_t floor_planes = 0;  // 0: it only goes whole
  std::array<int8_t, kRefinements> refinement_octaves{};
  bool held : 1 = false;
  bool reachable : 1 = false;
  bool demoted : 1 = false;
  bool child_demoted : 1 = false;
};

void TieringPolicy::Node::AddRefinements(const PolicyPiece& piece, const TieringOptions& options) {
  octave = OctaveOf(piece.attributes.recompute_seconds, static_cast<double>(piece.size_bytes));
  const auto levels = piece.levels.first(std::min<size_t>(piece.planes_held, piece.levels.size()));
  if (levels.empty() || HarmOf(options.floor) <= 0) return;
  const auto floor = std::find_if(levels.begin(), levels.end(), [&](const auto& level) {
    return Within(level.distortion, options.floor);
  });
  if (floor == levels.end() || floor + 1 == levels.end()) return;
  const auto first = static_cast<size_t>(floor - levels.begin());
  octave = OctaveOf(piece.attributes.recompute_seconds, static_cast<double>(floor->bytes));
  const double seconds = piece.attributes.recompute_seconds * options.refinement_worth;
  const double harm = std::max(HarmOf(floor->distortion), 1e-18);
  top_planes = static_cast<uint8_t>(levels.size());
  floor_planes = static_cast<uint8_t>(first + 1);
  size_t above = levels.size() - 1;
  for (int8_t& step : refinement_octaves) {
    if (above == first) break;
    const size_t below = &step == &refinement_octaves.back() ? first : above - 1;
    const double gain = HarmOf(levels[below].distortion) - HarmOf(levels[above].distortion);
    const double bytes =
        static_cast<double>(levels[above].bytes) - static_cast<double>(levels[below].bytes);
    step = OctaveOf(seconds * gain / harm, bytes);
    above = below;
  }
}

size_t TieringPolicy::NameHash::operator()(uint64_t name) const { return absl::HashOf(name); }

size_t TieringPolicy::NameHash::operator()(const std::unique_ptr<Node>& node) const {
  return (*this)(node->name);
}

bool TieringPolicy::NameEqual::operator()(const std::unique_ptr<Node>& a, uint64_t b) const {
  return a->name == b;
}

bool TieringPolicy::NameEqual::operator()(const std::unique_ptr<Node>& a,
                                          const std::unique_ptr<Node>& b) const {
  return a->name == b->name;
}

TieringPolicy::TieringPolicy(size_t max_pieces, const TieringOptions& options)
    : options_(options),
      model_(max_pieces),
      history_(kHistoryPerPiece * max_pieces),
      lists_(kLists) {
  // An eighth more: the table then never grows only to drop its tombstones.
  nodes_.reserve(max_pieces + max_pieces / 8);
  Learn();
}

TieringPolicy::~TieringPolicy() = default;

TrackedPiece* TieringPolicy::Insert(const PolicyPiece& piece) {
  Settle();
  const PieceAttributes& attributes = piece.attributes;
  auto added = std::make_unique<Node>(piece.tag);
  Node* const node = added.get();
  node->name = NameOf(options_.name_seed, piece.tenant, attributes.position, piece.key);
  // Of two pieces of one name the second goes by another, under which no piece builds on it.
  while (nodes_.contains(node->name)) ++node->name;
  nodes_.insert(std::move(added));
  if (const auto waiting = waiting_.find(node->name); waiting != waiting_.end()) {
    node->children = waiting->second;
    waiting_.erase(waiting);
  }
  if (attributes.parent.has_value() && attributes.position > 0) {
    node->parent =
        NameOf(options_.name_seed, piece.tenant, attributes.position - 1, *attributes.parent);
    if (Node* parent = Find(node->parent); parent != nullptr) {
      ++parent->children;
      if (!parent->may_be_victim()) lists_.Erase(parent);
    } else {
      ++waiting_[node->parent];
    }
  }
  const UseHistory::Past past = history_.Find(node->name);
  node->uses = static_cast<uint8_t>(past.uses);
  node->turn = static_cast<uint8_t>(past.uses > 0 ? past.turn : TurnOf(node->parent));
  node->planes_held = static_cast<uint8_t>(piece.planes_held);
  node->AddRefinements(piece, options_);
  octave_sum_ += node->octave;
  bytes_sum_ += static_cast<double>(piece.size_bytes);
  if (came_++ == 0) LearnWhatIsUsual();
  Touch(node);
  return node;
}

void TieringPolicy::Use(TrackedPiece* piece) { Touch(static_cast<Node*>(piece)); }

void TieringPolicy::Remove(TrackedPiece* piece) {
  Node* const node = static_cast<Node*>(piece);
  lists_.Erase(node);
  history_.Remember(node->name, {.uses = node->uses, .turn = node->turn});
  if (node->parent != 0) {
    if (Node* parent = Find(node->parent); parent != nullptr) {
      --parent->children;
      if (!parent->listed()) Place(parent);
    } else if (const auto waiting = waiting_.find(node->parent); --waiting->second == 0) {
      waiting_.erase(waiting);
    }
  }
  if (node->children > 0) waiting_[node->name] = node->children;
  nodes_.erase(nodes_.find(node->name));
}

void TieringPolicy::SetHeld(TrackedPiece* piece, bool held) {
  Node* const node = static_cast<Node*>(piece);
  node->held = held;
  lists_.Erase(node);
  Place(node);
}

void TieringPolicy::Shed(TrackedPiece* piece, uint32_t planes_held, uint64_t /*size_bytes*/) {
  Node* const node = static_cast<Node*>(piece);
  node->planes_held = static_cast<uint8_t>(planes_held);
  lists_.Erase(node);
  Place(node);
}

Victim TieringPolicy::ChooseVictim(bool fresh_too,
                                   absl::FunctionRef<bool(const TrackedPiece&)> can_evict) {
  Settle();
  const Victim victim = Choose(/*fresh_too=*/false, can_evict);
  return victim.piece != nullptr || !fresh_too ? victim : Choose(/*fresh_too=*/true, can_evict);
}

Victim TieringPolicy::Choose(bool fresh_too,
                             absl::FunctionRef<bool(const TrackedPiece&)> can_evict) {
  for (auto list = lists_.Lowest(); list.has_value(); list = lists_.NextAfter(*list)) {
    RankedLists::Entry* next = nullptr;
    for (RankedLists::Entry* entry = lists_.Oldest(*list); entry != nullptr; entry = next) {
      next = lists_.NewerThan(entry);
      Node* const node = static_cast<Node*>(entry);
      if (*list == kUnreachable && HasBecomeReachable(node)) continue;
      if (!fresh_too && IsFresh(*node)) {
        // What follows in the list is fresher still, but may have planes to give up.
        if (HarmOf(options_.floor) <= 0) break;
        continue;
      }
      if (can_evict(*node)) return node->AsVictim();
    }
  }
  return {};
}

Victim TieringPolicy::ChooseAmong(bool fresh_too, std::span<TrackedPiece* const> pieces) {
  Settle();
  Node* least = nullptr;
  // What is fresh goes last; of equals, what was used longest ago first.
  std::tuple<bool, uint16_t, uint64_t> least_rank;
  for (TrackedPiece* const piece : pieces) {
    Node* const node = static_cast<Node*>(piece);
    if (!node->may_be_victim()) continue;
    if (!node->reachable) HasBecomeReachable(node);
    const bool fresh = IsFresh(*node);
    if (fresh && !fresh_too) continue;
    const std::tuple rank{fresh, lists_.RankOf(ListOf(*node)), node->last_use};
    if (least != nullptr && rank >= least_rank) continue;
    least = node;
    least_rank = rank;
  }
  return least == nullptr ? Victim{} : least->AsVictim();
}

bool TieringPolicy::IsFresh(const Node& node) const {
  return !node.has_refinement() && calls_ - node.last_use < nodes_.size() / kFreshShare;
}

bool TieringPolicy::HasBecomeReachable(Node* node) {
  if (!Reachable(*node)) return false;
  // The one it builds on came after it.
  node->reachable = true;
  lists_.Erase(node);
  Place(node);
  return true;
}

bool TieringPolicy::WorthDemoting(const TrackedPiece& piece) const {
  const Node& node = static_cast<const Node&>(piece);
  if (options_.next_tier_bytes == 0) return false;
  if (node.child_demoted) return true;
  if (!node.reachable) return false;
  // An empty disk saves nothing; half of it is for what is likely to be used again.
  if (demotions_ < pieces_below_ / 2) return true;
  return model_.UseWithin(node.piece_class(), ReuseModel::AgeOf(calls_ - node.last_use),
                          pieces_below_) >= kDemotionProbability;
}

void TieringPolicy::SetDemoted(TrackedPiece* piece) {
  Node* const node = static_cast<Node*>(piece);
  ++demotions_;
  node->demoted = true;
  if (!node->reachable) {
    node->reachable = true;
    lists_.Erase(node);
    Place(node);
  }
  if (Node* parent = Find(node->parent); parent != nullptr) parent->child_demoted = true;
}

size_t TieringPolicy::fixed_bytes() const {
  return sizeof(*this) + model_.bytes() + history_.bytes() + lists_.bytes() +
         nodes_.capacity() * (sizeof(*nodes_.begin()) + 1);
}

size_t TieringPolicy::bytes_per_piece() const {
  // The node, and a place in `waiting_`, which may be just half full.
  return sizeof(Node) + 2 * (sizeof(*waiting_.begin()) + 1);
}

TieringPolicy::Node* TieringPolicy::Find(uint64_t name) const {
  const auto found = nodes_.find(name);
  return found == nodes_.end() ? nullptr : found->get();
}

bool TieringPolicy::Reachable(const Node& node) const {
  // The next tier has what a piece there builds on.
  if (options_.below_another_tier || node.parent == 0 || node.demoted) return true;
  const Node* parent = Find(node.parent);
  return parent != nullptr && parent->reachable;
}

uint32_t TieringPolicy::TurnOf(uint64_t parent_name) const {
  UseHistory::Past parent;
  if (const Node* node = Find(parent_name); node != nullptr) {
    parent = {.uses = node->uses, .turn = node->turn};
  } else {
    parent = history_.Find(parent_name);
  }
  // One that was there before this request ends a turn before this one.
  if (parent.uses == 0 || parent.uses > kSharedUses) return 1;
  return std::min(parent.uses > 1 ? parent.turn + 1 : parent.turn, UseHistory::kMaxTurn);
}

void TieringPolicy::Touch(Node* node) {
  ++calls_;
  lists_.Erase(node);
  node->uses = static_cast<uint8_t>(std::min<uint32_t>(node->uses + 1u, UseHistory::kMaxUses));
  node->last_use = calls_;
  node->reachable = Reachable(*node);
  model_.Observe(node->name, node->piece_class(), calls_);
  Place(node);
}

void TieringPolicy::Place(Node* node) {
  if (node->may_be_victim()) lists_.Insert(node, ListOf(*node));
}

RankedLists::List TieringPolicy::ListOf(const Node& node) const {
  if (!node.reachable) return kUnreachable;
  const int octave = node.has_refinement() ? node.next_refinement().octave : node.octave;
  const int density = std::clamp(octave - usual_octave_ + kUsualDensity, 0, kDensities - 1);
  const uint32_t age = ReuseModel::AgeOf(calls_ - node.last_use);
  const uint32_t cell = node.piece_class() * ReuseModel::kAges + age;
  return static_cast<RankedLists::List>(1 + cell * kDensities + static_cast<uint32_t>(density));
}

void TieringPolicy::Settle() {
  if (calls_ - learnt_at_ >= model_.learning_period()) Learn();
  if (calls_ - moved_at_ >= kMovePeriod) MoveAged();
}

void TieringPolicy::MoveAged() {
  moved_at_ = calls_;
  for (auto list = lists_.Lowest(); list.has_value(); list = lists_.NextAfter(*list)) {
    if (*list == kUnreachable) continue;
    const uint32_t age = (*list - 1u) / kDensities % ReuseModel::kAges;
    RankedLists::Entry* next = nullptr;
    for (RankedLists::Entry* entry = lists_.Oldest(*list); entry != nullptr; entry = next) {
      if (ReuseModel::AgeOf(calls_ - entry->last_use) <= age) break;
      next = lists_.NewerThan(entry);
      lists_.Erase(entry);
      Place(static_cast<Node*>(entry));
    }
  }
}

void TieringPolicy::Learn() {
  learnt_at_ = calls_;
  model_.Learn(calls_);
  LearnWhatIsUsual();
  octave_sum_ /= 2;
  bytes_sum_ /= 2;
  came_ /= 2;
  const double unfinished_worth = UnfinishedWorth();
  std::vector<float> values(kLists, -1.0F);
  for (size_t list = 1; list < kLists; ++list) {
    const auto cell = static_cast<uint32_t>((list - 1) / kDensities);
    const uint32_t age = cell % ReuseModel::kAges;
    const double rate = model_.Value(cell / ReuseModel::kAges, age) *
                        (age < kUnfinishedAges ? unfinished_worth : 1.0);
    const int density = static_cast<int>((list - 1) % kDensities) - kUsualDensity;
    values[list] = static_cast<float>(std::ldexp(rate, density));
  }
  lists_.Rank(values);
}

void TieringPolicy::LearnWhatIsUsual() {
  if (came_ == 0) return;
  usual_octave_ = static_cast<int>(std::lround(octave_sum_ / came_));
  const double usual_bytes = std::max(bytes_sum_ / came_, 1.0);
  pieces_below_ =
      static_cast<uint64_t>(static_cast<double>(options_.next_tier_bytes) / usual_bytes);
}

double TieringPolicy::UnfinishedWorth() const {
  const double room_below =
      static_cast<double>(pieces_below_) / static_cast<double>(std::max<size_t>(nodes_.size(), 1));
  return std::max(kUnfinishedWorth, kUnfinishedWorthPerRoomBelow * room_below);
}

}  // namespace reprise::storage
