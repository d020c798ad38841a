#include "storage/index/piece_record.h"

#include <random>

#include <gtest/gtest.h>

#include "common/limits.h"
#include "storage/testing/test_piece.h"

namespace reprise::storage {
namespace {

PieceRecord SomeRecord(std::mt19937_64& random) {
  PieceRecord record;
  PieceSummary& summary = record.summary;
  summary.content_id.digest = TestKey(std::to_string(random())).digest;
  summary.namespace_fingerprint = TestFingerprint(std::to_string(random()));
  if (random() % 2 == 0) summary.attributes.parent = TestKey(std::to_string(random()));
  if (random() % 2 == 0) {
    summary.attributes.expires_at_s = static_cast<uint32_t>(1 + random() % UINT32_MAX);
  }
  summary.attributes.position = random() >> random() % 64;
  summary.attributes.recompute_seconds = static_cast<double>(random() % 1000) / 64;
  summary.token_begin = random() >> random() % 64;
  summary.tier = Tier::kNvme;
  summary.level_count = 1 + static_cast<uint32_t>(random() % kMaxPlanes);
  summary.planes_held = 1 + static_cast<uint32_t>(random() % summary.level_count);
  record.base_planes = 1 + static_cast<uint32_t>(random() % summary.level_count);
  uint64_t bytes = 0;
  for (uint32_t level = 0; level < summary.level_count; ++level) {
    bytes += 1 + random() % 1'000'000;
    summary.all_levels[level] = {.bytes = bytes,
                                 .distortion = {.key = static_cast<float>(random() % 100) / 128,
                                                .value = static_cast<float>(random() % 2) / 2}};
  }
  record.durable = random() % 2 == 0;
  record.base = {.segment = static_cast<uint32_t>(random() % (1u << 24)),
                 .page = static_cast<uint32_t>(random() % (1u << 24))};
  record.refinement = {.segment = static_cast<uint32_t>(random() % (1u << 24)),
                       .page = static_cast<uint32_t>(random() % (1u << 24))};
  return record;
}

void ExpectSame(const PieceRecord& a, const PieceRecord& b) {
  EXPECT_EQ(a.summary.content_id, b.summary.content_id);
  EXPECT_EQ(a.summary.namespace_fingerprint, b.summary.namespace_fingerprint);
  EXPECT_EQ(a.summary.token_begin, b.summary.token_begin);
  EXPECT_EQ(a.summary.attributes.parent, b.summary.attributes.parent);
  EXPECT_EQ(a.summary.attributes.position, b.summary.attributes.position);
  EXPECT_EQ(a.summary.attributes.expires_at_s, b.summary.attributes.expires_at_s);
  EXPECT_EQ(a.summary.attributes.recompute_seconds, b.summary.attributes.recompute_seconds);
  EXPECT_EQ(a.summary.tier, b.summary.tier);
  EXPECT_EQ(a.summary.level_count, b.summary.level_count);
  EXPECT_EQ(a.summary.planes_held, b.summary.planes_held);
  for (uint32_t level = 0; level < a.summary.level_count; ++level) {
    EXPECT_EQ(a.summary.all_levels[level].bytes, b.summary.all_levels[level].bytes);
    EXPECT_EQ(a.summary.all_levels[level].distortion, b.summary.all_levels[level].distortion);
  }
  EXPECT_EQ(a.durable, b.durable);
  EXPECT_EQ(a.base_planes, b.base_planes);
  EXPECT_EQ(a.base, b.base);
  EXPECT_EQ(a.refinement, b.refinement);
}

TEST(PieceRecordTest, ComesBackAsItWas) {
  std::mt19937_64 random(1);
  for (int round = 0; round < 1000; ++round) {
    const PieceRecord record = SomeRecord(random);
    const Key key = TestKey(std::to_string(round));
    const std::vector<std::byte> value = EncodeCatalogValue(3, key, record);
    const absl::StatusOr<PieceRecord> parsed = ParseCatalogValue(3, key, value);
    ASSERT_TRUE(parsed.ok()) << parsed.status();
    ExpectSame(*parsed, record);
  }
}

TEST(PieceRecordTest, WhatMayChangeChangesNoLength) {
  std::mt19937_64 random(2);
  for (int round = 0; round < 200; ++round) {
    PieceRecord record = SomeRecord(random);
    const size_t bytes = EncodeRecord(record).size();
    record.durable = !record.durable;
    record.summary.planes_held = 1;
    record.base = {.segment = 0, .page = 1};
    record.refinement = {.segment = kMaxSegments, .page = (1u << 24) - 1};
    EXPECT_EQ(EncodeRecord(record).size(), bytes);
  }
}

// Builds from before pieces could expire wrote version 1, and read nothing else.
TEST(PieceRecordTest, OnlyARecordThatExpiresHasTheNewerVersion) {
  std::mt19937_64 random(6);
  PieceRecord record = SomeRecord(random);
  record.summary.attributes.expires_at_s = 0;
  const std::vector<std::byte> first = EncodeRecord(record);
  EXPECT_EQ(first[0], std::byte{1});
  record.summary.attributes.expires_at_s = 1'800'000'000;
  std::vector<std::byte> second = EncodeRecord(record);
  EXPECT_EQ(second[0], std::byte{2});
  EXPECT_EQ(second.size(), first.size() + 4);
  second[0] = std::byte{3};
  EXPECT_TRUE(absl::IsUnimplemented(ParseRecord(second).status()));
}

TEST(PieceRecordTest, AnotherPiecesRecordIsRefused) {
  std::mt19937_64 random(3);
  const std::vector<std::byte> value = EncodeCatalogValue(3, TestKey("a"), SomeRecord(random));
  EXPECT_TRUE(ParseCatalogValue(3, TestKey("a"), value).ok());
  EXPECT_TRUE(absl::IsDataLoss(ParseCatalogValue(3, TestKey("b"), value).status()));
  EXPECT_TRUE(absl::IsDataLoss(ParseCatalogValue(4, TestKey("a"), value).status()));
}

TEST(PieceRecordTest, EveryFlippedBitAndEveryCutIsRefused) {
  std::mt19937_64 random(4);
  const Key key = TestKey("a");
  for (int round = 0; round < 20; ++round) {
    const std::vector<std::byte> value = EncodeCatalogValue(3, key, SomeRecord(random));
    for (size_t bit = 0; bit < 8 * value.size(); ++bit) {
      std::vector<std::byte> flipped = value;
      flipped[bit / 8] ^= static_cast<std::byte>(1u << bit % 8);
      EXPECT_FALSE(ParseCatalogValue(3, key, flipped).ok()) << bit;
    }
    for (size_t bytes = 0; bytes < value.size(); ++bytes) {
      EXPECT_FALSE(ParseCatalogValue(3, key, ByteSpan(value).first(bytes)).ok()) << bytes;
    }
  }
}

// Without the checksum in the way: whatever parses is a record that the tier can work with.
TEST(PieceRecordTest, WhatParsesKeepsItsLimitsWhateverTheBytesAre) {
  std::mt19937_64 random(5);
  int parsed_any = 0;
  for (int round = 0; round < 200'000; ++round) {
    std::vector<std::byte> bytes = EncodeRecord(SomeRecord(random));
    for (uint64_t flips = 1 + random() % 3; flips > 0; --flips) {
      bytes[random() % bytes.size()] ^= static_cast<std::byte>(random());
    }
    const absl::StatusOr<PieceRecord> record = ParseRecord(bytes);
    if (!record.ok()) continue;
    ++parsed_any;
    const PieceSummary& summary = record->summary;
    ASSERT_GE(summary.planes_held, 1u);
    ASSERT_LE(summary.planes_held, summary.level_count);
    ASSERT_LE(summary.level_count, kMaxPlanes);
    ASSERT_GE(record->base_planes, 1u);
    ASSERT_LE(record->base_planes, summary.level_count);
    ASSERT_GT(record->base_bytes(), 0u);
    ASSERT_LE(record->run_bytes(), kMaxPieceMetaBytes + kMaxPieceBodyBytes + kPageBytes);
    ASSERT_EQ(EncodeRecord(*record).size(), bytes.size());
  }
  EXPECT_GT(parsed_any, 1000);
}

TEST(PieceRecordTest, RunsAreWholePagesOfWhatIsHeld) {
  PieceRecord record;
  record.summary.level_count = 3;
  record.summary.all_levels[0].bytes = 5000;
  record.summary.all_levels[1].bytes = 8192;
  record.summary.all_levels[2].bytes = 20'000;
  record.base_planes = 2;
  record.summary.planes_held = 3;
  EXPECT_EQ(record.base_bytes(), 8192u);
  EXPECT_EQ(record.refinement_bytes(), 12'288u);
  record.summary.planes_held = 2;
  EXPECT_EQ(record.base_bytes(), 8192u);
  EXPECT_EQ(record.refinement_bytes(), 0u);
  record.summary.planes_held = 1;
  EXPECT_EQ(record.base_bytes(), 8192u);
  record.summary.all_levels[0].bytes = 4096;
  EXPECT_EQ(record.base_bytes(), 4096u);
}

}  // namespace
}  // namespace reprise::storage
