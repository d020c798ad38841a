#include "bench/codec/stages.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <type_traits>

#ifdef __x86_64__
#include <x86intrin.h>
#endif

namespace reprise::bench {
namespace {

using progressive::Kernels;

std::vector<Stage>& Stages() {
  static std::vector<Stage> stages;
  return stages;
}

template <auto Member>
struct Timed;

template <typename Result, typename... Arguments, Result (*Kernels::*Member)(Arguments...)>
struct Timed<Member> {
  static inline Result (*timed)(Arguments...) = nullptr;
  static inline size_t stage = 0;

  static Result Call(Arguments... arguments) {
    const uint64_t begin = Ticks();
    if constexpr (std::is_void_v<Result>) {
      timed(arguments...);
      Add(Ticks() - begin);
    } else {
      const Result result = timed(arguments...);
      Add(Ticks() - begin);
      return result;
    }
  }
  static void Add(uint64_t ticks) {
    Stages()[stage].ticks += ticks;
    ++Stages()[stage].calls;
  }
};

template <auto Member>
void Wrap(const char* name, Kernels& kernels) {
  Timed<Member>::timed = kernels.*Member;
  Timed<Member>::stage = Stages().size();
  Stages().push_back({.name = name});
  kernels.*Member = Timed<Member>::Call;
}

// The least of many readings of the clock, one right after the other.
uint64_t CostOfReading() {
  uint64_t least = UINT64_MAX;
  for (int i = 0; i < 1000; ++i) {
    const uint64_t begin = Ticks();
    least = std::min(least, Ticks() - begin);
  }
  return least;
}

}  // namespace

uint64_t Ticks() {
#ifdef __x86_64__
  return __rdtsc();
#else
  return static_cast<uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count());
#endif
}

Kernels TimedKernels(const Kernels& kernels) {
  Kernels timed = kernels;
  Stages().clear();
  Wrap<&Kernels::decode_symbols>("decode_symbols", timed);
  Wrap<&Kernels::encode_symbols>("encode_symbols", timed);
  Wrap<&Kernels::reverse_words>("reverse_words", timed);
  Wrap<&Kernels::reconstruct>("reconstruct", timed);
  Wrap<&Kernels::place>("place", timed);
  Wrap<&Kernels::rotate>("rotate", timed);
  Wrap<&Kernels::round_bf16>("round_bf16", timed);
  Wrap<&Kernels::round_fp16>("round_fp16", timed);
  Wrap<&Kernels::widen_bf16>("widen_bf16", timed);
  Wrap<&Kernels::widen_fp16>("widen_fp16", timed);
  Wrap<&Kernels::scatter>("scatter", timed);
  Wrap<&Kernels::gather>("gather", timed);
  Wrap<&Kernels::moments>("moments", timed);
  Wrap<&Kernels::sum_of_squares>("sum_of_squares", timed);
  Wrap<&Kernels::add_squares>("add_squares", timed);
  Wrap<&Kernels::quantize>("quantize", timed);
  Wrap<&Kernels::add_errors>("add_errors", timed);
  Wrap<&Kernels::split_symbols>("split_symbols", timed);
  Wrap<&Kernels::split_planes>("split_planes", timed);
  Wrap<&Kernels::split_tail>("split_tail", timed);
  Wrap<&Kernels::decode_tail>("decode_tail", timed);
  Wrap<&Kernels::encode_tail>("encode_tail", timed);
  return timed;
}

std::vector<Stage> MeasuredStages() {
  const uint64_t cost = CostOfReading();
  std::vector<Stage> measured;
  for (Stage stage : Stages()) {
    if (stage.calls == 0) continue;
    stage.ticks -= std::min(stage.ticks, stage.calls * cost);
    measured.push_back(stage);
  }
  return measured;
}

}  // namespace reprise::bench
