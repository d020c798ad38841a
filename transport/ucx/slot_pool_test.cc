#include "transport/ucx/slot_pool.h"

#include <algorithm>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

#include "common/limits.h"
#include "transport/ucx/socket_address.h"

namespace reprise::transport {
namespace {

class SlotPoolTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto context = UcxContext::Shared();
    ASSERT_TRUE(context.ok()) << context.status();
    auto pool = SlotPool::Create(*context, 2 * kMaxPartBytes);
    ASSERT_TRUE(pool.ok()) << pool.status();
    pool_ = *std::move(pool);
  }

  std::shared_ptr<SlotPool> pool_;
  std::vector<SlotPool::Released> released_;
};

TEST_F(SlotPoolTest, RefusesSizesThatCannotWork) {
  auto context = UcxContext::Shared();
  ASSERT_TRUE(context.ok());
  for (const size_t bytes : {size_t{0}, kMaxPartBytes, 2 * kMaxPartBytes + 1, size_t{1}}) {
    EXPECT_EQ(SlotPool::Create(*context, bytes).status().code(), absl::StatusCode::kInvalidArgument)
        << bytes;
  }
}

TEST_F(SlotPoolTest, ASlotIsReusedOnlyAfterTheLastReaderDroppedIt) {
  Slot* slot = pool_->TryTake(kMaxPartBytes);
  ASSERT_NE(slot, nullptr);
  slot->bytes[0] = std::byte{42};
  SharedBytes bytes = pool_->HandOver(slot, /*endpoint_id=*/3, /*call_id=*/9);
  ASSERT_EQ(bytes.size(), kMaxPartBytes);
  SharedBytes slice = bytes.Slice(0, 1);
  bytes = SharedBytes();
  pool_->Reclaim(released_);
  EXPECT_TRUE(released_.empty());
  EXPECT_EQ(pool_->free_bytes(), kMaxPartBytes);
  EXPECT_EQ(slice.bytes()[0], std::byte{42});
  slice = SharedBytes();
  EXPECT_EQ(pool_->free_bytes(), kMaxPartBytes) << "free only once reclaimed";
  pool_->Reclaim(released_);
  ASSERT_EQ(released_.size(), 1u);
  EXPECT_EQ(released_[0].endpoint_id, 3u);
  EXPECT_EQ(released_[0].call_id, 9u);
  EXPECT_EQ(released_[0].bytes, kMaxPartBytes);
  EXPECT_EQ(pool_->free_bytes(), 2 * kMaxPartBytes);
}

TEST_F(SlotPoolTest, AReceivingSlotIsGivenToNobodyElse) {
  Slot* first = pool_->TryTake(kMaxPartBytes);
  Slot* second = pool_->TryTake(kMaxPartBytes);
  ASSERT_NE(first, nullptr);
  ASSERT_NE(second, nullptr);
  EXPECT_NE(first->bytes.data(), second->bytes.data());
  EXPECT_EQ(pool_->TryTake(1), nullptr);
  pool_->GiveBack(second);
  Slot* again = pool_->TryTake(kMaxPartBytes);
  ASSERT_NE(again, nullptr);
  EXPECT_NE(again->bytes.data(), first->bytes.data());
}

TEST_F(SlotPoolTest, ReadersMayOutliveThePool) {
  Slot* slot = pool_->TryTake(100);
  ASSERT_NE(slot, nullptr);
  std::fill(slot->bytes.begin(), slot->bytes.end(), std::byte{7});
  SharedBytes bytes = pool_->HandOver(slot, 0, 0);
  pool_ = nullptr;
  std::thread reader([bytes = std::move(bytes)] {
    for (const std::byte byte : bytes.bytes()) ASSERT_EQ(byte, std::byte{7});
  });
  reader.join();
}

TEST(SocketAddressTest, ParsesHostsAndPorts) {
  const auto first = [](std::string_view text) {
    const auto addresses = ResolveAddress(text);
    return addresses.ok() ? addresses->front().ToString()
                          : std::string(addresses.status().message());
  };
  EXPECT_EQ(first("127.0.0.1:0"), "127.0.0.1:0");
  EXPECT_EQ(first("127.0.0.1:65535"), "127.0.0.1:65535");
  EXPECT_EQ(first("localhost:7000"), "127.0.0.1:7000");
  for (const std::string_view bad :
       {"", "127.0.0.1", "127.0.0.1:", ":7000", "127.0.0.1:65536", "127.0.0.1:-1", "127.0.0.1:7x",
        "::1:7000", "[::1]:7000", "[::1:7000"}) {
    EXPECT_EQ(ResolveAddress(bad).status().code(), absl::StatusCode::kInvalidArgument) << bad;
  }
  EXPECT_EQ(ResolveAddress("no-such-host.invalid:1").status().code(),
            absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace reprise::transport
