#include "services/store/send_window.h"

#include <vector>

#include <gtest/gtest.h>

#include "common/limits.h"

namespace reprise::store {
namespace {

constexpr auto kNever = [] { FAIL() << "nothing waits"; };

class SendWindowTest : public ::testing::Test {
 protected:
  using Share = std::shared_ptr<SendWindow::CallShare>;
  static Share NewCall() { return std::make_shared<SendWindow::CallShare>(); }

  // Sends parts of `bytes` until there is no room; the last one waits and sets `woken_`.
  std::vector<SharedBytes> Fill(const Share& call, uint64_t bytes) {
    std::vector<SharedBytes> parts;
    while (window_->Take(call, bytes, [this] { woken_ = true; })) {
      parts.push_back(window_->Lend(call, bytes, SharedBytes()));
    }
    return parts;
  }

  const std::shared_ptr<SendWindow> window_ = std::make_shared<SendWindow>();
  bool woken_ = false;
};

TEST_F(SendWindowTest, BoundsBytesAndParts) {
  const Share large = NewCall();
  EXPECT_EQ(Fill(large, kMaxPartBytes).size(), SendWindow::kMaxBytes / kMaxPartBytes);
  // Those have been sent, and the one that waited has its room.
  EXPECT_TRUE(woken_);
  window_->GiveBack(large, kMaxPartBytes);
  EXPECT_EQ(Fill(NewCall(), 1).size(), SendWindow::kMaxParts);
}

TEST_F(SendWindowTest, RoomGoesToWhoCameFirst) {
  const Share many = NewCall();
  std::vector<SharedBytes> parts = Fill(many, kMaxPartBytes);
  bool second = false;
  ASSERT_FALSE(window_->Take(many, 1, [&] { second = true; }));
  parts.pop_back();
  EXPECT_TRUE(woken_);
  EXPECT_FALSE(second) << "the first took all of the room again";
  parts.pop_back();
  EXPECT_TRUE(second);
}

TEST_F(SendWindowTest, ACallWithNothingOnItsWayMaySendOnePart) {
  const std::vector<SharedBytes> parts = Fill(NewCall(), kMaxPartBytes);
  const Share other = NewCall();
  ASSERT_TRUE(window_->Take(other, kMaxPartBytes, kNever));
  bool woken = false;
  ASSERT_FALSE(window_->Take(other, kMaxPartBytes, [&] { woken = true; }));
  // Its first part has been sent: those of the call that nobody reads are no concern of its.
  window_->GiveBack(other, kMaxPartBytes);
  EXPECT_TRUE(woken);
  EXPECT_FALSE(woken_);
}

TEST_F(SendWindowTest, APartKeepsItsBytesUntilTheLastCopyGoes) {
  const Share call = NewCall();
  ASSERT_TRUE(window_->Take(call, 5, kNever));
  const auto owner = std::make_shared<int>(0);
  const std::vector<std::byte> bytes(5);
  SharedBytes part = window_->Lend(call, 5, SharedBytes(bytes, owner));
  EXPECT_EQ(part.data(), bytes.data());
  SharedBytes copy = part.Slice(1, 2);
  part = SharedBytes();
  EXPECT_EQ(owner.use_count(), 2);
  copy = SharedBytes();
  EXPECT_EQ(owner.use_count(), 1);
}

}  // namespace
}  // namespace reprise::store
