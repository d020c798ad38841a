#include "storage/nvme/container_check.h"

#include <random>

#include <gtest/gtest.h>

#include "common/byte_io.h"
#include "storage/testing/test_piece.h"

namespace reprise::storage {
namespace {

std::vector<std::byte> Padded(std::vector<std::byte> container) {
  container.resize(AlignUp(container.size(), 4096));
  return container;
}

absl::Status Check(const PieceMeta& meta, uint32_t first_plane, ByteSpan bytes,
                   std::mt19937& random) {
  ContainerCheck check(meta, first_plane);
  while (!bytes.empty()) {
    const size_t part = std::min<size_t>(bytes.size(), 1 + random() % 5000);
    if (absl::Status status = check.Take(bytes.first(part)); !status.ok()) return status;
    bytes = bytes.subspan(part);
  }
  return absl::OkStatus();
}

TEST(ContainerCheckTest, FindsEveryFlipWhereverTheBytesAreCut) {
  const std::vector<std::byte> container =
      Padded(Build({.key = TestKey("a"), .plane_bytes = 7000, .planes = 3, .segment_bytes = 900}));
  const PieceMeta meta = PieceMeta::Parse(container).value();
  std::mt19937 random(1);
  EXPECT_EQ(Check(meta, 0, container, random), absl::OkStatus());
  for (uint32_t plane = 1; plane < 3; ++plane) {
    const uint64_t begin = AlignUp(meta.bytes_to(plane - 1), 4096);
    EXPECT_EQ(Check(meta, plane, ByteSpan(container).subspan(begin), random), absl::OkStatus());
  }
  for (int round = 0; round < 2000; ++round) {
    std::vector<std::byte> flipped = container;
    const size_t at = meta.meta_bytes() + random() % (container.size() - meta.meta_bytes());
    flipped[at] ^= static_cast<std::byte>(1u << random() % 8);
    EXPECT_TRUE(absl::IsDataLoss(Check(meta, 0, flipped, random))) << at;
    for (uint32_t plane = 1; plane < 3; ++plane) {
      const uint64_t begin = AlignUp(meta.bytes_to(plane - 1), 4096);
      EXPECT_EQ(Check(meta, plane, ByteSpan(flipped).subspan(begin), random).ok(), at < begin)
          << at;
    }
  }
}

TEST(ContainerCheckTest, AContainerCutBehindALevelIsWhole) {
  const std::vector<std::byte> container =
      Build({.key = TestKey("a"), .plane_bytes = 7000, .planes = 3});
  const PieceMeta meta = PieceMeta::Parse(container).value();
  std::mt19937 random(1);
  for (uint32_t planes = 1; planes <= 3; ++planes) {
    const ByteSpan cut = CutTo(container, planes);
    const std::vector<std::byte> padded = Padded({cut.begin(), cut.end()});
    EXPECT_EQ(Check(meta, 0, padded, random), absl::OkStatus());
  }
}

}  // namespace
}  // namespace reprise::storage
