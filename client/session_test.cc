#include "client/session.h"

#include <atomic>
#include <future>
#include <memory>

#include <gtest/gtest.h>

namespace reprise::client {
namespace {

// What became of the channels of a connector.
struct Channels {
  std::atomic<bool> alive{true};
  std::atomic<int> destroyed{0};
  std::atomic<std::thread::id> destroyed_on{};
};

class FakeChannel final : public transport::Channel {
 public:
  explicit FakeChannel(Channels& channels) : channels_(channels) {}
  ~FakeChannel() override {
    channels_.destroyed_on = std::this_thread::get_id();
    ++channels_.destroyed;
  }
  std::shared_ptr<transport::Call> Start(transport::CallRequest,
                                         std::shared_ptr<transport::CallObserver>) override {
    return nullptr;
  }
  bool alive() const override { return channels_.alive; }
  std::string_view carrier() const override { return "fake"; }

 private:
  Channels& channels_;
};

// Opens what the test says, when the test says.
class FakeConnector final : public Connector {
 public:
  absl::StatusOr<std::unique_ptr<transport::Channel>> Open(Deadline /*deadline*/) override {
    MutexLock lock(mutex_);
    ++attempts_;
    changed_.notify_all();
    while (blocked_) changed_.wait(mutex_);
    if (!up_) return absl::UnavailableError("nobody there");
    return std::make_unique<FakeChannel>(channels_);
  }

  void Set(bool up, bool blocked) {
    MutexLock lock(mutex_);
    up_ = up;
    blocked_ = blocked;
    changed_.notify_all();
  }
  int attempts() const {
    MutexLock lock(mutex_);
    return attempts_;
  }
  void WaitForAttempt(int count) {
    MutexLock lock(mutex_);
    while (attempts_ < count) changed_.wait(mutex_);
  }
  Channels& channels() { return channels_; }

 private:
  Channels channels_;
  mutable Mutex mutex_;
  CondVar changed_;
  bool up_ ABSL_GUARDED_BY(mutex_) = true;
  bool blocked_ ABSL_GUARDED_BY(mutex_) = false;
  int attempts_ ABSL_GUARDED_BY(mutex_) = 0;
};

class SessionTest : public ::testing::Test {
 protected:
  SessionTest() {
    auto connector = std::make_unique<FakeConnector>();
    connector_ = connector.get();
    session_ = std::make_unique<Session>(std::move(connector), std::chrono::seconds(30), clock_);
  }

  absl::StatusOr<ChannelRef> Acquire(std::chrono::milliseconds timeout = std::chrono::seconds(20)) {
    std::promise<absl::StatusOr<ChannelRef>> promise;
    session_->Acquire(Deadline::After(timeout), [&](absl::StatusOr<ChannelRef> channel) {
      promise.set_value(std::move(channel));
    });
    return promise.get_future().get();
  }

  ManualClock clock_;
  FakeConnector* connector_ = nullptr;
  std::unique_ptr<Session> session_;
};

TEST_F(SessionTest, OneChannelServesUntilItIsLost) {
  EXPECT_EQ(session_->carrier(), "");
  {
    const auto first = Acquire();
    const auto second = Acquire();
    ASSERT_TRUE(first.ok() && second.ok());
    EXPECT_EQ(first->get(), second->get());
  }
  EXPECT_EQ(connector_->attempts(), 1);
  EXPECT_EQ(session_->carrier(), "fake");
  connector_->channels().alive = false;
  connector_->Set(false, false);
  EXPECT_TRUE(absl::IsUnavailable(Acquire().status()));
  EXPECT_EQ(connector_->attempts(), 2);
}

TEST_F(SessionTest, AStoreKnownToBeGoneIsNotWaitedFor) {
  connector_->Set(false, false);
  EXPECT_TRUE(absl::IsUnavailable(Acquire().status()));
  for (int i = 0; i < 10; ++i) {
    const absl::Status refused = Acquire().status();
    EXPECT_TRUE(absl::IsUnavailable(refused));
    EXPECT_NE(refused.message().find("nobody there"), std::string::npos) << refused;
  }
  EXPECT_EQ(connector_->attempts(), 1);
  clock_.Advance(kFirstBackOff);
  EXPECT_TRUE(absl::IsUnavailable(Acquire().status()));
  EXPECT_EQ(connector_->attempts(), 2);
}

TEST_F(SessionTest, BackOffGrowsToItsLimitAndEndsWithSuccess) {
  connector_->Set(false, false);
  for (int i = 0; i < 20; ++i) {
    clock_.Advance(kLongestBackOff);
    EXPECT_FALSE(Acquire().ok());
  }
  EXPECT_EQ(connector_->attempts(), 20);
  // At least half of the longest pause.
  clock_.Advance(kLongestBackOff / 2 - std::chrono::milliseconds(1));
  EXPECT_FALSE(Acquire().ok());
  EXPECT_EQ(connector_->attempts(), 20);
  connector_->Set(true, false);
  clock_.Advance(kLongestBackOff);
  EXPECT_TRUE(Acquire().ok());
  // The next loss is tried at once.
  connector_->channels().alive = false;
  connector_->Set(false, false);
  EXPECT_FALSE(Acquire().ok());
  EXPECT_EQ(connector_->attempts(), 22);
}

TEST_F(SessionTest, WaitingEndsAtTheDeadlineWhileAnAttemptHangs) {
  connector_->Set(true, true);
  EXPECT_TRUE(absl::IsDeadlineExceeded(Acquire(std::chrono::milliseconds(20)).status()));
  connector_->Set(true, false);
  // The attempt went on, and served the next.
  EXPECT_TRUE(Acquire().ok());
  EXPECT_EQ(connector_->attempts(), 1);
}

TEST_F(SessionTest, AWaitingAcquireCanBeWithdrawn) {
  connector_->Set(true, true);
  std::atomic<int> ran{0};
  const uint64_t ticket = session_->Acquire(Deadline::After(std::chrono::seconds(20)),
                                            [&](absl::StatusOr<ChannelRef>) { ++ran; });
  connector_->WaitForAttempt(1);
  EXPECT_TRUE(static_cast<bool>(session_->Withdraw(ticket)));
  EXPECT_FALSE(static_cast<bool>(session_->Withdraw(ticket)));
  connector_->Set(true, false);
  EXPECT_TRUE(Acquire().ok());
  EXPECT_EQ(ran, 0);
}

TEST_F(SessionTest, AChannelIsDestroyedOnTheSessionsThreadWhenTheLastReferenceGoes) {
  auto channel = Acquire();
  ASSERT_TRUE(channel.ok());
  session_->Discard(channel->get());
  ASSERT_TRUE(Acquire().ok());  // another one
  EXPECT_EQ(connector_->attempts(), 2);
  EXPECT_EQ(connector_->channels().destroyed, 0);
  channel->reset();
  // The next attempt runs on the thread that destroys, after it has.
  connector_->channels().alive = false;
  (void)Acquire();
  EXPECT_GE(connector_->channels().destroyed, 1);
  EXPECT_NE(connector_->channels().destroyed_on.load(), std::this_thread::get_id());
}

}  // namespace
}  // namespace reprise::client
