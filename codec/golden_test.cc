// Pieces of version 1 (codec/testdata) decode as they did when the format was frozen.

#include <algorithm>
#include <array>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string>
#include <vector>

#include "gtest/gtest.h"

#include "chunk/container.h"
#include "codec/codec.h"
#include "codec/testing/golden_piece.h"
#include "common/sha256.h"

namespace reprise {
namespace {

using progressive::InstructionSet;
using progressive::Kernels;

constexpr const char* kFolder = REPRISE_CODEC_TESTDATA;

// What golden_v1.txt says of one piece.
struct Golden {
  std::string name;
  std::string container;  // its SHA-256
  TensorHashes input;
  std::vector<TensorHashes> levels;
};

std::vector<Golden> ReadGoldens() {
  std::vector<Golden> goldens;
  std::ifstream file(std::string(kFolder) + "/golden_v1.txt");
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string what;
    words >> what;
    TensorHashes hashes;
    if (what == "piece") {
      words >> goldens.emplace_back().name;
    } else if (what == "container") {
      words >> goldens.back().container;
    } else if (what == "input") {
      words >> goldens.back().input.key >> goldens.back().input.value;
    } else if (what == "level") {
      size_t level = 0;
      words >> level >> hashes.key >> hashes.value;
      EXPECT_EQ(level, goldens.back().levels.size()) << goldens.back().name;
      goldens.back().levels.push_back(hashes);
    }
  }
  return goldens;
}

std::vector<std::byte> ReadContainer(const std::string& name) {
  std::ifstream file(std::string(kFolder) + "/" + name + ".v1", std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  auto container = WithZeros(AsBytes(text));
  EXPECT_TRUE(container.ok()) << name << ": " << container.status();
  return container.ok() ? *std::move(container) : std::vector<std::byte>{};
}

std::vector<const Kernels*> Sets() {
  std::vector<const Kernels*> sets;
  for (const auto set : {InstructionSet::kScalar, InstructionSet::kAvx2, InstructionSet::kAvx512}) {
    if (const Kernels* kernels = KernelsOf(set); kernels != nullptr) sets.push_back(kernels);
  }
  return sets;
}

void ExpectHashes(const absl::StatusOr<TensorHashes>& found, const TensorHashes& expected,
                  const std::string& where) {
  ASSERT_TRUE(found.ok()) << where << ": " << found.status();
  EXPECT_EQ(found->key, expected.key) << where;
  EXPECT_EQ(found->value, expected.value) << where;
}

TEST(GoldenTest, EveryLevelOfEveryPieceDecodesAsWhenTheFormatWasFrozen) {
  const std::vector<Golden> goldens = ReadGoldens();
  ASSERT_EQ(goldens.size(), 20U);
  for (const Golden& golden : goldens) {
    const std::vector<std::byte> container = ReadContainer(golden.name);
    ASSERT_EQ(Sha256::Of(container).Hex(), golden.container) << golden.name;
    ASSERT_EQ(PieceMeta::Parse(container)->level_count(), golden.levels.size()) << golden.name;
    for (const Kernels* kernels : Sets()) {
      for (uint32_t level = 0; level < golden.levels.size(); ++level) {
        ExpectHashes(DecodedHashes(container, level, *kernels), golden.levels[level],
                     golden.name + ", level " + std::to_string(level) + ", " + kernels->name);
      }
      ExpectHashes(DecodedHashes(container, kProgressiveLevels, *kernels), golden.input,
                   golden.name + ", exact, " + kernels->name);
    }
  }
}

// Whatever is lost of a container's end: K and V are each at a level that was recorded for the
// whole one, from none to the last, and never worse than with fewer bytes.
TEST(GoldenTest, APieceCutAtAnyByteDecodesWhatIsWhole) {
  const std::vector<Golden> goldens = ReadGoldens();
  const auto golden = std::ranges::find(goldens, std::string("rope_partial_bf16"), &Golden::name);
  ASSERT_NE(golden, goldens.end());
  const std::vector<std::byte> container = ReadContainer(golden->name);
  const auto meta = PieceMeta::Parse(container);
  ASSERT_TRUE(meta.ok()) << meta.status();
  std::vector<std::string> keys = {""};
  std::vector<std::string> values = {""};
  for (const TensorHashes& level : golden->levels) {
    if (keys.back() != level.key) keys.push_back(level.key);
    if (values.back() != level.value) values.push_back(level.value);
  }
  EXPECT_EQ(keys.size(), 7U);  // nothing, six planes
  EXPECT_EQ(values.size(), 7U);
  size_t key = 0;
  size_t value = 0;
  for (size_t size = 0; size <= container.size(); ++size) {
    const ByteSpan cut = ByteSpan(container).first(size);
    const auto found = DecodedHashes(cut, kProgressiveLevels, progressive::BestKernels());
    if (size < meta->meta_bytes()) {
      ASSERT_EQ(found.status().code(), absl::StatusCode::kDataLoss) << size;
      continue;
    }
    ASSERT_TRUE(found.ok()) << size << ": " << found.status();
    if (size == meta->meta_bytes()) {
      keys.front() = found->key;  // what the destination had before
      values.front() = found->value;
    }
    if (found->key != keys[key]) ++key;
    if (found->value != values[value]) ++value;
    ASSERT_LT(std::max(key, value), 7U) << size;
    ASSERT_EQ(found->key, keys[key]) << size;
    ASSERT_EQ(found->value, values[value]) << size;
  }
  EXPECT_EQ(key, 6U);
  EXPECT_EQ(value, 6U);
}

}  // namespace
}  // namespace reprise
