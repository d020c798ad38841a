// Writes the golden pieces of codec/testdata: real KV of two models, and numbers that no model
// makes. Run once for each version of a format, and never again for that version.
//
//   make_golden_pieces SMOLLM2 GEMMA3 OUT
//
// SMOLLM2 and GEMMA3 are dumps (docs/kv-dump.md) with the text licence-gpl3, as `python -m bench.kv
// dump` makes them. The hashes of the input are taken before anything is encoded; those of the
// levels are what the scalar reference decodes.

#include <array>
#include <bit>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <functional>
#include <iterator>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "codec/calibration.h"
#include "codec/codec.h"
#include "codec/progressive/float16.h"
#include "codec/testing/golden_piece.h"
#include "common/sha256.h"

namespace reprise {
namespace {

// One piece before it is encoded; its namespace has one group and one slot is stored.
struct Source {
  std::string name;
  Namespace name_space;
  uint32_t slot = 0;
  uint64_t position = 0;
  uint32_t tokens = 0;
  CodecId codec = CodecId::kProgressive;
  std::optional<Profile> profile;
  std::vector<std::byte> key;
  std::vector<std::byte> value;
};

Source SourceOf(const std::string& name, Dtype dtype, GroupKind kind, uint32_t layers,
                uint32_t heads, uint32_t key_dim, uint32_t value_dim) {
  Source source;
  source.name = name;
  source.name_space.model = "golden";
  source.name_space.kv_dtype = dtype;
  LayerGroup& group = source.name_space.groups.emplace_back();
  group.kind = kind;
  for (uint32_t layer = 0; layer < layers; ++layer) group.layers.push_back(layer);
  group.kv_heads = heads;
  group.key_dim = key_dim;
  group.value_dim = value_dim;
  group.window_tokens = kind == GroupKind::kSlidingWindow ? 512 : 0;
  group.layers_per_piece = layers;
  group.heads_per_piece = heads;
  return source;
}

// A model of which dumps exist.
struct Model {
  std::string directory;
  uint32_t kv_heads;
  uint32_t query_heads;
  uint32_t dims;
  RopePairing pairing;
};

std::vector<std::byte> ReadTokens(const Model& model, uint32_t layer, char tensor, Dtype dtype,
                                  uint32_t heads, uint32_t first, uint32_t count) {
  std::array<char, 32> name{};
  std::snprintf(name.data(), name.size(), "L%03u.%c.%s", layer, tensor,
                dtype == Dtype::kBf16 ? "bf16" : "fp16");
  const size_t row = size_t{2} * heads * model.dims;
  std::vector<char> bytes(row * count);
  std::ifstream file(model.directory + "/licence-gpl3/" + name.data(), std::ios::binary);
  file.seekg(static_cast<std::streamoff>(row * first));
  file.read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  if (!file) std::fprintf(stderr, "cannot read %s of %s\n", name.data(), model.directory.c_str());
  const auto* begin = reinterpret_cast<const std::byte*>(bytes.data());
  return {begin, begin + bytes.size()};
}

// One head of [tokens, heads, dims].
std::vector<std::byte> HeadOf(const std::vector<std::byte>& all, const Model& model,
                              uint32_t head) {
  const size_t size = size_t{2} * model.dims;
  std::vector<std::byte> one;
  for (size_t at = size * head; at < all.size(); at += size * model.kv_heads) {
    const auto begin = all.begin() + static_cast<ptrdiff_t>(at);
    one.insert(one.end(), begin, begin + static_cast<ptrdiff_t>(size));
  }
  return one;
}

// What `reprise calibrate` would make of the layer's first 512 queries.
Profile LearnProfile(const Model& model, uint32_t layer, const LayerGroup& group, Dtype dtype) {
  constexpr uint32_t kQueries = 512;
  std::vector<std::byte> bytes =
      ReadTokens(model, layer, 'q', dtype, model.query_heads, 0, kQueries);
  const int64_t head = int64_t{2} * model.dims;
  TensorView view{.data = bytes.data(), .dtype = dtype, .shape = {}, .stride_bytes = {}};
  view.shape = {1, kQueries, model.query_heads, model.dims};
  view.stride_bytes = {0, head * model.query_heads, head};
  Calibration calibration = Calibration::Create("golden", 1).value();
  if (!calibration.Take(0, group, view, 0).ok()) std::fprintf(stderr, "the queries do not fit\n");
  return calibration.Finish();
}

// One KV head of one layer; as the model's only layer, since the rest is not in the piece.
Source Real(const std::string& name, const Model& model, Dtype dtype, GroupKind kind, double theta,
            uint32_t layer, uint32_t head, uint32_t first, uint32_t tokens, bool profile) {
  Source source = SourceOf(name, dtype, kind, 1, model.kv_heads, model.dims, model.dims);
  LayerGroup& group = source.name_space.groups[0];
  group.heads_per_piece = 1;
  group.rope = {.pairing = model.pairing, .rotated_dims = model.dims, .theta = theta};
  source.slot = head;
  source.position = first;
  source.tokens = tokens;
  for (const auto& [tensor, to] : {std::pair('k', &source.key), std::pair('v', &source.value)}) {
    *to =
        HeadOf(ReadTokens(model, layer, tensor, dtype, model.kv_heads, first, tokens), model, head);
  }
  if (profile) source.profile = LearnProfile(model, layer, group, dtype);
  return source;
}

// 16 bits for the value at (token, channel) of a layer, channels counted over its heads; fp32 asks
// twice.
using Content = std::function<uint16_t(uint32_t token, uint32_t channel)>;

// `content` for K, then for V.
Source Synthetic(Source source, uint32_t tokens, const Content& content) {
  const LayerGroup& group = source.name_space.groups[0];
  source.tokens = tokens;
  for (const auto& [dims, to] :
       {std::pair(group.key_dim, &source.key), std::pair(group.value_dim, &source.value)}) {
    for (size_t layer = 0; layer < group.layers.size(); ++layer) {
      for (uint32_t token = 0; token < tokens; ++token) {
        for (uint32_t channel = 0; channel < group.kv_heads * dims; ++channel) {
          for (size_t half = 0; half < DtypeBytes(source.name_space.kv_dtype) / 2; ++half) {
            const uint16_t bits = content(token, channel);
            to->push_back(static_cast<std::byte>(bits));
            to->push_back(static_cast<std::byte>(bits >> 8));
          }
        }
      }
    }
  }
  return source;
}

class Random {
 public:
  uint32_t operator()() { return static_cast<uint32_t>(engine_()); }
  // Near enough to a Gaussian of deviation 1.
  float Bell() {
    float sum = -6;
    for (int i = 0; i < 12; ++i) sum += static_cast<float>((*this)() % 65536) / 65536;
    return sum;
  }

 private:
  std::mt19937_64 engine_{20261122};
};

uint16_t BitsOf(Dtype dtype, float value) {
  return dtype == Dtype::kBf16 ? progressive::Bf16Of(value) : progressive::Fp16Of(value);
}

constexpr auto kFull = GroupKind::kFullAttention;
constexpr auto kBf16 = Dtype::kBf16;
constexpr auto kFp16 = Dtype::kFp16;

// Channels of seven sizes around three means.
Content Bells(Dtype dtype, Random& random) {
  return [&random, dtype](uint32_t, uint32_t channel) {
    const float size = std::exp2(static_cast<float>(channel * 5 % 7) - 3);
    return BitsOf(dtype, random.Bell() * size + static_cast<float>(channel % 3));
  };
}

// Numbers that no model makes, and a head of which a part is turned.
void AddOfBothDtypes(Dtype dtype, Random& random, std::vector<Source>& sources) {
  const std::string ending = dtype == kBf16 ? "_bf16" : "_fp16";
  // Zeros, the smallest and largest denormals, the largest numbers, infinities, quiet and
  // signalling NaN.
  const std::array<uint16_t, 12> specials =
      dtype == kBf16 ? std::array<uint16_t, 12>{0,      0x8000, 1,      0x8001, 0x7F,   0x807F,
                                                0x7F7F, 0xFF7F, 0x7F80, 0xFF80, 0x7FC1, 0xFF81}
                     : std::array<uint16_t, 12>{0,      0x8000, 1,      0x8001, 0x3FF,  0x83FF,
                                                0x7BFF, 0xFBFF, 0x7C00, 0xFC00, 0x7E01, 0xFC01};
  sources.push_back(Synthetic(SourceOf("specials" + ending, dtype, kFull, 1, 1, 5, 3), 33,
                              [&](uint32_t, uint32_t) {
                                return random() % 4 == 0 ? specials[random() % specials.size()]
                                                         : BitsOf(dtype, random.Bell());
                              }));
  // Denormals and zeros of both signs among others: finite, so that they are coded.
  sources.push_back(Synthetic(SourceOf("denormals" + ending, dtype, kFull, 1, 1, 64, 1), 64,
                              [&](uint32_t token, uint32_t channel) {
                                const float size = dtype == kBf16 ? 0x1p-20F : 1.0F;
                                return token % 32 == channel ? specials[random() % 6]
                                                             : BitsOf(dtype, random.Bell() * size);
                              }));
  Source partial = SourceOf("rope_partial" + ending, dtype, kFull, 1, 1, 48, 40);
  partial.name_space.groups[0].rope = {
      .pairing = RopePairing::kHalves, .rotated_dims = 20, .theta = 10'000};
  partial.position = 4321;
  sources.push_back(Synthetic(std::move(partial), 63, Bells(dtype, random)));
}

void AddShapes(Random& random, std::vector<Source>& sources) {
  const Content bells = Bells(kBf16, random);
  const Content bits = [&](uint32_t, uint32_t) { return static_cast<uint16_t>(random()); };
  // Far from their channels' and tokens' others: escapes, and tokens of many sizes.
  sources.push_back(Synthetic(
      SourceOf("outliers_bf16", kBf16, kFull, 1, 1, 32, 32), 64, [&](uint32_t token, uint32_t) {
        const float size = (random() % 60 == 0 ? 20.0F : 1.0F) * (token % 13 == 5 ? 0.05F : 1.0F);
        return BitsOf(kBf16, random.Bell() * size);
      }));
  Source latent = SourceOf("latent_bf16", kBf16, GroupKind::kLatent, 1, 1, 40, 0);
  latent.name_space.groups[0].rope = {
      .pairing = RopePairing::kInterleaved, .rotated_dims = 8, .theta = 10'000};
  sources.push_back(Synthetic(std::move(latent), 64, bells));
  Source layers = SourceOf("layers_bf16", kBf16, kFull, 2, 2, 16, 12);
  layers.name_space.groups[0].rope = {
      .pairing = RopePairing::kHalves, .rotated_dims = 16, .theta = 10'000};
  layers.position = uint64_t{1} << 40;
  sources.push_back(Synthetic(std::move(layers), 64, bells));
  Source spans = SourceOf("two_spans_bf16", kBf16, kFull, 1, 1, 12, 1);
  spans.name_space.chunk_tokens = 512;
  sources.push_back(Synthetic(std::move(spans), 290, bells));
  sources.push_back(Synthetic(SourceOf("two_tiles_bf16", kBf16, kFull, 1, 2, 132, 1), 30, bells));
  sources.push_back(Synthetic(SourceOf("one_token_bf16", kBf16, kFull, 1, 1, 8, 8), 1, bells));
  sources.push_back(Synthetic(SourceOf("random_bits_bf16", kBf16, kFull, 1, 1, 9, 7), 37, bits));
  sources.push_back(Synthetic(SourceOf("constant_fp16", kFp16, kFull, 1, 1, 16, 16), 64,
                              [](uint32_t token, uint32_t channel) {
                                return static_cast<uint16_t>(0x3C00 + channel % 4 * 0x100 +
                                                             (token == 60 ? 1U : 0U));
                              }));
  for (const Dtype dtype : {kBf16, Dtype::kFp32}) {
    const char* name = dtype == kBf16 ? "raw_bf16" : "raw_fp32";
    Source raw = Synthetic(SourceOf(name, dtype, kFull, 2, 2, 5, 3), 7, bits);
    raw.codec = CodecId::kRaw;
    sources.push_back(std::move(raw));
  }
}

std::vector<Source> Sources(const Model& smollm2, const Model& gemma3) {
  constexpr auto kWindow = GroupKind::kSlidingWindow;
  Random random;
  std::vector<Source> sources;
  for (const Dtype dtype : {kBf16, kFp16}) AddOfBothDtypes(dtype, random, sources);
  AddShapes(random, sources);
  sources.push_back(Real("smollm2_bf16", smollm2, kBf16, kFull, 100'000, 12, 1, 0, 100, false));
  sources.push_back(
      Real("smollm2_fp16_profile", smollm2, kFp16, kFull, 100'000, 3, 2, 300, 32, true));
  sources.push_back(Real("gemma3_fp16", gemma3, kFp16, kWindow, 10'000, 7, 0, 256, 32, false));
  sources.push_back(
      Real("gemma3_bf16_profile", gemma3, kBf16, kFull, 1'000'000, 5, 0, 1000, 32, true));
  return sources;
}

TensorView ViewOf(std::vector<std::byte>& bytes, const Source& source, uint32_t dims) {
  const LayerGroup& group = source.name_space.groups[0];
  if (bytes.empty()) return {};
  const DenseTensor shaped(
      source.name_space.kv_dtype,
      {static_cast<uint32_t>(group.layers.size()), source.tokens, group.heads_per_piece, dims});
  TensorView view = shaped.view;
  view.data = bytes.data();
  return view;
}

absl::Status Write(Source& source, const std::string& folder, std::ofstream& index) {
  const TensorHashes input = HashesOf(source.key, source.value);
  if (source.profile) source.name_space.profile = ProfileName(*source.profile);
  PieceIdentity identity;
  identity.key = {Sha256::Of(AsBytes(source.name))};
  REPRISE_ASSIGN_OR_RETURN(identity.namespace_fingerprint, Fingerprint(source.name_space));
  identity.slot = PiecesPerChunk(source.name_space)[source.slot];
  identity.token_begin = source.position;
  const LayerGroup& group = source.name_space.groups[0];
  REPRISE_ASSIGN_OR_RETURN(
      const std::vector<std::byte> container,
      EncodePiece(source.name_space, identity, ViewOf(source.key, source, group.key_dim),
                  ViewOf(source.value, source, group.value_dim), source.codec,
                  source.profile ? &*source.profile : nullptr));
  REPRISE_ASSIGN_OR_RETURN(const PieceMeta meta, PieceMeta::Parse(container));
  index << "\npiece " << source.name << "\ncontainer " << Sha256::Of(container).Hex() << "\ninput "
        << input.key << " " << input.value << "\n";
  for (uint32_t level = 0; level < meta.level_count(); ++level) {
    REPRISE_ASSIGN_OR_RETURN(const TensorHashes hashes,
                             DecodedHashes(container, level, progressive::ScalarKernels()));
    index << "level " << level << " " << hashes.key << " " << hashes.value << "\n";
    if (level + 1 == meta.level_count() && hashes != input) {
      return absl::InternalError(source.name + " does not come back bit for bit");
    }
  }
  const std::vector<std::byte> extents = WithoutZeros(container);
  std::ofstream file(folder + "/" + source.name + ".v1", std::ios::binary);
  file.write(reinterpret_cast<const char*>(extents.data()),
             static_cast<std::streamsize>(extents.size()));
  std::printf("%-22s %6zu bytes", source.name.c_str(), extents.size());
  // The first byte of a segment of the progressive codec says how its block is stored.
  for (const Segment& segment : meta.segments()) {
    if (segment.plane != 0) break;
    std::printf(" %d", static_cast<int>(container[meta.meta_bytes() + segment.offset]));
  }
  std::printf("\n");
  return absl::OkStatus();
}

int Run(const std::vector<std::string>& arguments) {
  if (arguments.size() != 3) {
    std::fprintf(stderr, "usage: make_golden_pieces SMOLLM2 GEMMA3 OUT\n");
    return 2;
  }
  const Model smollm2{arguments[0], 3, 9, 64, RopePairing::kInterleaved};
  const Model gemma3{arguments[1], 1, 4, 256, RopePairing::kHalves};
  std::ofstream index(arguments[2] + "/golden_v1.txt");
  index << "# Pieces of version 1, made by tests/golden/make_golden_pieces.cc: see README.md.\n"
        << "# container: SHA-256 of NAME.v1 with its zeros. input, level: SHA-256 of K and of V,\n"
        << "# [layers, tokens, heads, dims]; the last level is the input.\n";
  for (Source& source : Sources(smollm2, gemma3)) {
    if (const absl::Status written = Write(source, arguments[2], index); !written.ok()) {
      std::fprintf(stderr, "%s: %s\n", source.name.c_str(), written.ToString().c_str());
      return 1;
    }
  }
  return index.flush() ? 0 : 1;
}

}  // namespace
}  // namespace reprise

int main(int argc, char** argv) { return reprise::Run({argv + 1, argv + argc}); }
