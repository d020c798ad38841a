#include "client/turn_queue.h"

#include <atomic>
#include <functional>
#include <future>

#include <gtest/gtest.h>

namespace reprise::client {
namespace {

class Taker final : public TurnTaker {
 public:
  explicit Taker(std::function<void()> turn) : turn_(std::move(turn)) {}

 private:
  void Turn() override { turn_(); }
  const std::function<void()> turn_;
};

class TurnQueueTest : public ::testing::Test {
 protected:
  // Keeps the only thread busy until `open_` is set.
  void Block() {
    auto begun = std::make_shared<std::promise<void>>();
    queue_.Schedule(std::make_shared<Taker>([this, begun] {
                      begun->set_value();
                      opened_.wait();
                    }),
                    kAtOnce);
    begun->get_future().wait();
  }
  std::shared_ptr<Taker> Says(const std::string& word) {
    return std::make_shared<Taker>([this, word] { said_ += word; });
  }
  void WaitForAll() {
    std::promise<void> done;
    queue_.Schedule(std::make_shared<Taker>([&done] { done.set_value(); }), TimePoint::max());
    done.get_future().wait();
  }

  std::promise<void> open_;
  std::shared_future<void> opened_ = open_.get_future().share();
  std::string said_;
  TurnQueue queue_{"test", 1};
};

TEST_F(TurnQueueTest, TheEarliestGoesFirstAndEqualsInTheOrderAsked) {
  Block();
  const TimePoint now = Clock::Steady().Now();
  queue_.Schedule(Says("c"), now + std::chrono::seconds(1));
  queue_.Schedule(Says("b"), now);
  queue_.Schedule(Says("d"), now + std::chrono::seconds(1));
  queue_.Schedule(Says("a"), kAtOnce);
  open_.set_value();
  WaitForAll();
  EXPECT_EQ(said_, "abcd");
}

TEST_F(TurnQueueTest, WhoAsksTwiceGetsOneTurnAtTheEarlierTime) {
  Block();
  const TimePoint now = Clock::Steady().Now();
  const auto late = Says("late ");
  queue_.Schedule(late, now + std::chrono::seconds(1));
  queue_.Schedule(Says("early "), now);
  queue_.Schedule(late, kAtOnce);
  queue_.Schedule(late, now + std::chrono::seconds(2));
  open_.set_value();
  WaitForAll();
  EXPECT_EQ(said_, "late early ");
}

TEST_F(TurnQueueTest, WhoAsksDuringItsTurnGetsAnotherAfterIt) {
  TurnQueue threads("test", 4);
  std::atomic<int> turns{0};
  std::atomic<int> at_a_time{0};
  std::promise<void> done;
  std::shared_ptr<Taker> taker;
  taker = std::make_shared<Taker>([&] {
    EXPECT_EQ(++at_a_time, 1);
    const int turn = ++turns;
    if (turn < 1000) threads.Schedule(taker, Clock::Steady().Now());
    if (turn < 1000) threads.Schedule(taker, kAtOnce);
    --at_a_time;
    if (turn == 1000) done.set_value();
  });
  threads.Schedule(taker, kAtOnce);
  done.get_future().wait();
  EXPECT_EQ(turns, 1000);
}

}  // namespace
}  // namespace reprise::client
