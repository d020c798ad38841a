#include "storage/tiering/reuse_model.h"

#include <algorithm>
#include <bit>

namespace reprise::storage {
namespace {

constexpr size_t kSets = 1024;
// Of 4,096 samples, enough to fill the ages that matter within some thousand calls.
constexpr uint64_t kSampledAtLeast = 16;
constexpr uint64_t kSamplesPerPeriod = 256;
// What was seen weighs half after seven periods, so that another load is learnt.
constexpr double kWeightPerPeriod = 0.9;
// A class is judged by all others until about as many of its own pieces were seen.
constexpr double kPriorSamples = 4;
// Before anything was seen, as many are used in each age: the less often, the older. That is LRU.
constexpr double kPriorHazard = 0.05;

}  // namespace

uint32_t ReuseModel::AgeOf(uint64_t calls_since_use) {
  const auto age = static_cast<uint32_t>(std::bit_width(calls_since_use / kFirstAgeCalls));
  return std::min(age, kAges - 1);
}

uint64_t ReuseModel::AgeBegin(uint32_t age) { return age == 0 ? 0 : kFirstAgeCalls << (age - 1); }

ReuseModel::ReuseModel(size_t max_pieces) : sampled_one_in_(kSampledAtLeast), sets_(kSets) {
  const size_t samples = kSets * std::tuple_size_v<Set>;
  while (sampled_one_in_ * samples < 2 * max_pieces) sampled_one_in_ *= 2;
  period_ = kSamplesPerPeriod * sampled_one_in_;
  Learn(0);
}

void ReuseModel::Observe(uint64_t name, uint32_t piece_class, uint64_t now) {
  if (name % sampled_one_in_ != 0) return;
  Set& set = sets_[(name >> 32) % kSets];
  const auto tag = static_cast<uint32_t>(name);
  const auto time = static_cast<uint32_t>(now / kFirstAgeCalls);
  auto place = std::find_if(set.begin(), set.end(), [tag](const Sample& sample) {
    return !sample.taken || sample.tag == tag;
  });
  if (place == set.end()) --place;
  if (place->taken && place->tag == tag) {
    CountUpTo(*place, time);
    ++used_[place->piece_class][place->age];
  }
  std::move_backward(set.begin(), place, place + 1);
  set.front() = {.tag = tag,
                 .last_use = time,
                 .piece_class = static_cast<uint8_t>(piece_class),
                 .age = 0,
                 .taken = true};
  ++reached_[piece_class][0];
}

void ReuseModel::Learn(uint64_t now) {
  for (Set& set : sets_) {
    for (Sample& sample : set) {
      if (sample.taken) CountUpTo(sample, static_cast<uint32_t>(now / kFirstAgeCalls));
    }
  }
  PerAge pooled{};
  for (uint32_t age = 0; age < kAges; ++age) {
    double reached = kPriorSamples;
    double used = kPriorSamples * kPriorHazard;
    for (uint32_t each = 0; each < kClasses; ++each) {
      reached += reached_[each][age];
      used += used_[each][age];
    }
    pooled[age] = used / reached;
  }
  for (uint32_t each = 0; each < kClasses; ++each) LearnClass(each, pooled);
}

double ReuseModel::UseWithin(uint32_t piece_class, uint32_t age, uint64_t calls) const {
  const uint64_t until = AgeBegin(age) + calls;
  double unused = 1;
  for (uint32_t at = age; at < kAges && AgeBegin(at) < until; ++at) {
    unused *= 1 - hazards_[piece_class][at];
  }
  return 1 - unused;
}

void ReuseModel::CountUpTo(Sample& sample, uint32_t now) {
  const uint32_t age = AgeOf(uint64_t{now - sample.last_use} * kFirstAgeCalls);
  while (sample.age < age) ++reached_[sample.piece_class][++sample.age];
}

void ReuseModel::LearnClass(uint32_t piece_class, const PerAge& pooled) {
  PerAge& hazards = hazards_[piece_class];
  for (uint32_t age = 0; age < kAges; ++age) {
    double& reached = reached_[piece_class][age];
    double& used = used_[piece_class][age];
    hazards[age] = std::min((used + pooled[age] * kPriorSamples) / (reached + kPriorSamples), 1.0);
    reached *= kWeightPerPeriod;
    used *= kWeightPerPeriod;
  }
  // The last age has no end, and nothing is to be expected of it.
  values_[piece_class][kAges - 1] = 0;
  for (uint32_t age = 0; age + 1 < kAges; ++age) {
    double unused = 1;
    double calls = 0;
    double best = 0;
    for (uint32_t at = age; at + 1 < kAges; ++at) {
      auto duration = static_cast<double>(AgeBegin(at + 1) - AgeBegin(at));
      // A piece may be anywhere in its age.
      if (at == age) duration *= 0.75;
      calls += duration * unused * (1 - hazards[at] / 2);
      unused *= 1 - hazards[at];
      best = std::max(best, (1 - unused) / calls);
    }
    values_[piece_class][age] = best;
  }
}

}  // namespace reprise::storage
