#include "common/executor.h"

#include <atomic>
#include <latch>
#include <memory>

#include <gtest/gtest.h>

namespace reprise {
namespace {

TEST(ExecutorTest, RunsWhatIsQueuedBeforeItEnds) {
  std::atomic<int> ran{0};
  {
    Executor executor("test", 2, 1000);
    for (int i = 0; i < 500; ++i) ASSERT_TRUE(executor.TryRun([&] { ++ran; }));
  }
  EXPECT_EQ(ran, 500);
}

TEST(ExecutorTest, RefusesAboveItsLimitWithoutBlocking) {
  std::latch started(1);
  std::latch release(1);
  Executor executor("test", 1, 2);
  ASSERT_TRUE(executor.TryRun([&] {
    started.count_down();
    release.wait();
  }));
  started.wait();
  EXPECT_TRUE(executor.TryRun([] {}));
  EXPECT_TRUE(executor.TryRun([] {}));
  EXPECT_FALSE(executor.TryRun([] {}));
  EXPECT_EQ(executor.queued(), 2u);
  release.count_down();
}

TEST(ExecutorTest, OneBlockedThreadLeavesTheOthersWorking) {
  std::latch release(1);
  std::latch done(1);
  Executor executor("test", 2, 10);
  ASSERT_TRUE(executor.TryRun([&] { release.wait(); }));
  ASSERT_TRUE(executor.TryRun([&] { done.count_down(); }));
  done.wait();
  release.count_down();
}

TEST(ExecutorTest, DestroysTasksOutsideItsLock) {
  Executor executor("test", 1, 10);
  std::latch done(1);
  // The task owns an object whose destructor queues again: a deadlock if it died under the lock.
  auto owner = std::shared_ptr<int>(new int(0), [&](int* p) {
    delete p;
    EXPECT_TRUE(executor.TryRun([&] { done.count_down(); }));
  });
  ASSERT_TRUE(executor.TryRun([owned = std::move(owner)] {}));
  done.wait();
}

}  // namespace
}  // namespace reprise
