#include "bench/wire/working_set.h"

#include <algorithm>
#include <bit>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>

namespace reprise::bench {
namespace {

constexpr std::chrono::seconds kTimeout{120};
constexpr uint32_t kChunkTokens = 256;
constexpr uint32_t kHeads = 8;
constexpr uint32_t kDims = 64;
constexpr size_t kRowBytes = kHeads * kDims * 2;

Deadline Soon() { return Deadline::After(kTimeout); }

uint64_t NextRandom(uint64_t& state) {
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return state;
}

// Values of a normal distribution, in bf16.
std::vector<uint16_t> NormalValues() {
  std::vector<uint16_t> values(size_t{1} << 12);
  uint64_t state = 1;
  for (uint16_t& value : values) {
    const double u = (static_cast<double>(NextRandom(state) >> 11) + 1) * 0x1p-53;
    const double v = static_cast<double>(NextRandom(state) >> 11) * 0x1p-53;
    const double normal = std::sqrt(-2 * std::log(u)) * std::cos(2 * M_PI * v);
    value = static_cast<uint16_t>(std::bit_cast<uint32_t>(static_cast<float>(normal)) >> 16);
  }
  return values;
}

}  // namespace

void Fail(const absl::Status& status) {
  std::fprintf(stderr, "wire_client: %s\n", status.ToString().c_str());
  std::exit(1);
}

PrefixKeys BenchKeys(uint32_t piece_mib, uint32_t chunks, CodecId codec) {
  LayerGroup group;
  for (uint32_t layer = 0; layer < piece_mib * 2; ++layer) group.layers.push_back(layer);
  group.kv_heads = kHeads;
  group.key_dim = kDims;
  group.value_dim = kDims;
  group.layers_per_piece = piece_mib * 2;
  group.heads_per_piece = kHeads;
  Namespace name_space;
  name_space.model = codec == CodecId::kRaw ? "bench/raw" : "bench/levels";
  name_space.kv_dtype = Dtype::kBf16;
  name_space.chunk_tokens = kChunkTokens;
  name_space.groups = {group};
  const std::vector<uint32_t> tokens(size_t{chunks} * kChunkTokens, 7);
  auto keys = PrefixKeys::Create(name_space, "", tokens);
  if (!keys.ok()) Fail(keys.status());
  return *std::move(keys);
}

Tensors::Tensors(uint32_t layers, uint32_t tokens) {
  const size_t bytes = size_t{layers} * tokens * kRowBytes;
  key.resize(bytes);
  value.resize(bytes);
  const auto view = [&](std::vector<std::byte>& memory) {
    TensorView result;
    result.data = memory.data();
    result.dtype = Dtype::kBf16;
    result.shape = {layers, tokens, kHeads, kDims};
    result.stride_bytes = {static_cast<int64_t>(tokens * kRowBytes),
                           static_cast<int64_t>(kRowBytes), kDims * 2};
    return result;
  };
  views = {view(key), view(value)};
}

WorkingSet::WorkingSet(Client& client, uint32_t piece_mib, uint32_t pieces, CodecId codec)
    : client_(client),
      codec_(codec),
      layers_(piece_mib * 2),
      pieces_(pieces),
      piece_bytes_(piece_mib * kMiB),
      keys_(std::make_unique<PrefixKeys>(BenchKeys(piece_mib, pieces, codec))) {}

std::unique_ptr<Tensors> WorkingSet::MakeTensors() const {
  return std::make_unique<Tensors>(layers_, kChunkTokens * pieces_);
}

// A progressive piece needs values that a codec can say something about.
void WorkingSet::FillPiece(std::byte* memory, size_t size, uint64_t seed) const {
  static const std::vector<uint16_t> normal = NormalValues();
  uint64_t state = seed * 0x9E3779B97F4A7C15u + 1;
  for (size_t i = 0; i + 8 <= size; i += 8) {
    uint64_t bits = NextRandom(state);
    if (codec_ != CodecId::kRaw) {
      const uint64_t indices = bits;
      bits = 0;
      for (int value = 0; value < 4; ++value) {
        bits = bits << 16 | normal[indices >> (16 * value) & (normal.size() - 1)];
      }
    }
    std::memcpy(memory + i, &bits, 8);
  }
}

void WorkingSet::Fill(Tensors& tensors) const {
  const size_t chunk_bytes = kChunkTokens * kRowBytes;
  for (uint32_t piece = 0; piece < pieces_; ++piece) {
    for (uint32_t layer = 0; layer < layers_; ++layer) {
      const size_t at = (size_t{layer} * pieces_ + piece) * chunk_bytes;
      const uint64_t seed = 2 * (uint64_t{piece} * layers_ + layer);
      FillPiece(&tensors.key[at], chunk_bytes, seed);
      FillPiece(&tensors.value[at], chunk_bytes, seed + 1);
    }
  }
}

void WorkingSet::Remove() {
  if (auto removed = client_.RemoveNamespace(keys_->fingerprint(), Soon()).Wait(); !removed.ok()) {
    Fail(removed.status());
  }
}

void WorkingSet::Prepare() {
  const std::unique_ptr<Tensors> tensors = MakeTensors();
  Fill(*tensors);
  Publish(*tensors);
}

void WorkingSet::Publish(const Tensors& tensors) {
  auto published =
      client_.Publish(*keys_, pieces_, {tensors.views}, {.codec = codec_}, Soon()).Wait();
  if (!published.ok()) Fail(published.status());
  if (published->pieces_stored != pieces_) {
    Fail(absl::FailedPreconditionError("only " + std::to_string(published->pieces_stored) +
                                       " pieces were stored"));
  }
}

void WorkingSet::Load(const Tensors& tensors, uint32_t level, Order order, LoadObserver observer) {
  std::vector<Selection> plan;
  if (order == Order::kLayerAfterLayer) {
    for (uint32_t layer = 0; layer < layers_; ++layer) {
      for (uint32_t piece = 0; piece < pieces_; ++piece) {
        plan.push_back(
            {.chunk = piece, .level = level, .layer_begin = layer, .layer_end = layer + 1});
      }
    }
  }
  LoadOptions options;
  options.level = level;
  options.plan = plan;
  options.observer = std::move(observer);
  auto loaded =
      client_.Load(*keys_, 0, pieces_, {tensors.views}, std::move(options), Soon()).Wait();
  if (!loaded.ok()) Fail(loaded.status());
  if (loaded->chunks != pieces_) {
    Fail(absl::DataLossError("only " + std::to_string(loaded->chunks) + " chunks were loaded"));
  }
}

void WorkingSet::CheckLast(const Tensors& tensors) const {
  std::vector<std::byte> expected(kChunkTokens * kRowBytes);
  FillPiece(expected.data(), expected.size(), 2 * (uint64_t{pieces_ - 1} * layers_));
  const std::byte* loaded = tensors.key.data() + (pieces_ - 1) * expected.size();
  if (std::memcmp(loaded, expected.data(), expected.size()) != 0) {
    Fail(absl::DataLossError("loaded bytes differ from those published"));
  }
}

}  // namespace reprise::bench
