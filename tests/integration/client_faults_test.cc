// The client over a connection that drops, delays, truncates, flips and reorders: never wrong data,
// never late, and nothing written to the caller's memory once an operation is over.

#include <random>
#include <thread>

#include <gtest/gtest.h>

#include "tests/integration/client_store_fixture.h"

namespace reprise {
namespace {

using client::AttentionNamespace;
using client::Layout;
using client::SampleKeys;
using client::SampleTensors;
using transport::FaultPlan;

// How far past its deadline an operation may end on a busy machine under a sanitizer.
constexpr std::chrono::seconds kGrace{20};

class FaultTest : public ClientStoreTest,
                  public ::testing::WithParamInterface<std::pair<const char*, FaultPlan>> {};

TEST_P(FaultTest, LoadsAreRightOrMissAndEndInTime) {
  constexpr uint32_t kChunks = 4;
  constexpr int kLoads = 150;
  const PrefixKeys keys = SampleKeys(AttentionNamespace(), kChunks);
  auto writer = Connect();
  Publish(*writer, keys, kChunks, 11);
  auto reader = ConnectFaulty(GetParam().second);
  int complete = 0;
  int missed = 0;
  for (int i = 0; i < kLoads; ++i) {
    SampleTensors loaded(keys.name_space(), 0, kChunks, Layout::kHeadsFirst);
    const Deadline deadline = Deadline::After(std::chrono::milliseconds(250));
    auto result = reader->Load(keys, 0, kChunks, loaded.views(), {}, deadline).Wait();
    ASSERT_LT(Clock::Steady().Now(), deadline.at() + kGrace);
    ASSERT_TRUE(result.ok()) << result.status();
    ASSERT_TRUE(loaded.Holds(11, 0, result->chunks));
    ASSERT_TRUE(loaded.GuardsIntact());
    ASSERT_EQ(result->misses.empty(), result->chunks == kChunks);
    complete += result->chunks == kChunks;
    missed += !result->misses.empty();
    // A flip on the way looks to the client like damage in the store, which then checks, and finds
    // none.
  }
  EXPECT_GT(complete, 0);
  EXPECT_GT(missed, 0);
  reader.reset();
  EXPECT_EQ(writer->Lookup(keys, {}, Soon()).Wait()->chunks, kChunks);
}

INSTANTIATE_TEST_SUITE_P(
    Plans, FaultTest,
    ::testing::Values(
        std::pair("flipped_bulk", FaultPlan{.seed = 1, .flip_bulk_bit = 0.02}),
        std::pair("flipped_messages", FaultPlan{.seed = 2, .flip_message_bit = 0.02}),
        std::pair("truncated", FaultPlan{.seed = 3, .truncate_bulk = 0.02}),
        std::pair("reordered", FaultPlan{.seed = 4, .reorder = 0.02}),
        std::pair("dropped", FaultPlan{.seed = 5, .drop_request = 0.03, .drop_reply = 0.03}),
        std::pair("late",
                  FaultPlan{.seed = 6, .delay = 0.01, .delay_by = std::chrono::milliseconds(300)}),
        std::pair("killed", FaultPlan{.seed = 7, .kill_after_parts = 100})),
    [](const auto& tested) { return tested.param.first; });

TEST_F(ClientStoreTest, PublishOverABadConnectionStoresNothingWrong) {
  constexpr uint32_t kChunks = 3;
  auto checker = Connect();
  auto writer = ConnectFaulty(
      {.seed = 9, .drop_reply = 0.05, .flip_message_bit = 0.05, .kill_after_parts = 40});
  int stored = 0;
  for (uint32_t i = 0; i < 40; ++i) {
    const PrefixKeys keys = SampleKeys(AttentionNamespace(), kChunks, 100 + i);
    SampleTensors tensors(keys.name_space(), 0, kChunks, Layout::kContiguous);
    tensors.Fill(i);
    const Deadline deadline = Deadline::After(std::chrono::milliseconds(250));
    stored += writer->Publish(keys, kChunks, tensors.views(), {}, deadline).Wait().ok();
    ASSERT_LT(Clock::Steady().Now(), deadline.at() + kGrace);
    SampleTensors loaded(keys.name_space(), 0, kChunks, Layout::kContiguous);
    auto result = checker->Load(keys, 0, kChunks, loaded.views(), {}, Soon()).Wait();
    ASSERT_TRUE(result.ok());
    ASSERT_TRUE(loaded.Holds(i, 0, result->chunks));
  }
  EXPECT_GT(stored, 0);
}

// Ends loads early in both ways, at random moments, beside others that go on.
TEST_F(ClientStoreTest, NothingIsWrittenAfterALoadIsOver) {
  constexpr uint32_t kChunks = 24;
  const PrefixKeys keys = SampleKeys(AttentionNamespace(), kChunks);
  auto client = Connect();
  Publish(*client, keys, kChunks, 21);
  std::mt19937 random(7);
  SampleTensors beside(keys.name_space(), 0, kChunks, Layout::kContiguous);
  int ended_early = 0;
  for (int i = 0; i < 200; ++i) {
    SampleTensors loaded(keys.name_space(), 0, kChunks, Layout::kHeadsFirst);
    const bool by_deadline = i % 2 == 0;
    const auto limit = std::chrono::microseconds(by_deadline ? random() % 3'000 : 60'000'000);
    auto load = client->Load(keys, 0, kChunks, loaded.views(), {}, Deadline::After(limit));
    auto other = client->Load(keys, 0, kChunks, beside.views(), {}, Soon());
    if (!by_deadline) {
      const uint64_t before = client->counters().pieces_loaded;
      const uint64_t wanted = random() % (kChunks * keys.pieces_per_chunk());
      while (client->counters().pieces_loaded < before + wanted && !load.Done())
        std::this_thread::yield();
      load.Cancel();
    }
    auto result = load.Wait();
    const std::vector<std::byte> at_end = loaded.Snapshot();
    if (result.ok()) {
      ASSERT_TRUE(loaded.Holds(21, 0, result->chunks));
    } else {
      ASSERT_TRUE(absl::IsCancelled(result.status())) << result.status();
    }
    ended_early += !result.ok() || result->chunks < kChunks;
    auto other_result = other.Wait();
    ASSERT_TRUE(other_result.ok());
    ASSERT_EQ(other_result->chunks, kChunks);
    ASSERT_EQ(loaded.Snapshot(), at_end);
    ASSERT_TRUE(loaded.GuardsIntact());
  }
  EXPECT_GT(ended_early, 0);
  EXPECT_TRUE(beside.Holds(21, 0, kChunks));
}

}  // namespace
}  // namespace reprise
