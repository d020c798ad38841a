// A small dump and a store, for tests of what the command line does with KV.
//
// Test code only. Not thread-safe.
#pragma once

#include <signal.h>

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "services/cli/reprise_process.h"

namespace reprise::cli {

inline constexpr uint32_t kTokens = 600;  // two chunks and a rest
inline constexpr uint32_t kStored = 512;
inline constexpr size_t kKvRow = size_t{2} * 2 * 32;  // 2 heads of 32, 16 bits
inline constexpr size_t kQRow = 2 * kKvRow;

inline constexpr char kManifest[] = R"({"format": "reprise-kv-dump/1", "model": "tiny",
 "model_sha256": "00000000000000000000000000000000000000000000000000000000000000ab",
 "q_heads": 4, "kv_heads": 2, "head_dim": 32, "layers": 3,
 "per_layer": [
  {"kind": "full", "window": null,
   "rope": {"theta": 10000.0, "dims": 32, "pairing": "halves", "scale": 1.0}},
  {"kind": "window", "window": 100,
   "rope": {"theta": 500, "dims": 16, "pairing": "interleaved", "scale": 0.5}},
  {"kind": "full", "window": null,
   "rope": {"theta": 10000.0, "dims": 32, "pairing": "halves", "scale": 1.0}}],
 "texts": [
  {"name": "one", "sha256": "00000000000000000000000000000000000000000000000000000000000000cd",
   "tokens": 600, "first_position": 0, "dir": "one"}]})";

// bf16 of a normal distribution, each channel with a mean of its own.
inline std::string Values(size_t bytes, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> gauss;
  std::vector<float> means(kKvRow / 2);
  for (float& mean : means) mean = 3 * gauss(random);
  std::string values(bytes, '\0');
  for (size_t i = 0; i < bytes / 2; ++i) {
    const float value = means[i % means.size()] + gauss(random);
    std::memcpy(values.data() + 2 * i, reinterpret_cast<const char*>(&value) + 2, 2);
  }
  return values;
}

class KvDumpTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { store_ = new RunningStore({"--memory", "512MiB"}); }
  static void TearDownTestSuite() {
    EXPECT_EQ(store_->Stop(SIGTERM).exit_code, 0);
    delete store_;
  }

  // A dump of its own, whose keys no other test has.
  void SetUp() override {
    std::filesystem::create_directories(scratch_.Path("dump/one"));
    Manifest(kManifest);
    static uint32_t seed = 0;
    Write("tokens.u32", Pattern(size_t{kTokens} * 4, ++seed));
    for (uint32_t layer = 0; layer < 3; ++layer) {
      const std::string name = "L00" + std::to_string(layer);
      Write(name + ".k.bf16", Values(kTokens * kKvRow, seed * 100 + layer));
      Write(name + ".v.bf16", Values(kTokens * kKvRow, seed * 100 + layer + 50));
      Write(name + ".q.bf16", Values(kTokens * kQRow, seed));
    }
  }

  void Manifest(const std::string& json) const { scratch_.Write("dump/dump.json", json); }
  void Write(const std::string& name, const std::string& bytes) const {
    scratch_.Write("dump/one/" + name, bytes);
  }
  std::string dump() const { return scratch_.Path("dump"); }
  Finished Put(std::vector<std::string> more = {}) const {
    more.insert(more.begin(), {"put", "--kv", dump()});
    return store_->Run(more);
  }
  Finished Get(const std::string& out, std::vector<std::string> more = {}) const {
    more.insert(more.begin(), {"get", "--kv", dump(), "-o", scratch_.Path(out)});
    return store_->Run(more);
  }
  std::string Stored(const std::string& name, size_t row_bytes) const {
    return ReadWhole(scratch_.Path("dump/one/" + name)).substr(0, kStored * row_bytes);
  }

  static inline RunningStore* store_ = nullptr;
  ScratchDir scratch_;
};

}  // namespace reprise::cli
