#include "storage/nvme/nvme_tier.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/byte_io.h"
#include "common/limits.h"
#include "storage/env/testing/simulated_env.h"
#include "storage/lru.h"
#include "storage/nvme/testing/tier_calls.h"
#include "storage/testing/planes_first.h"

namespace reprise::storage {
namespace {

class NvmeTierTest : public ::testing::Test {
 protected:
  NvmeTierTest() {
    options_.directory = "/tier";
    options_.env = &env_;
    options_.budget_bytes = 12 * kMiB;
    options_.memory_bytes = 16 * kMiB;
    options_.segment_bytes = 512 * kKiB;
    options_.make_policy = [](size_t max_pieces) {
      return std::make_unique<LruPolicy>(max_pieces);
    };
  }
  NvmeTier& Open() {
    tier_.reset();
    absl::StatusOr<std::unique_ptr<NvmeTier>> tier = NvmeTier::Open(options_);
    if (!tier.ok()) ADD_FAILURE() << tier.status();
    tier_ = *std::move(tier);
    return *tier_;
  }

  static std::vector<std::byte> Piece(const std::string& name, uint64_t plane_bytes = 10'000,
                                      uint32_t planes = 4, uint32_t seed = 1) {
    return Build({.key = TestKey(name),
                  .fingerprint = TestFingerprint("model"),
                  .plane_bytes = plane_bytes,
                  .planes = planes,
                  .segment_bytes = 3000,
                  .layers = 2,
                  .seed = seed});
  }

  SimulatedEnv env_{{.seed = 1}};
  NvmeOptions options_;
  std::unique_ptr<NvmeTier> tier_;
};

TEST_F(NvmeTierTest, APieceComesBackAsItWasWrittenAlsoAfterARestart) {
  const std::vector<std::byte> piece = Piece("a");
  const PieceAttributes attributes{
      .parent = TestKey("parent"), .position = 7, .recompute_seconds = 0.25};
  NvmeTier* tier = &Open();
  for (int start = 0; start < 2; ++start) {
    if (start == 0) {
      ASSERT_EQ(WriteTo(*tier, piece, {.attributes = attributes}), absl::OkStatus());
    } else {
      tier = &Open();
    }
    const std::optional<PieceSummary> summary = tier->Describe(1, TestKey("a"));
    ASSERT_TRUE(summary.has_value());
    const PieceMeta meta = PieceMeta::Parse(piece).value();
    EXPECT_EQ(summary->content_id, meta.header().content_id);
    EXPECT_EQ(summary->namespace_fingerprint, TestFingerprint("model"));
    EXPECT_EQ(summary->attributes.parent, TestKey("parent"));
    EXPECT_EQ(summary->attributes.position, 7u);
    EXPECT_EQ(summary->attributes.recompute_seconds, 0.25);
    EXPECT_EQ(summary->tier, Tier::kNvme);
    EXPECT_EQ(summary->planes_held, 4u);
    for (uint32_t level = 0; level < 4; ++level) {
      EXPECT_EQ(summary->levels()[level].bytes, meta.bytes_to(level));
      EXPECT_EQ(summary->levels()[level].distortion, meta.header().levels[level].Worst());
    }
    EXPECT_EQ(Look(*tier, 1, piece), Found::kIntact);
    EXPECT_FALSE(tier->Describe(2, TestKey("a")).has_value());
  }
}

TEST_F(NvmeTierTest, AnyPlanesCanBeReadAndAnyBeforeThemLeftOut) {
  options_.floor = {.key = 0.5, .value = 0.5};  // two planes in one run, two in the other
  const std::vector<std::byte> piece = Piece("a");
  const PieceMeta meta = PieceMeta::Parse(piece).value();
  NvmeTier& tier = Open();
  ASSERT_EQ(WriteTo(tier, piece), absl::OkStatus());
  for (uint32_t from = 0; from < 4; ++from) {
    for (uint32_t planes = from + 1; planes <= 4; ++planes) {
      const uint64_t begin = from == 0 ? 0 : AlignUp(meta.bytes_to(from - 1), 4096);
      const absl::StatusOr<std::vector<std::byte>> bytes =
          ReadFrom(tier, 1, TestKey("a"), planes, begin);
      ASSERT_TRUE(bytes.ok()) << bytes.status();
      EXPECT_TRUE(std::ranges::equal(
          *bytes, ByteSpan(piece).first(meta.bytes_to(planes - 1)).subspan(begin)));
    }
  }
}

TEST_F(NvmeTierTest, WhatReplacesADurablePieceIsDurableAlsoWhenMakingRoomGivesThatOneUp) {
  NvmeTier* tier = &Open();
  ASSERT_EQ(WriteTo(*tier, Piece("oldest")), absl::OkStatus());
  ASSERT_EQ(WriteTo(*tier, Piece("durable"), {.durable = true}), absl::OkStatus());
  for (int i = 0; tier->usage().evicted_pieces == 0; ++i) {
    ASSERT_EQ(WriteTo(*tier, Piece("piece " + std::to_string(i))), absl::OkStatus());
  }
  ASSERT_FALSE(tier->Describe(1, TestKey("oldest")).has_value());
  const std::vector<std::byte> other = Piece("durable", 10'000, 4, /*seed=*/2);
  ASSERT_EQ(WriteTo(*tier, other), absl::OkStatus());
  ASSERT_EQ(tier->usage().evicted_pieces, 2u);
  env_.PowerLoss(PowerLossMode::kDrop);
  EXPECT_EQ(Look(Open(), 1, other), Found::kIntact);
}

TEST_F(NvmeTierTest, WhatDoesNotFitMakesRoomAndTheBudgetHolds) {
  NvmeTier& tier = Open();
  uint64_t intact = 0;
  std::vector<std::vector<std::byte>> pieces;
  for (int i = 0; i < 640; ++i) {
    pieces.push_back(Piece("piece " + std::to_string(i), 5'000 + 37 * i % 20'000));
  }
  for (size_t begin = 0; begin < pieces.size(); begin += 32) {
    EXPECT_EQ(WriteAll(tier, std::span(pieces).subspan(begin, 32)), absl::OkStatus());
  }
  for (const std::vector<std::byte>& piece : pieces) {
    const Found found = Look(tier, 1, piece);
    EXPECT_NE(found, Found::kImpostor);
    intact += found == Found::kIntact ? 1 : 0;
  }
  const NvmeUsage usage = tier.usage();
  EXPECT_EQ(intact, usage.pieces);
  EXPECT_GT(usage.evicted_pieces, 300u);
  EXPECT_GT(usage.bytes_live, options_.budget_bytes / 2);
  EXPECT_LE(usage.bytes_on_disk, options_.budget_bytes);
  EXPECT_EQ(usage.damaged_pieces, 0u);
  EXPECT_EQ(Look(tier, 1, pieces.back()), Found::kIntact);
}

TEST_F(NvmeTierTest, ListsAndRemovesInTheOrderOfKeysWithinTenantAndNamespace) {
  NvmeTier& tier = Open();
  std::map<Key, bool> odd_by_key;
  for (int i = 0; i < 50; ++i) {
    const Key key = TestKey(std::to_string(i));
    const std::vector<std::byte> piece =
        Build({.key = key, .fingerprint = TestFingerprint(i % 2 != 0 ? "odd" : "even")});
    ASSERT_EQ(WriteTo(tier, piece, {.tenant = 1}), absl::OkStatus());
    ASSERT_EQ(WriteTo(tier, piece, {.tenant = 2}), absl::OkStatus());
    odd_by_key[key] = i % 2 != 0;
  }
  const Digest odd = TestFingerprint("odd");
  for (const Digest* fingerprint : {static_cast<const Digest*>(nullptr), &odd}) {
    std::vector<Key> expected;
    for (const auto& [key, is_odd] : odd_by_key) {
      if (fingerprint == nullptr || is_odd) expected.push_back(key);
    }
    std::vector<Key> listed;
    for (bool more = true; more;) {
      const std::optional<Key> after = listed.empty() ? std::nullopt : std::optional(listed.back());
      const ListPage page = tier.List(1, after.has_value() ? &*after : nullptr, 7, fingerprint);
      for (const ListPage::Entry& entry : page.pieces) listed.push_back(entry.key);
      more = page.more;
    }
    EXPECT_EQ(listed, expected);
  }
  EXPECT_EQ(tier.RemoveNamespace(1, odd), 25u);
  EXPECT_EQ(tier.RemoveNamespace(1, odd), 0u);
  EXPECT_EQ(tier.List(1, nullptr, 100, nullptr).pieces.size(), 25u);
  EXPECT_EQ(tier.List(2, nullptr, 100, nullptr).pieces.size(), 50u);
}

TEST_F(NvmeTierTest, AHeldPieceOutlivesAnyPressureUntilItsHoldEnds) {
  NvmeTier& tier = Open();
  ASSERT_EQ(WriteTo(tier, Piece("held")), absl::OkStatus());
  EXPECT_FALSE(
      tier.Hold(1, TestKey("held"), 4, Deadline::After(std::chrono::seconds(9), env_.clock())))
      << "it has no such level";
  EXPECT_FALSE(
      tier.Hold(1, TestKey("absent"), 0, Deadline::After(std::chrono::seconds(9), env_.clock())));
  ASSERT_TRUE(
      tier.Hold(1, TestKey("held"), 3, Deadline::After(std::chrono::seconds(9), env_.clock())));
  const auto press = [&](int round) {
    for (int i = 0; i < 400; ++i) {
      ASSERT_EQ(WriteTo(tier, Piece(std::to_string(round * 1000 + i))), absl::OkStatus());
    }
  };
  press(1);
  EXPECT_EQ(Look(tier, 1, Piece("held")), Found::kIntact);
  // Nor is it replaced by other content.
  EXPECT_TRUE(absl::IsResourceExhausted(WriteTo(tier, Piece("held", 10'000, 4, /*seed=*/2))));
  env_.manual_clock().Advance(std::chrono::seconds(10));
  EXPECT_EQ(WriteTo(tier, Piece("held", 10'000, 4, /*seed=*/2)), absl::OkStatus());
  press(2);
  EXPECT_FALSE(tier.Describe(1, TestKey("held")).has_value());
}

TEST_F(NvmeTierTest, PlanesGoBeforePiecesAndWhatStaysIsRead) {
  options_.floor = {.key = 0.5};  // three planes in one run
  options_.make_policy = [](size_t) { return std::make_unique<PlanesFirst>(); };
  NvmeTier* tier = &Open();
  std::vector<std::vector<std::byte>> pieces;
  for (int i = 0; i < 220; ++i) {
    pieces.push_back(Piece(std::to_string(i)));
    ASSERT_EQ(WriteTo(*tier, pieces.back()), absl::OkStatus());
  }
  EXPECT_EQ(tier->usage().evicted_pieces, 0u);
  EXPECT_GT(tier->usage().shed_pieces, 50u);
  for (int start = 0; start < 2; ++start) {
    if (start == 1) tier = &Open();
    uint32_t fewest = 4;
    for (size_t i = 0; i < pieces.size(); ++i) {
      EXPECT_EQ(Look(*tier, 1, pieces[i]), Found::kIntact) << i;
      fewest = std::min(fewest, tier->Describe(1, TestKey(std::to_string(i)))->planes_held);
    }
    EXPECT_LT(fewest, 4u);
    // A piece that is written again gets its planes back.
    if (start == 0) {
      ASSERT_EQ(WriteTo(*tier, pieces[0]), absl::OkStatus());
      EXPECT_EQ(tier->Describe(1, TestKey("0"))->planes_held, 4u);
    }
  }
}

TEST_F(NvmeTierTest, WorksOnTheMachinesDisk) {
  const std::filesystem::path directory =
      std::filesystem::path(::testing::TempDir()) / "reprise_nvme_tier_test";
  std::filesystem::remove_all(directory);
  options_.directory = directory.string();
  options_.env = &Env::Machine();
  std::vector<std::vector<std::byte>> pieces;
  for (int i = 0; i < 64; ++i) pieces.push_back(Piece(std::to_string(i)));
  EXPECT_EQ(WriteAll(Open(), pieces, {.durable = true}), absl::OkStatus());
  NvmeTier& tier = Open();
  for (const std::vector<std::byte>& piece : pieces) {
    EXPECT_EQ(Look(tier, 1, piece), Found::kIntact);
  }
  EXPECT_EQ(ScrubAll(tier), 0u);
  tier_.reset();
  std::filesystem::remove_all(directory);
}

}  // namespace
}  // namespace reprise::storage
