#include "common/mapped_region.h"

#include <algorithm>
#include <cstdint>

#include <gtest/gtest.h>

#include "common/limits.h"

namespace reprise {
namespace {

TEST(MappedRegionTest, GivesZeroedWritablePageAlignedMemory) {
  for (const PageKind best :
       {PageKind::kHugeReserved, PageKind::kHugeTransparent, PageKind::kSmall}) {
    auto region = MappedRegion::Create(3 * kMiB + 1, best);
    ASSERT_TRUE(region.ok()) << region.status();
    const MutableByteSpan bytes = (*region)->bytes();
    EXPECT_GE(bytes.size(), 3 * kMiB + 1);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(bytes.data()) % 4096, 0u);
    EXPECT_TRUE(std::ranges::all_of(bytes, [](std::byte b) { return b == std::byte{0}; }));
    std::ranges::fill(bytes, std::byte{0x5A});
    EXPECT_EQ(bytes.back(), std::byte{0x5A});
  }
}

TEST(MappedRegionTest, SmallPagesAreKeptWhenAskedFor) {
  auto region = MappedRegion::Create(4 * kMiB, PageKind::kSmall);
  ASSERT_TRUE(region.ok());
  EXPECT_EQ((*region)->page_kind(), PageKind::kSmall);
  EXPECT_EQ((*region)->size(), 4 * kMiB);
}

TEST(MappedRegionTest, RefusesWhatCannotBeMapped) {
  EXPECT_EQ(MappedRegion::Create(0).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(MappedRegion::Create(size_t{1} << 60).status().code(),
            absl::StatusCode::kResourceExhausted);
}

}  // namespace
}  // namespace reprise
