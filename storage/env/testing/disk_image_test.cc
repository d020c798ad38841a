#include "storage/env/testing/disk_image.h"

#include <set>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace reprise::storage {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::IsSubsetOf;
using ::testing::Not;
using ::testing::UnorderedElementsAre;

constexpr size_t kPage = 4096;
constexpr PowerLossMode kModes[] = {PowerLossMode::kDrop, PowerLossMode::kSubset,
                                    PowerLossMode::kTorn};

std::string Text(const DiskImage& image, const std::string& path) {
  const auto node = image.Find(path);
  if (!node.ok()) return "(absent)";
  std::string text(image.SizeBytes(*node), '?');
  EXPECT_EQ(image.Read(*node, 0, std::as_writable_bytes(std::span(text))), text.size());
  return text;
}

DiskImage::Node Put(DiskImage& image, const std::string& path, const std::string& text) {
  const DiskImage::Node node = *image.CreateFile(path);
  image.Write(node, 0, AsBytes(text));
  return node;
}

TEST(DiskImageTest, WhatWasSyncedSurvivesInEachMode) {
  DiskImage image;
  ASSERT_TRUE(image.CreateDirectory("/d").ok());
  ASSERT_TRUE(image.SyncDirectory("/").ok());
  image.Sync(Put(image, "/d/a", "text"));
  ASSERT_TRUE(image.SyncDirectory("/d").ok());
  for (const PowerLossMode mode : kModes) {
    for (uint64_t seed = 0; seed < 50; ++seed) {
      EXPECT_EQ(Text(image.AfterPowerLoss(mode, seed), "/d/a"), "text");
    }
  }
}

TEST(DiskImageTest, DropTakesAllThatWasNotSynced) {
  DiskImage image;
  const DiskImage::Node kept = Put(image, "/kept", "0123456789");
  image.Sync(kept);
  Put(image, "/unsynced bytes", "text");
  ASSERT_TRUE(image.SyncDirectory("/").ok());
  image.Write(kept, 2, AsBytes("xyz"));
  image.Write(kept, 10, AsBytes("longer"));
  image.Sync(Put(image, "/unsynced name", "text"));
  ASSERT_TRUE(image.Rename("/kept", "/renamed").ok());
  const DiskImage found = image.AfterPowerLoss(PowerLossMode::kDrop, 1);
  EXPECT_THAT(*found.List("/"), ElementsAre("kept", "unsynced bytes"));
  EXPECT_EQ(Text(found, "/kept"), "0123456789");
  EXPECT_EQ(Text(found, "/unsynced bytes"), "");
  EXPECT_EQ(Text(image, "/renamed"), "01xyz56789longer");
}

// Of four unsynced pages every combination turns up, and no page is anything but old or new.
TEST(DiskImageTest, SubsetKeepsAnyPages) {
  DiskImage image;
  const DiskImage::Node node = Put(image, "/a", std::string(4 * kPage, 'o'));
  image.Sync(node);
  ASSERT_TRUE(image.SyncDirectory("/").ok());
  image.Write(node, 0, AsBytes(std::string(4 * kPage, 'n')));
  std::set<std::string> seen;
  for (uint64_t seed = 0; seed < 500; ++seed) {
    const std::string text = Text(image.AfterPowerLoss(PowerLossMode::kSubset, seed), "/a");
    ASSERT_EQ(text.size(), 4 * kPage);
    std::string pages;
    for (size_t page = 0; page < 4; ++page) {
      EXPECT_EQ(text.substr(page * kPage, kPage), std::string(kPage, text[page * kPage]));
      pages += text[page * kPage];
    }
    seen.insert(pages);
  }
  EXPECT_EQ(seen.size(), 16u);
}

TEST(DiskImageTest, TornPagesAreMixedOfSectors) {
  DiskImage image;
  const DiskImage::Node node = Put(image, "/a", std::string(kPage, 'o'));
  image.Sync(node);
  ASSERT_TRUE(image.SyncDirectory("/").ok());
  image.Write(node, 0, AsBytes(std::string(kPage, 'n')));
  bool torn = false;
  for (uint64_t seed = 0; seed < 100; ++seed) {
    const std::string text = Text(image.AfterPowerLoss(PowerLossMode::kTorn, seed), "/a");
    for (size_t at = 0; at < kPage; at += 512) {
      EXPECT_EQ(text.substr(at, 512), std::string(512, text[at]));
    }
    torn |= text.find('o') != std::string::npos && text.find('n') != std::string::npos;
  }
  EXPECT_TRUE(torn);
}

TEST(DiskImageTest, SubsetKeepsAnyNamesButNeverHalfARename) {
  DiskImage image;
  image.Sync(Put(image, "/old", "old"));
  ASSERT_TRUE(image.SyncDirectory("/").ok());
  image.Sync(Put(image, "/temporary", "new"));
  ASSERT_TRUE(image.Rename("/temporary", "/old").ok());
  std::set<std::string> texts;
  bool left_over = false;
  for (uint64_t seed = 0; seed < 200; ++seed) {
    const DiskImage found = image.AfterPowerLoss(PowerLossMode::kSubset, seed);
    texts.insert(Text(found, "/old"));
    left_over |= found.Find("/temporary").ok();
    EXPECT_THAT(*found.List("/"), IsSubsetOf({"old", "temporary"}));
  }
  EXPECT_THAT(texts, UnorderedElementsAre("old", "new"));
  EXPECT_TRUE(left_over);
}

TEST(DiskImageTest, ADirectoryIsFoundOnlyWhereItsOwnNameWasSynced) {
  DiskImage image;
  ASSERT_TRUE(image.CreateDirectory("/d").ok());
  image.Sync(Put(image, "/d/a", "text"));
  ASSERT_TRUE(image.SyncDirectory("/d").ok());
  EXPECT_THAT(*image.AfterPowerLoss(PowerLossMode::kDrop, 1).List("/"), IsEmpty());
  ASSERT_TRUE(image.SyncDirectory("/").ok());
  EXPECT_EQ(Text(image.AfterPowerLoss(PowerLossMode::kDrop, 1), "/d/a"), "text");
}

TEST(DiskImageTest, ARenameBetweenDirectoriesIsDurableInBoth) {
  DiskImage image;
  ASSERT_TRUE(image.CreateDirectory("/from").ok());
  ASSERT_TRUE(image.CreateDirectory("/to").ok());
  ASSERT_TRUE(image.SyncDirectory("/").ok());
  image.Sync(Put(image, "/from/a", "text"));
  ASSERT_TRUE(image.SyncDirectory("/from").ok());
  ASSERT_TRUE(image.Rename("/from/a", "/to/a").ok());
  ASSERT_TRUE(image.SyncDirectory("/to").ok());
  const DiskImage found = image.AfterPowerLoss(PowerLossMode::kDrop, 1);
  EXPECT_THAT(*found.List("/from"), IsEmpty());
  EXPECT_EQ(Text(found, "/to/a"), "text");
}

TEST(DiskImageTest, WhatAFailedSyncWasForIsNotDurableByALaterOne) {
  DiskImage image;
  const DiskImage::Node node = Put(image, "/a", std::string(2 * kPage, 'o'));
  image.Sync(node);
  ASSERT_TRUE(image.SyncDirectory("/").ok());
  image.Write(node, 0, AsBytes("lost"));
  image.FailSync(node);
  image.Write(node, kPage, AsBytes("kept"));
  image.Sync(node);
  const std::string found = Text(image.AfterPowerLoss(PowerLossMode::kDrop, 1), "/a");
  EXPECT_EQ(found.substr(0, 4), "oooo");
  EXPECT_EQ(found.substr(kPage, 4), "kept");
  image.Write(node, 0, AsBytes("again"));
  image.Sync(node);
  EXPECT_EQ(Text(image.AfterPowerLoss(PowerLossMode::kDrop, 1), "/a").substr(0, 5), "again");
}

TEST(DiskImageTest, TruncatedBytesAreZerosWhenTheFileGrowsAgain) {
  DiskImage image;
  const DiskImage::Node node = Put(image, "/a", std::string(2 * kPage, 'o'));
  image.Resize(node, 10);
  image.Resize(node, kPage + 10);
  EXPECT_EQ(Text(image, "/a"), std::string(10, 'o') + std::string(kPage, '\0'));
}

TEST(DiskImageTest, ACopyIsLeftAloneByLaterWrites) {
  DiskImage image;
  const DiskImage::Node node = Put(image, "/a", "before");
  const DiskImage copy = image;
  image.Write(node, 0, AsBytes("after"));
  ASSERT_TRUE(image.Rename("/a", "/b").ok());
  EXPECT_EQ(Text(copy, "/a"), "before");
  EXPECT_EQ(Text(image, "/b"), "aftere");
}

TEST(DiskImageTest, SpaceComesBackOnceNoNameAndNoReaderIsLeft) {
  DiskImage image;
  const DiskImage::Node node = Put(image, "/a", std::string(kPage + 1, 'x'));
  EXPECT_EQ(image.UsedBytes({}), 2 * kPage);
  ASSERT_TRUE(image.Delete("/a").ok());
  EXPECT_EQ(image.UsedBytes({node}), 2 * kPage);
  EXPECT_EQ(image.UsedBytes({}), 0u);
  EXPECT_THAT(*image.List("/"), Not(::testing::Contains("a")));
}

}  // namespace
}  // namespace reprise::storage
