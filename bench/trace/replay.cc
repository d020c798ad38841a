#include "bench/trace/replay.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <utility>

#include "bench/trace/rivals.h"

namespace reprise::bench {
namespace {

constexpr storage::TenantId kTenant = 1;

// Names blocks as keys would: equal for equal blocks and spread over all values.
Key KeyOf(BlockId block) {
  Key key;
  uint64_t word = block;
  for (size_t at = 0; at < key.digest.bytes.size(); at += sizeof(word)) {
    // The steps of splitmix64 (Steele, Lea, Flood, OOPSLA 2014).
    word += 0x9E3779B97F4A7C15;
    uint64_t mixed = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9;
    mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EB;
    mixed ^= mixed >> 31;
    std::memcpy(key.digest.bytes.data() + at, &mixed, sizeof(mixed));
  }
  return key;
}

}  // namespace

double BlockLevels::error(uint32_t planes) const {
  const Distortion& distortion = levels[planes - 1].distortion;
  return std::max(distortion.key, distortion.value);
}

struct Replay::Tier {
  struct Held {
    storage::TrackedPiece* piece = nullptr;  // null: not resident
    uint32_t planes = 0;
    uint32_t children = 0;
  };
  TierPolicy rules;
  RivalPolicy* announced = nullptr;
  uint64_t used_bytes = 0;
  std::vector<Held> held;
};

Replay::Replay(const Trace& trace, ReplayOptions options, TierPolicy host)
    : Replay(trace, std::move(options), std::move(host), TierPolicy{}) {}

Replay::Replay(const Trace& trace, ReplayOptions options, TierPolicy host, TierPolicy disk)
    : trace_(trace), options_(std::move(options)) {
  const auto make = [&](TierPolicy rules) {
    auto tier = std::make_unique<Tier>();
    tier->announced = dynamic_cast<RivalPolicy*>(rules.policy.get());
    tier->rules = std::move(rules);
    tier->held.resize(trace.blocks.size());
    return tier;
  };
  host_ = make(std::move(host));
  if (disk.policy != nullptr) disk_ = make(std::move(disk));
}

Replay::~Replay() = default;

Replayed Replay::Run() {
  result_.references = trace_.references;
  for (size_t request = 0; request < trace_.requests.size(); ++request) {
    result_.total_seconds += options_.cost.per_request;
    Serve(request);
  }
  return result_;
}

void Replay::Serve(size_t request) {
  bool in_prefix = true;
  for (const BlockId block : trace_.requests[request].blocks) {
    result_.total_seconds += options_.cost.BlockSeconds(trace_.blocks[block].position);
    for (Tier* tier : {host_.get(), disk_.get()}) {
      if (tier != nullptr && tier->announced != nullptr) tier->announced->Announce(request, block);
    }
    in_prefix = in_prefix && (Has(*host_, block) || (disk_ != nullptr && Has(*disk_, block)));
    if (in_prefix) {
      Hit(block);
    } else {
      Publish(block);
    }
  }
}

void Replay::Hit(BlockId block) {
  ++result_.hits;
  result_.saved_seconds += options_.cost.BlockSeconds(trace_.blocks[block].position);
  Tier::Held& in_host = host_->held[block];
  if (disk_ != nullptr && Has(*disk_, block)) {
    // Also when host memory has it: the disk's policy is told of every use.
    disk_->rules.policy->Use(disk_->held[block].piece);
  }
  if (in_host.piece != nullptr) {
    host_->rules.policy->Use(in_host.piece);
  } else {
    ++result_.disk_hits;
    Insert(*host_, block, disk_->held[block].planes);
    // Making room may have pushed it off the disk.
    if (Has(*disk_, block)) host_->rules.policy->SetDemoted(in_host.piece);
  }
  result_.served_error += options_.levels.error(in_host.planes);
}

void Replay::Publish(BlockId block) {
  Tier::Held& in_host = host_->held[block];
  if (in_host.piece != nullptr) {
    // Behind a hole: it was computed anew, and is held already.
    host_->rules.policy->Use(in_host.piece);
    return;
  }
  const auto planes = static_cast<uint32_t>(options_.levels.levels.size());
  Insert(*host_, block, planes);
  if (disk_ != nullptr && options_.write_through && !Has(*disk_, block)) {
    WriteToDisk(block, planes);
  }
}

void Replay::Insert(Tier& tier, BlockId block, uint32_t planes) {
  tier.used_bytes += options_.levels.bytes(planes);
  MakeRoom(tier);
  const Trace::Block& known = trace_.blocks[block];
  storage::PolicyPiece piece{
      .tenant = kTenant,
      .key = KeyOf(block),
      .size_bytes = options_.levels.bytes(planes),
      .attributes = {.parent = std::nullopt,
                     .position = known.position,
                     .recompute_seconds = options_.cost.BlockSeconds(known.position)},
      .levels = options_.levels.levels,
      .planes_held = planes,
      .tag = block};
  if (known.parent != Trace::kNone) {
    piece.attributes.parent = KeyOf(known.parent);
    ++tier.held[known.parent].children;
  }
  tier.held[block].piece = tier.rules.policy->Insert(piece);
  tier.held[block].planes = planes;
}

void Replay::MakeRoom(Tier& tier) {
  while (tier.used_bytes > tier.rules.capacity_bytes) {
    const storage::Victim victim = tier.rules.policy->ChooseVictim(
        /*fresh_too=*/true, [&tier](const storage::TrackedPiece& piece) {
          return !tier.rules.leaves_only || tier.held[piece.tag()].children == 0;
        });
    if (victim.piece == nullptr) std::abort();  // nothing is held or read here
    if (victim.keep_planes > 0) {
      Tier::Held& held = tier.held[victim.piece->tag()];
      tier.used_bytes -= options_.levels.bytes(held.planes);
      held.planes = victim.keep_planes;
      tier.used_bytes += options_.levels.bytes(held.planes);
      tier.rules.policy->Shed(victim.piece, held.planes, options_.levels.bytes(held.planes));
    } else {
      Evict(tier, victim.piece);
    }
  }
}

void Replay::Evict(Tier& tier, storage::TrackedPiece* piece) {
  const auto block = static_cast<BlockId>(piece->tag());
  Tier::Held& held = tier.held[block];
  const bool demote = disk_ != nullptr && &tier == host_.get() && !options_.write_through &&
                      !Has(*disk_, block) && tier.rules.policy->WorthDemoting(*piece);
  const uint32_t planes = held.planes;
  if (demote) tier.rules.policy->SetDemoted(piece);
  tier.rules.policy->Remove(piece);
  held.piece = nullptr;
  tier.used_bytes -= options_.levels.bytes(planes);
  const BlockId parent = trace_.blocks[block].parent;
  if (parent != Trace::kNone) --tier.held[parent].children;
  if (demote) WriteToDisk(block, planes);
}

void Replay::WriteToDisk(BlockId block, uint32_t planes) {
  ++result_.disk_writes;
  result_.disk_bytes_written += options_.levels.bytes(planes);
  Insert(*disk_, block, planes);
}

bool Replay::Has(const Tier& tier, BlockId block) const {
  return tier.held[block].piece != nullptr;
}

}  // namespace reprise::bench
