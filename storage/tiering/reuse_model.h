// How likely and how soon pieces are used again, learnt while they are.
//
// Pieces are of classes, and time is counted in calls of the policy, in ages since the last use
// that double from one to the next. A sample of the pieces, whether or not they are still resident,
// is followed from one use to the next: for each class and age, how many reached that age, and how
// many of them were used while in it. Survival estimates from that are free of what the policy
// itself keeps. Sparse classes borrow from all others.
//
// Value is what a place in the tier yields: with H(t) the probability of a use within the next t
// calls and T(t) the calls until it or until t, whichever comes first, the greatest H(t) / T(t)
// over all t (Gittins 1979 for bandits; hit density of LHD, Beckmann, Chen, Cidon, NSDI 2018, fixes
// t instead). A piece that is seldom used at once but often after a minute is worth keeping from
// the start, and more so the nearer that minute is.
//
// Memory is fixed. Not thread-safe.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace reprise::storage {

class ReuseModel {
 public:
  static constexpr uint32_t kClasses = 16;
  static constexpr uint32_t kAges = 24;
  static constexpr uint64_t kFirstAgeCalls = 64;  // age 0 is below; age k from 2^(k - 1) times that

  static uint32_t AgeOf(uint64_t calls_since_use);
  static uint64_t AgeBegin(uint32_t age);

  // Follows pieces for at least twice as many uses as `max_pieces`.
  explicit ReuseModel(size_t max_pieces);

  // The piece is used at `now`, and of that class from then on.
  void Observe(uint64_t name, uint32_t piece_class, uint64_t now);

  // How many calls should pass between two calls of Learn.
  uint64_t learning_period() const { return period_; }
  // Draws conclusions from what was observed.
  void Learn(uint64_t now);

  // The greatest rate of uses per call that a piece of that age promises.
  double Value(uint32_t piece_class, uint32_t age) const { return values_[piece_class][age]; }
  // Probability of a use while `calls` more go by.
  double UseWithin(uint32_t piece_class, uint32_t age, uint64_t calls) const;

  size_t bytes() const { return sets_.capacity() * sizeof(Set); }

 private:
  struct Sample {
    uint32_t tag = 0;
    uint32_t last_use = 0;  // in kFirstAgeCalls; wraps
    uint8_t piece_class = 0;
    uint8_t age = 0;  // up to which it was counted
    bool taken = false;
  };
  using Set = std::array<Sample, 4>;  // the one used last comes first
  using PerAge = std::array<double, kAges>;

  void CountUpTo(Sample& sample, uint32_t now);
  void LearnClass(uint32_t piece_class, const PerAge& pooled);

  uint64_t sampled_one_in_;
  uint64_t period_;
  std::vector<Set> sets_;
  std::array<PerAge, kClasses> reached_{};
  std::array<PerAge, kClasses> used_{};
  std::array<PerAge, kClasses> hazards_{};
  std::array<PerAge, kClasses> values_{};
};

}  // namespace reprise::storage
