// Measures one store from one client and prints a JSON line a sample; bench/wire/run.py drives it.
//
//   wire_client settings                                        our UCX settings, NAME=VALUE a line
//   wire_client ADDRESS CARRIER PIECE_MIB PIECES prepare        publish the working set
//   wire_client ADDRESS CARRIER PIECE_MIB PIECES fetch ROUNDS   load all of it, ROUNDS times
//   wire_client ADDRESS CARRIER PIECE_MIB PIECES lookup COUNT   COUNT lookups of 64 keys
//
// A fetch is what an engine does: chunks go through the whole stack into tensors, every checksum
// verified. Each load covers all pieces, so that the working set is cycled and no buffer is sent
// twice in a row.

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "client/reprise.h"
#include "transport/ucx/ucx_settings.h"

namespace reprise {
namespace {

constexpr std::chrono::seconds kTimeout{120};
constexpr uint32_t kChunkTokens = 256;
constexpr uint32_t kHeads = 8;
constexpr uint32_t kDims = 64;
constexpr size_t kLookupKeys = 64;

// An MHA model whose chunks have a body of `piece_mib` MiB: 512 KiB a layer, K and V together.
Namespace BenchNamespace(uint32_t piece_mib) {
  LayerGroup group;
  for (uint32_t layer = 0; layer < piece_mib * 2; ++layer) group.layers.push_back(layer);
  group.kv_heads = kHeads;
  group.key_dim = kDims;
  group.value_dim = kDims;
  group.layers_per_piece = piece_mib * 2;
  group.heads_per_piece = kHeads;
  Namespace name_space;
  name_space.model = "bench/wire";
  name_space.kv_dtype = Dtype::kFp16;
  name_space.chunk_tokens = kChunkTokens;
  name_space.groups = {group};
  return name_space;
}

// K and V of `tokens` tokens, owned.
struct Tensors {
  std::vector<std::byte> key;
  std::vector<std::byte> value;
  GroupViews views;

  Tensors(uint32_t layers, uint32_t tokens) {
    const size_t row = kHeads * kDims * 2;
    const size_t bytes = size_t{layers} * tokens * row;
    key.resize(bytes);
    value.resize(bytes);
    const auto view = [&](std::vector<std::byte>& memory) {
      TensorView result;
      result.data = memory.data();
      result.dtype = Dtype::kFp16;
      result.shape = {layers, tokens, kHeads, kDims};
      result.stride_bytes = {static_cast<int64_t>(tokens * row), static_cast<int64_t>(row),
                             kDims * 2};
      return result;
    };
    views = {view(key), view(value)};
  }
};

[[noreturn]] void Fail(const absl::Status& status) {
  std::fprintf(stderr, "wire_client: %s\n", status.ToString().c_str());
  std::exit(1);
}

double Seconds(TimePoint from, TimePoint to) {
  return std::chrono::duration<double>(to - from).count();
}

TimePoint Now() { return Clock::Steady().Now(); }

Deadline Soon() { return Deadline::After(kTimeout); }

// Distinct bytes in every piece, so that a mixed-up reply would show.
void Fill(std::vector<std::byte>& memory, uint64_t seed) {
  uint64_t state = seed * 0x9E3779B97F4A7C15u + 1;
  for (size_t i = 0; i + 8 <= memory.size(); i += 8) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    std::memcpy(&memory[i], &state, 8);
  }
}

class Bench {
 public:
  Bench(Client& client, uint32_t piece_mib, uint32_t pieces)
      : client_(client), layers_(piece_mib * 2), pieces_(pieces), piece_bytes_(piece_mib * kMiB) {
    const std::vector<uint32_t> tokens(size_t{pieces} * kChunkTokens, 7);
    auto keys = PrefixKeys::Create(BenchNamespace(piece_mib), "", tokens);
    if (!keys.ok()) Fail(keys.status());
    keys_ = std::make_unique<PrefixKeys>(*std::move(keys));
  }

  void Prepare() {
    Tensors tensors(layers_, kChunkTokens);
    for (uint32_t piece = 0; piece < pieces_; ++piece) {
      Fill(tensors.key, 2 * piece);
      Fill(tensors.value, 2 * piece + 1);
      auto published = client_
                           .Publish(*keys_, 1, {tensors.views},
                                    {.first_chunk = piece, .codec = CodecId::kRaw}, Soon())
                           .Wait();
      if (!published.ok()) Fail(published.status());
    }
  }

  // The destination holds all pieces: like the source, it is far larger than the caches.
  void Fetch(uint32_t rounds) {
    Tensors tensors(layers_, kChunkTokens * pieces_);
    for (uint32_t round = 0; round < rounds; ++round) {
      const TimePoint start = Now();
      auto loaded = client_.Load(*keys_, 0, pieces_, {tensors.views}, {}, Soon()).Wait();
      const double seconds = Seconds(start, Now());
      if (!loaded.ok()) Fail(loaded.status());
      if (loaded->chunks != pieces_) {
        Fail(absl::DataLossError("only " + std::to_string(loaded->chunks) + " chunks were loaded"));
      }
      std::printf("{\"bytes\": %zu, \"seconds\": %.9f}\n", pieces_ * piece_bytes_, seconds);
    }
    CheckLast(tensors);
  }

  void Lookup(uint32_t count) {
    const std::vector<uint32_t> tokens(kLookupKeys * kChunkTokens, 7);
    auto keys = PrefixKeys::Create(keys_->name_space(), "", tokens);
    if (!keys.ok()) Fail(keys.status());
    for (uint32_t i = 0; i < count; ++i) {
      const TimePoint start = Now();
      auto found = client_.Lookup(*keys, {}, Soon()).Wait();
      const double seconds = Seconds(start, Now());
      if (!found.ok()) Fail(found.status());
      if (found->chunks != kLookupKeys) {
        Fail(absl::FailedPreconditionError("lookups need " + std::to_string(kLookupKeys) +
                                           " pieces"));
      }
      std::printf("{\"seconds\": %.9f}\n", seconds);
    }
  }

 private:
  // The last piece's first layer must be what Prepare made.
  void CheckLast(const Tensors& tensors) const {
    std::vector<std::byte> expected(tensors.key.size() / pieces_);
    Fill(expected, 2 * (pieces_ - 1));
    const size_t layer_bytes = expected.size() / layers_;
    const std::byte* loaded = tensors.key.data() + (pieces_ - 1) * layer_bytes;
    if (std::memcmp(loaded, expected.data(), layer_bytes) != 0) {
      Fail(absl::DataLossError("loaded bytes differ from those published"));
    }
  }

  Client& client_;
  const uint32_t layers_;
  const uint32_t pieces_;
  const size_t piece_bytes_;
  std::unique_ptr<PrefixKeys> keys_;
};

int Run(const std::vector<std::string>& args) {
  if (args.size() == 1 && args[0] == "settings") {
    for (const transport::UcxSetting& setting : transport::UcxSettings()) {
      std::printf("%s=%s\n", setting.variable.c_str(), setting.value.c_str());
    }
    return 0;
  }
  if (args.size() < 5) {
    std::fprintf(
        stderr,
        "usage: wire_client ADDRESS ucx|grpc PIECE_MIB PIECES prepare|fetch|lookup [COUNT]\n");
    return 2;
  }
  ClientOptions options;
  options.address = args[0];
  options.carrier = args[1] == "grpc" ? Carrier::kGrpc : Carrier::kUcx;
  auto client = Client::Connect(options);
  if (!client.ok()) Fail(client.status());
  Bench bench(**client, static_cast<uint32_t>(std::stoul(args[2])),
              static_cast<uint32_t>(std::stoul(args[3])));
  const uint32_t count = args.size() > 5 ? static_cast<uint32_t>(std::stoul(args[5])) : 0;
  if (args[4] == "prepare") bench.Prepare();
  if (args[4] == "fetch") bench.Fetch(count);
  if (args[4] == "lookup") bench.Lookup(count);
  return 0;
}

}  // namespace
}  // namespace reprise

int main(int argc, char** argv) { return reprise::Run({argv + 1, argv + argc}); }
