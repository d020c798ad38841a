#include "chunk/namespace.h"

#include <cmath>
#include <functional>
#include <limits>
#include <numeric>
#include <set>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "common/limits.h"

namespace reprise {
namespace {

using ::testing::HasSubstr;

// A namespace with a group of every kind, where each rule of Validate has something to apply to.
Namespace Hybrid() {
  Namespace name_space;
  name_space.model = "m";
  name_space.kv_dtype = Dtype::kFp16;
  LayerGroup full;
  full.layers = {0, 1, 2, 3};
  full.kv_heads = 8;
  full.key_dim = 64;
  full.value_dim = 64;
  full.layers_per_piece = 2;
  full.heads_per_piece = 8;
  full.rope = {.pairing = RopePairing::kHalves, .rotated_dims = 64, .theta = 10000};
  LayerGroup window = full;
  window.kind = GroupKind::kSlidingWindow;
  window.layers = {4, 5};
  window.window_tokens = 512;
  window.rope.theta = 1000000;
  LayerGroup latent = full;
  latent.kind = GroupKind::kLatent;
  latent.layers = {6, 7};
  latent.kv_heads = 1;
  latent.heads_per_piece = 1;
  latent.key_dim = 576;
  latent.value_dim = 0;
  LayerGroup state = full;
  state.kind = GroupKind::kState;
  state.layers = {8};
  state.layers_per_piece = 1;
  state.value_dim = 0;
  state.rope = {};
  name_space.groups = {full, window, latent, state};
  return name_space;
}

using Change = std::function<void(Namespace&)>;

TEST(Validate, AcceptsEveryKindOfGroup) {
  EXPECT_TRUE(Validate(Hybrid()).ok()) << Validate(Hybrid());
  EXPECT_TRUE(Validate(FileNamespace("default")).ok()) << Validate(FileNamespace("default"));
}

TEST(Validate, NamesTheFieldThatIsWrong) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double infinity = std::numeric_limits<double>::infinity();
  const std::vector<std::pair<std::string, Change>> changes = {
      {"field tenant", [](Namespace& n) { n.tenant.clear(); }},
      {"field tenant", [](Namespace& n) { n.tenant.assign(kMaxTenantNameBytes + 1, 't'); }},
      {"field model", [](Namespace& n) { n.model.clear(); }},
      {"bytes encoded", [](Namespace& n) { n.model.assign(kMaxNamespaceBytes, 'm'); }},
      {"field profile", [](Namespace& n) { n.profile = "abc"; }},
      {"field profile", [](Namespace& n) { n.profile.assign(64, 'A'); }},
      {"field kv_dtype", [](Namespace& n) { n.kv_dtype = static_cast<Dtype>(4); }},
      {"field kv_dtype", [](Namespace& n) { n.kv_dtype = Dtype::kOpaque; }},
      {"field chunk_tokens", [](Namespace& n) { n.chunk_tokens = 0; }},
      {"field chunk_tokens", [](Namespace& n) { n.chunk_tokens = kMaxTokensPerChunk + 1; }},
      {"field groups is empty", [](Namespace& n) { n.groups.clear(); }},
      {"groups[0].kind", [](Namespace& n) { n.groups[0].kind = static_cast<GroupKind>(0); }},
      {"groups[0].kind", [](Namespace& n) { n.groups[0].kind = static_cast<GroupKind>(6); }},
      {"groups[0].layers is empty", [](Namespace& n) { n.groups[0].layers.clear(); }},
      {"not ascending",
       [](Namespace& n) {
         n.groups[0].layers = {0, 2, 1, 3};
       }},
      {"not ascending",
       [](Namespace& n) {
         n.groups[0].layers = {0, 1, 1, 3};
       }},
      {"another group",
       [](Namespace& n) {
         n.groups[1].layers = {3, 5};
       }},
      {"names layer 1024", [](Namespace& n) { n.groups[0].layers[3] = kMaxLayers; }},
      {"groups[0].kv_heads", [](Namespace& n) { n.groups[0].kv_heads = 0; }},
      {"groups[0].kv_heads", [](Namespace& n) { n.groups[0].kv_heads = kMaxKvHeads + 1; }},
      {"groups[2].kv_heads", [](Namespace& n) { n.groups[2].kv_heads = 2; }},
      {"groups[0].key_dim", [](Namespace& n) { n.groups[0].key_dim = 0; }},
      {"groups[0].key_dim", [](Namespace& n) { n.groups[0].key_dim = kMaxHeadDim + 1; }},
      {"groups[0].value_dim", [](Namespace& n) { n.groups[0].value_dim = 0; }},
      {"and value_dim 4097", [](Namespace& n) { n.groups[0].value_dim = kMaxHeadDim + 1; }},
      {"groups[2].value_dim", [](Namespace& n) { n.groups[2].value_dim = 64; }},
      {"groups[3].value_dim", [](Namespace& n) { n.groups[3].value_dim = 64; }},
      {"groups[0].window_tokens", [](Namespace& n) { n.groups[0].window_tokens = 1; }},
      {"groups[1].window_tokens", [](Namespace& n) { n.groups[1].window_tokens = 0; }},
      {"groups[0].layers_per_piece", [](Namespace& n) { n.groups[0].layers_per_piece = 0; }},
      {"groups[0].layers_per_piece", [](Namespace& n) { n.groups[0].layers_per_piece = 5; }},
      {"groups[0].heads_per_piece", [](Namespace& n) { n.groups[0].heads_per_piece = 0; }},
      {"groups[0].heads_per_piece", [](Namespace& n) { n.groups[0].heads_per_piece = 9; }},
      {"groups[0].rope.pairing", [](Namespace& n) { n.groups[0].rope.pairing = RopePairing{3}; }},
      {"rope.rotated_dims", [](Namespace& n) { n.groups[0].rope.rotated_dims = 0; }},
      {"rope.rotated_dims", [](Namespace& n) { n.groups[0].rope.rotated_dims = 63; }},
      {"rope.rotated_dims", [](Namespace& n) { n.groups[0].rope.rotated_dims = 66; }},
      {"rope.theta", [](Namespace& n) { n.groups[0].rope.theta = 0; }},
      {"rope.theta", [](Namespace& n) { n.groups[0].rope.theta = -1; }},
      {"rope.theta", [nan](Namespace& n) { n.groups[0].rope.theta = nan; }},
      {"rope.theta", [infinity](Namespace& n) { n.groups[0].rope.theta = infinity; }},
      {"groups[3].rope", [](Namespace& n) { n.groups[3].rope.theta = 1; }},
      {"groups[3].rope", [](Namespace& n) { n.groups[3].rope.theta = -0.0; }},
      {"groups[3].rope", [nan](Namespace& n) { n.groups[3].rope.theta = nan; }},
      {"groups[3].rope", [](Namespace& n) { n.groups[3].rope.rotated_dims = 2; }},
      {"groups[3].rope", [](Namespace& n) { n.groups[3].rope.scaling = RopeScaling::kLinear; }},
      {"groups[1].rope.scaling_parameters",
       [](Namespace& n) { n.groups[1].rope.scaling = RopeScaling::kLinear; }},
  };
  for (const auto& [message, change] : changes) {
    Namespace name_space = Hybrid();
    change(name_space);
    const absl::Status status = Validate(name_space);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << message;
    EXPECT_THAT(status.message(), HasSubstr(message));
    EXPECT_EQ(CanonicalEncoding(name_space).status(), status);
    EXPECT_EQ(Fingerprint(name_space).status(), status);
  }
}

TEST(Validate, RefusesPartitionsThatCannotBeStored) {
  Namespace name_space = Hybrid();
  name_space.groups.resize(1);
  LayerGroup& group = name_space.groups[0];
  name_space.kv_dtype = Dtype::kFp32;
  group.rope = {};
  group.kv_heads = 1024;
  group.heads_per_piece = 1024;
  group.key_dim = group.value_dim = 2048;
  name_space.chunk_tokens = 4;
  group.layers_per_piece = 4;
  EXPECT_TRUE(Validate(name_space).ok()) << "exactly 8 MiB a row and 256 MiB a piece";
  name_space.chunk_tokens = 5;
  EXPECT_THAT(Validate(name_space).message(), HasSubstr("335544320"));
  name_space.chunk_tokens = 1;
  group.value_dim = 2049;
  EXPECT_THAT(Validate(name_space).message(), HasSubstr("8392704"));
}

TEST(Validate, RefusesMorePiecesThanALookupHolds) {
  Namespace name_space = Hybrid();
  name_space.groups.resize(1);
  LayerGroup& group = name_space.groups[0];
  group.kv_heads = 1024;
  group.heads_per_piece = 1;
  group.layers_per_piece = 1;
  EXPECT_TRUE(Validate(name_space).ok()) << "4 * 1024 pieces";
  group.layers.push_back(9);
  EXPECT_THAT(Validate(name_space).message(), HasSubstr("5120 pieces"));
}

// Injectivity: no two different namespaces have one encoding. Each change moves one field, or one
// byte from one field to its neighbour, which an encoding without lengths would not notice.
TEST(CanonicalEncoding, DiffersWheneverAFieldDiffers) {
  const auto linear = [](double factor) {
    Rope rope = Hybrid().groups[0].rope;
    rope.scaling = RopeScaling::kLinear;
    rope.scaling_parameters = {factor};
    return rope;
  };
  const auto llama3 = [](double low_frequency_factor) {
    Rope rope = Hybrid().groups[0].rope;
    rope.scaling = RopeScaling::kLlama3;
    rope.scaling_parameters = {8, low_frequency_factor, 4, 8192};
    return rope;
  };
  const std::vector<Change> changes = {
      [](Namespace&) {},
      [](Namespace& n) {
        n.tenant = "defaul";
        n.model = "tm";
      },
      [](Namespace& n) { n.tenant = "other"; },
      [](Namespace& n) { n.model = "m1"; },
      [](Namespace& n) { n.revision = "1"; },
      [](Namespace& n) { n.adapter = "1"; },
      [](Namespace& n) { n.weight_quantization = "1"; },
      [](Namespace& n) { n.kv_dtype = Dtype::kBf16; },
      [](Namespace& n) { n.chunk_tokens = 128; },
      [](Namespace& n) { n.profile.assign(64, '1'); },
      [](Namespace& n) { n.groups.pop_back(); },
      [](Namespace& n) { std::swap(n.groups[0], n.groups[1]); },
      [](Namespace& n) { n.groups[3].kind = GroupKind::kOpaque; },
      [](Namespace& n) {
        n.groups[0].layers = {0, 1, 2, 9};
      },
      [](Namespace& n) {
        n.groups[0].layers = {0, 1, 2};
        n.groups[1].layers = {3, 4, 5};
      },
      [](Namespace& n) { n.groups[0].kv_heads = 9; },
      [](Namespace& n) { n.groups[0].key_dim = 65; },
      [](Namespace& n) { n.groups[0].value_dim = 65; },
      [](Namespace& n) { n.groups[1].window_tokens = 513; },
      [](Namespace& n) { n.groups[0].layers_per_piece = 1; },
      [](Namespace& n) { n.groups[0].heads_per_piece = 1; },
      [](Namespace& n) { n.groups[0].rope = {}; },
      [](Namespace& n) { n.groups[0].rope.pairing = RopePairing::kInterleaved; },
      [](Namespace& n) { n.groups[0].rope.rotated_dims = 32; },
      [](Namespace& n) { n.groups[0].rope.theta = std::nextafter(10000.0, 20000.0); },
      [](Namespace& n) { std::swap(n.groups[0].rope, n.groups[1].rope); },
      [linear](Namespace& n) { n.groups[0].rope = linear(8); },
      [linear](Namespace& n) { n.groups[0].rope = linear(std::nextafter(8, 9)); },
      [linear](Namespace& n) { n.groups[1].rope = linear(8); },
      [llama3](Namespace& n) { n.groups[0].rope = llama3(1); },
      [llama3](Namespace& n) { n.groups[0].rope = llama3(2); },
  };
  std::set<std::vector<std::byte>> encodings;
  std::set<Digest> fingerprints;
  for (const Change& change : changes) {
    Namespace name_space = Hybrid();
    change(name_space);
    const auto encoding = CanonicalEncoding(name_space);
    ASSERT_TRUE(encoding.ok()) << encoding.status();
    EXPECT_TRUE(encodings.insert(*encoding).second) << "change " << encodings.size();
    EXPECT_TRUE(fingerprints.insert(*Fingerprint(name_space)).second);
    EXPECT_EQ(*CanonicalEncoding(Namespace(name_space)), *encoding) << "equal, yet encoded apart";
  }
}

TEST(CanonicalEncoding, IsPredictedToTheByteByTheSizeLimit) {
  Namespace name_space = Hybrid();
  const size_t spare = kMaxNamespaceBytes - CanonicalEncoding(name_space)->size();
  name_space.model.append(spare, 'x');
  ASSERT_TRUE(CanonicalEncoding(name_space).ok());
  EXPECT_EQ(CanonicalEncoding(name_space)->size(), kMaxNamespaceBytes);
  name_space.model.append(1, 'x');
  EXPECT_FALSE(CanonicalEncoding(name_space).ok());
}

TEST(DtypeBytes, AreTheWidthsOfTheFormats) {
  EXPECT_EQ(DtypeBytes(Dtype::kOpaque), 1u);
  EXPECT_EQ(DtypeBytes(Dtype::kBf16), 2u);
  EXPECT_EQ(DtypeBytes(Dtype::kFp16), 2u);
  EXPECT_EQ(DtypeBytes(Dtype::kFp32), 4u);
}

}  // namespace
}  // namespace reprise
