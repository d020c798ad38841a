// Measures one store from one client and prints a JSON line a sample; bench/wire/run.py and
// bench/store/run.py drive it.
//
//   wire_client settings                             our UCX settings, NAME=VALUE a line
//   wire_client ADDRESS CARRIER PIECE_MIB PIECES WORK [ARGUMENT...]
//
//   prepare               publish the working set
//   fetch ROUNDS          load all of it, ROUNDS times
//   fetch-layers ROUNDS   the same, layer after layer
//   publish ROUNDS        remove it and publish it again, ROUNDS times
//   prepare-levels        publish a working set that can be loaded at several levels
//   levels ROUNDS         load a low level of it, ROUNDS times
//   levels-layers ROUNDS  the same, layer after layer
//   lookup COUNT          COUNT lookups of 64 keys
//   idle-lookup COUNT     the same, each after 10 ms without work
//   allocations PID       those of this process and PID in the middle half of a load, counted by
//                         allocation_counter.cc
//
// A fetch is what an engine does: chunks go through the whole stack into tensors, every checksum
// verified. Each load covers all pieces, so that the working set is cycled and no buffer is sent
// twice in a row. wire_client_bare is the same program without verification.

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "bench/wire/cpu_seconds.h"
#include "bench/wire/working_set.h"
#include "client/reprise.h"
#include "transport/ucx/ucx_settings.h"

namespace reprise::bench {
namespace {

constexpr uint32_t kLookupKeys = 64;
constexpr std::chrono::milliseconds kIdle{10};
constexpr uint32_t kLowLevel = 1;

TimePoint Now() { return Clock::Steady().Now(); }

double Seconds(TimePoint from, TimePoint to) {
  return std::chrono::duration<double>(to - from).count();
}

void MeasureRound(size_t bytes, const std::function<void()>& round) {
  const double cpu_before = CpuSeconds();
  const TimePoint start = Now();
  round();
  const double seconds = Seconds(start, Now());
  std::printf("{\"bytes\": %zu, \"seconds\": %.9f, \"cpu_seconds\": %.6f}\n", bytes, seconds,
              CpuSeconds() - cpu_before);
}

void Fetch(WorkingSet& set, uint32_t level, Order order, uint32_t rounds) {
  const std::unique_ptr<Tensors> tensors = set.MakeTensors();
  for (uint32_t round = 0; round < rounds; ++round) {
    MeasureRound(set.bytes(), [&] { set.Load(*tensors, level, order); });
  }
  if (level == kMaxPlanes - 1) set.CheckLast(*tensors);
}

void Publish(WorkingSet& set, uint32_t rounds) {
  const std::unique_ptr<Tensors> tensors = set.MakeTensors();
  set.Fill(*tensors);
  for (uint32_t round = 0; round < rounds; ++round) {
    set.Remove();
    MeasureRound(set.bytes(), [&] { set.Publish(*tensors); });
  }
}

void Lookup(Client& client, uint32_t piece_mib, Duration idle, uint32_t count) {
  const PrefixKeys keys = BenchKeys(piece_mib, kLookupKeys, CodecId::kRaw);
  for (uint32_t i = 0; i < count; ++i) {
    if (idle > Duration::zero()) std::this_thread::sleep_for(idle);
    const TimePoint start = Now();
    auto found = client.Lookup(keys, {}, Deadline::After(std::chrono::seconds(10))).Wait();
    const double seconds = Seconds(start, Now());
    if (!found.ok()) Fail(found.status());
    if (found->chunks != kLookupKeys) {
      Fail(
          absl::FailedPreconditionError("lookups need " + std::to_string(kLookupKeys) + " pieces"));
    }
    std::printf("{\"seconds\": %.9f}\n", seconds);
  }
}

uint64_t AllocationsOf(int counter) {
  uint64_t count = 0;
  if (pread(counter, &count, sizeof(count), 0) != sizeof(count)) {
    Fail(absl::UnavailableError("allocation_counter is not preloaded"));
  }
  return count;
}

// The counters are read while the pipeline is full: a load's own beginning and end are left out.
void CountAllocations(WorkingSet& set, const std::array<int, 2>& pids) {
  std::array<int, 2> counters;
  std::transform(pids.begin(), pids.end(), counters.begin(), [](int pid) {
    return open(("allocations." + std::to_string(pid)).c_str(), O_RDONLY | O_CLOEXEC);
  });
  const auto count = [&] { return AllocationsOf(counters[0]) + AllocationsOf(counters[1]); };
  const std::unique_ptr<Tensors> tensors = set.MakeTensors();
  const size_t pieces = set.bytes() / set.piece_bytes();
  const size_t first = pieces / 4;
  const size_t last = first * 3;
  uint64_t before = 0;
  uint64_t after = 0;
  const auto observe = [&](size_t selection, const SelectionResult&) {
    if (selection == first) before = count();
    if (selection == last) after = count();
  };
  set.Load(*tensors, kMaxPlanes - 1, Order::kChunkAfterChunk);
  set.Load(*tensors, kMaxPlanes - 1, Order::kChunkAfterChunk, observe);
  std::printf("{\"allocations\": %llu, \"bytes\": %zu}\n",
              static_cast<unsigned long long>(after - before), (last - first) * set.piece_bytes());
}

int Usage() {
  std::fprintf(stderr, "usage: wire_client ADDRESS ucx|grpc PIECE_MIB PIECES WORK [ARGUMENT...]\n");
  return 2;
}

int Run(const std::vector<std::string>& args) {
  if (args.size() == 1 && args[0] == "settings") {
    for (const transport::UcxSetting& setting : transport::UcxSettings()) {
      std::printf("%s=%s\n", setting.variable.c_str(), setting.value.c_str());
    }
    return 0;
  }
  if (args.size() < 5) return Usage();
  ClientOptions options;
  options.address = args[0];
  options.carrier = args[1] == "grpc" ? Carrier::kGrpc : Carrier::kUcx;
  const auto piece_mib = static_cast<uint32_t>(std::stoul(args[2]));
  const auto pieces = static_cast<uint32_t>(std::stoul(args[3]));
  const std::string& work = args[4];
  const uint32_t count = args.size() > 5 ? static_cast<uint32_t>(std::stoul(args[5])) : 0;
  const bool levels = work.find("levels") != std::string::npos;
  const bool layers = work.find("layers") != std::string::npos;
  const Order order = layers ? Order::kLayerAfterLayer : Order::kChunkAfterChunk;

  auto client = Client::Connect(options);
  if (!client.ok()) Fail(client.status());
  WorkingSet set(**client, piece_mib, pieces, levels ? CodecId::kProgressive : CodecId::kRaw);
  if (work == "prepare" || work == "prepare-levels") {
    set.Prepare();
  } else if (work == "fetch" || work == "fetch-layers") {
    Fetch(set, kMaxPlanes - 1, order, count);
  } else if (work == "levels" || work == "levels-layers") {
    Fetch(set, kLowLevel, order, count);
  } else if (work == "publish") {
    Publish(set, count);
  } else if (work == "lookup" || work == "idle-lookup") {
    Lookup(**client, piece_mib, work == "lookup" ? Duration::zero() : kIdle, count);
  } else if (work == "allocations") {
    CountAllocations(set, {static_cast<int>(count), getpid()});
  } else {
    return Usage();
  }
  return 0;
}

}  // namespace
}  // namespace reprise::bench

int main(int argc, char** argv) { return reprise::bench::Run({argv + 1, argv + argc}); }
