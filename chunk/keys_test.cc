#include "chunk/keys.h"

#include <fstream>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "common/limits.h"

namespace reprise {
namespace {

using ::testing::HasSubstr;

// One case of testdata/key_vectors.txt, whose expected values come from an implementation that
// shares no code with this one.
struct VectorCase {
  std::string name;
  Namespace name_space;
  std::string secret;
  std::vector<uint32_t> tokens;
  std::vector<std::string> extras;
  std::string file_name;

  std::string encoding;
  std::string fingerprint;
  std::vector<std::string> prefixes;
  size_t slots = 0;
  std::map<std::pair<size_t, size_t>, std::string> keys;
};

uint32_t Number(absl::string_view text) {
  uint32_t value = 0;
  EXPECT_TRUE(absl::SimpleAtoi(text, &value)) << "not a number: " << text;
  return value;
}

std::vector<uint32_t> Numbers(absl::string_view text, char separator) {
  std::vector<uint32_t> values;
  for (absl::string_view field : absl::StrSplit(text, separator)) values.push_back(Number(field));
  return values;
}

LayerGroup GroupOf(const std::vector<uint32_t>& numbers) {
  LayerGroup group;
  group.kind = static_cast<GroupKind>(numbers.at(0));
  group.kv_heads = numbers.at(1);
  group.key_dim = numbers.at(2);
  group.value_dim = numbers.at(3);
  group.window_tokens = numbers.at(4);
  group.layers_per_piece = numbers.at(5);
  group.heads_per_piece = numbers.at(6);
  return group;
}

double Real(absl::string_view text) {
  double value = 0;
  EXPECT_TRUE(absl::SimpleAtod(text, &value)) << "not a number: " << text;
  return value;
}

Rope RopeOf(const std::string& text) {
  const std::vector<std::string> fields = absl::StrSplit(text, ' ');
  Rope rope;
  rope.pairing = static_cast<RopePairing>(Number(fields.at(0)));
  rope.rotated_dims = Number(fields.at(1));
  rope.theta = Real(fields.at(2));
  rope.scaling = static_cast<RopeScaling>(Number(fields.at(3)));
  for (size_t i = 4; i < fields.size(); ++i) rope.scaling_parameters.push_back(Real(fields[i]));
  return rope;
}

bool ReadNamespaceField(const std::string& field, const std::string& text, Namespace& out) {
  const std::map<std::string, std::string*> texts = {
      {"tenant", &out.tenant},   {"model", &out.model},
      {"adapter", &out.adapter}, {"weight_quantization", &out.weight_quantization},
      {"profile", &out.profile}, {"revision", &out.revision}};
  if (const auto found = texts.find(field); found != texts.end()) {
    *found->second = text;
  } else if (field == "kv_dtype") {
    out.kv_dtype = static_cast<Dtype>(Number(text));
  } else if (field == "chunk_tokens") {
    out.chunk_tokens = Number(text);
  } else if (field == "group") {
    out.groups.push_back(GroupOf(Numbers(text, ' ')));
  } else if (field == "layers") {
    out.groups.back().layers = Numbers(text, ',');
  } else if (field == "rope") {
    out.groups.back().rope = RopeOf(text);
  } else {
    return false;
  }
  return true;
}

bool ReadCaseField(const std::string& field, const std::string& text, VectorCase& out) {
  if (field == "secret") {
    out.secret = text;
  } else if (field == "tokens") {
    out.tokens = Numbers(text, ',');
  } else if (field == "extra") {
    const std::vector<std::string> parts = absl::StrSplit(text, absl::MaxSplits(' ', 1));
    out.extras.resize(Number(parts.at(0)) + 1);
    out.extras.back() = parts.at(1);
  } else if (field == "file_name") {
    out.file_name = text;
  } else if (field == "encoding") {
    out.encoding = text;
  } else if (field == "fingerprint") {
    out.fingerprint = text;
  } else if (field == "prefix") {
    out.prefixes.push_back(text.substr(text.find(' ') + 1));
  } else if (field == "slots") {
    out.slots = Number(text);
  } else if (field == "key") {
    const std::vector<std::string> parts = absl::StrSplit(text, ' ');
    out.keys[{Number(parts.at(0)), Number(parts.at(1))}] = parts.at(2);
  } else {
    return false;
  }
  return true;
}

std::vector<VectorCase> ReadVectors() {
  std::vector<VectorCase> cases;
  std::ifstream file(REPRISE_KEY_VECTORS);
  EXPECT_TRUE(file.good()) << "cannot read " << REPRISE_KEY_VECTORS;
  for (std::string line; std::getline(file, line);) {
    if (line.empty() || line[0] == '#') continue;
    const size_t space = line.find(' ');
    const std::string field = line.substr(0, space);
    const std::string text = space == std::string::npos ? "" : line.substr(space + 1);
    if (field == "case") {
      cases.emplace_back().name = text;
    } else if (!ReadNamespaceField(field, text, cases.back().name_space)) {
      EXPECT_TRUE(ReadCaseField(field, text, cases.back())) << "unknown line: " << line;
    }
  }
  return cases;
}

TEST(KeyVectors, MatchTheIndependentImplementation) {
  const std::vector<VectorCase> cases = ReadVectors();
  ASSERT_EQ(cases.size(), 5u);
  for (const VectorCase& one : cases) {
    SCOPED_TRACE(one.name);
    const auto encoding = CanonicalEncoding(one.name_space);
    ASSERT_TRUE(encoding.ok()) << encoding.status();
    EXPECT_EQ(ToHex(*encoding), one.encoding);
    EXPECT_EQ(Fingerprint(one.name_space)->Hex(), one.fingerprint);
    EXPECT_EQ(PiecesPerChunk(one.name_space).size(), one.slots);
    if (!one.file_name.empty()) {
      EXPECT_EQ(one.name_space, FileNamespace(one.name_space.tenant));
      EXPECT_EQ(FileKey(one.name_space.tenant, one.file_name)->digest.Hex(), one.keys.at({0, 0}));
      continue;
    }
    const auto keys = PrefixKeys::Create(one.name_space, one.secret, one.tokens, one.extras);
    ASSERT_TRUE(keys.ok()) << keys.status();
    EXPECT_EQ(keys->fingerprint().Hex(), one.fingerprint);
    ASSERT_EQ(keys->chunk_count() + 1, one.prefixes.size());
    EXPECT_EQ(keys->root().digest.Hex(), one.prefixes[0]);
    ASSERT_EQ(keys->chunk_count() * keys->pieces_per_chunk(), one.keys.size());
    for (size_t chunk = 0; chunk < keys->chunk_count(); ++chunk) {
      EXPECT_EQ(keys->prefix_id(chunk).digest.Hex(), one.prefixes[chunk + 1]);
      for (size_t slot = 0; slot < keys->pieces_per_chunk(); ++slot) {
        EXPECT_EQ(keys->key(chunk, slot).digest.Hex(), one.keys.at({chunk, slot}));
      }
    }
  }
}

Namespace TwoTokenChunks() {
  Namespace name_space;
  name_space.model = "m";
  name_space.kv_dtype = Dtype::kBf16;
  name_space.chunk_tokens = 2;
  LayerGroup group;
  group.layers = {0, 1, 2};
  group.kv_heads = 5;
  group.key_dim = 8;
  group.value_dim = 8;
  group.layers_per_piece = 2;
  group.heads_per_piece = 3;
  name_space.groups.push_back(group);
  return name_space;
}

TEST(PiecesPerChunk, CutsLayersThenHeadsAndLeavesTheRestToTheLast) {
  const std::vector<PieceSlot> expected = {
      {0, 0, 2, 0, 3}, {0, 0, 2, 3, 5}, {0, 2, 3, 0, 3}, {0, 2, 3, 3, 5}};
  EXPECT_EQ(PiecesPerChunk(TwoTokenChunks()), expected);
}

TEST(PrefixKeys, APartialChunkHasNoKey) {
  const std::vector<uint32_t> tokens = {1, 2, 3};
  EXPECT_EQ(PrefixKeys::Create(TwoTokenChunks(), "", tokens)->chunk_count(), 1u);
  EXPECT_EQ(PrefixKeys::Create(TwoTokenChunks(), "", {})->chunk_count(), 0u);
}

TEST(PrefixKeys, ASharedPrefixSharesExactlyItsKeys) {
  const std::vector<uint32_t> one = {1, 2, 3, 4, 5, 6};
  const std::vector<uint32_t> other = {1, 2, 3, 9, 5, 6};
  const auto a = PrefixKeys::Create(TwoTokenChunks(), "s", one);
  const auto b = PrefixKeys::Create(TwoTokenChunks(), "s", other);
  EXPECT_EQ(a->prefix_id(0), b->prefix_id(0));
  EXPECT_NE(a->prefix_id(1), b->prefix_id(1));
  EXPECT_NE(a->prefix_id(2), b->prefix_id(2)) << "equal tokens after different ones must differ";
}

TEST(PrefixKeys, NamespaceSecretTokensAndExtrasAllCount) {
  const std::vector<uint32_t> tokens = {1, 2};
  const std::vector<std::string> extras = {"image"};
  Namespace other_model = TwoTokenChunks();
  other_model.model = "n";
  std::set<Key> keys;
  keys.insert(PrefixKeys::Create(TwoTokenChunks(), "", tokens)->key(0, 0));
  keys.insert(PrefixKeys::Create(TwoTokenChunks(), "s", tokens)->key(0, 0));
  keys.insert(PrefixKeys::Create(TwoTokenChunks(), "", tokens, extras)->key(0, 0));
  keys.insert(PrefixKeys::Create(other_model, "", tokens)->key(0, 0));
  keys.insert(PrefixKeys::Create(TwoTokenChunks(), "", std::vector<uint32_t>{2, 1})->key(0, 0));
  keys.insert(PrefixKeys::Create(TwoTokenChunks(), "", tokens)->key(0, 1));
  EXPECT_EQ(keys.size(), 6u);
}

TEST(PrefixKeys, RefusesExtrasForChunksThatDoNotExist) {
  const std::vector<uint32_t> tokens = {1, 2, 3};
  const std::vector<std::string> extras = {"", "image"};
  const auto keys = PrefixKeys::Create(TwoTokenChunks(), "", tokens, extras);
  EXPECT_EQ(keys.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(keys.status().message(), HasSubstr("2 chunks"));
}

TEST(PrefixKeys, RefusesANamespaceWithoutTokens) {
  const std::vector<uint32_t> tokens = {1, 2};
  const auto keys = PrefixKeys::Create(FileNamespace("default"), "", tokens);
  EXPECT_EQ(keys.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(keys.status().message(), HasSubstr("FileKey"));
}

TEST(PieceKey, DependsOnEveryFieldOfTheSlot) {
  const PrefixId prefix{Sha256::Of(AsBytes("prefix"))};
  std::set<Key> keys = {PieceKey(prefix, {0, 0, 1, 0, 1}), PieceKey(prefix, {1, 0, 1, 0, 1}),
                        PieceKey(prefix, {0, 1, 1, 0, 1}), PieceKey(prefix, {0, 0, 2, 0, 1}),
                        PieceKey(prefix, {0, 0, 1, 1, 1}), PieceKey(prefix, {0, 0, 1, 0, 2})};
  EXPECT_EQ(keys.size(), 6u);
}

TEST(FileKey, DiffersByTenantAndName) {
  std::set<Key> keys = {*FileKey("a", "x"), *FileKey("a", "y"), *FileKey("b", "x")};
  EXPECT_EQ(keys.size(), 3u);
  EXPECT_EQ(*FileKey("a", "x"), *FileKey("a", "x"));
}

TEST(FileKey, RefusesNamesAndTenantsOutsideTheLimits) {
  EXPECT_TRUE(FileKey("a", std::string(kMaxFileNameBytes, 'x')).ok());
  for (const auto& key :
       {FileKey("a", ""), FileKey("a", std::string(kMaxFileNameBytes + 1, 'x')), FileKey("", "x"),
        FileKey(std::string(kMaxTenantNameBytes + 1, 't'), "x")}) {
    EXPECT_EQ(key.status().code(), absl::StatusCode::kInvalidArgument) << key.status();
  }
}

}  // namespace
}  // namespace reprise
