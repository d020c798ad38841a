// Levels against a real store in another process, over UCX: what each moves, and what comes of it.

#include <gtest/gtest.h>

#include "client/attention_sample.h"
#include "client/sample_tensors.h"
#include "services/cli/reprise_process.h"

namespace reprise {
namespace {

constexpr uint32_t kChunks = 4;
constexpr uint32_t kLevels = kProgressiveLevels;

Deadline Soon() { return Deadline::After(std::chrono::seconds(60)); }

std::unique_ptr<Client> Connect(const cli::RunningStore& store) {
  auto client = Client::Connect({.address = store.grpc(), .carrier = Carrier::kUcx});
  EXPECT_TRUE(client.ok()) << client.status();
  return client.ok() ? *std::move(client) : nullptr;
}

class StoreLevelsTest : public ::testing::TestWithParam<Dtype> {};

TEST_P(StoreLevelsTest, FewerBytesForAKnownLossAndAllOfThemForNone) {
  const cli::RunningStore store({"--memory", "512MiB"});
  client::AttentionSample sample(GetParam(), kChunks);
  sample.Fill(20261122);
  const PrefixKeys keys = client::SampleKeys(sample.name_space(), kChunks);
  {
    const auto writer = Connect(store);
    ASSERT_NE(writer, nullptr);
    auto published = writer->Publish(keys, kChunks, sample.views(), {}, Soon()).Wait();
    ASSERT_TRUE(published.ok()) << published.status();
    EXPECT_EQ(published->pieces_stored, kChunks * keys.pieces_per_chunk());
  }
  const auto reader = Connect(store);
  ASSERT_NE(reader, nullptr);
  ASSERT_EQ(reader->carrier(), "ucx");
  const LookupResult hit = reader->Lookup(keys, {}, Soon()).Wait().value();
  ASSERT_EQ(hit.chunks, kChunks);

  uint64_t bytes_below = 0;
  Distortion lost_below{.key = 1, .value = 1};
  for (uint32_t level = 0; level < kLevels; ++level) {
    SCOPED_TRACE(level);
    const uint64_t counted = reader->counters().bytes_received;
    client::AttentionSample loaded(GetParam(), kChunks);
    const LoadResult result =
        reader->Load(keys, 0, kChunks, loaded.views(), {.level = level, .expected = &hit}, Soon())
            .Wait()
            .value();
    ASSERT_EQ(result.chunks, kChunks);
    EXPECT_GT(result.bytes_received, bytes_below);
    EXPECT_EQ(reader->counters().bytes_received - counted, result.bytes_received);
    bytes_below = result.bytes_received;
    for (uint32_t chunk = 0; chunk < kChunks; ++chunk) {
      const SelectionResult& selection = result.selections[chunk];
      const Distortion lost = loaded.LostOf(sample, chunk);
      EXPECT_EQ(selection.level, level);
      // The encoder measures before values are rounded to the dtype.
      EXPECT_NEAR(selection.distortion.key, lost.key, 0.03F * lost.key);
      EXPECT_NEAR(selection.distortion.value, lost.value, 0.03F * lost.value);
    }
    const Distortion lost = loaded.LostOf(sample, 0);
    // Of one, or of both.
    EXPECT_LT(lost.key * lost.value, 0.7F * lost_below.key * lost_below.value);
    lost_below = lost;
    EXPECT_EQ(result.lossless, level == kLevels - 1);
    EXPECT_EQ(loaded == sample, level == kLevels - 1);
  }
}

INSTANTIATE_TEST_SUITE_P(Dtypes, StoreLevelsTest, ::testing::Values(Dtype::kBf16, Dtype::kFp16));

}  // namespace
}  // namespace reprise
