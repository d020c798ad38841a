#include "transport/event_loop.h"

#include <chrono>
#include <memory>
#include <vector>

#include "gtest/gtest.h"

namespace reprise::transport {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;

TEST(EventLoopTest, RunsPostedTasksInOrderBeforeItEnds) {
  std::vector<int> ran;
  {
    EventLoop loop("test");
    for (int i = 0; i < 100; ++i) loop.Post([&ran, i] { ran.push_back(i); });
  }
  ASSERT_EQ(ran.size(), 100u);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(ran[static_cast<size_t>(i)], i);
}

TEST(EventLoopTest, TaskMayPostAnother) {
  int depth = 0;
  {
    EventLoop loop("test");
    loop.Post([&] { loop.Post([&] { loop.Post([&] { depth = 3; }); }); });
  }
  EXPECT_EQ(depth, 3);
}

TEST(EventLoopTest, TimersRunInOrderOfTimeAndNotEarly) {
  const TimePoint start = Clock::Steady().Now();
  Mutex mutex;
  CondVar wake;
  std::vector<int> ran;
  TimePoint last{};
  EventLoop loop("test");
  const auto mark = [&](int id) {
    MutexLock lock(mutex);
    ran.push_back(id);
    last = Clock::Steady().Now();
    wake.notify_all();
  };
  loop.PostAt(start + milliseconds(60), [&] { mark(3); });
  loop.PostAt(start + milliseconds(20), [&] { mark(1); });
  loop.PostAt(start + milliseconds(40), [&] { mark(2); });
  {
    MutexLock lock(mutex);
    while (ran.size() < 3) wake.wait(mutex);
  }
  EXPECT_EQ(ran, (std::vector<int>{1, 2, 3}));
  EXPECT_GE(last - start, milliseconds(60));
}

TEST(EventLoopTest, CancelledAndLeftOverTimersAreDropped) {
  auto cancelled = std::make_shared<int>(0);
  auto left_over = std::make_shared<int>(0);
  {
    EventLoop loop("test");
    const EventLoop::Timer timer = loop.PostAt(Clock::Steady().Now() + hours(1), [cancelled] {});
    loop.PostAt(Clock::Steady().Now() + hours(1), [left_over] {});
    EXPECT_EQ(cancelled.use_count(), 2);
    loop.Cancel(timer);
    loop.Cancel(timer);
    EXPECT_EQ(cancelled.use_count(), 1);
    EXPECT_EQ(left_over.use_count(), 2);
  }
  EXPECT_EQ(left_over.use_count(), 1);
}

}  // namespace
}  // namespace reprise::transport
