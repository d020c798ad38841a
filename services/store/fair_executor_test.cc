#include "services/store/fair_executor.h"

#include <algorithm>
#include <array>
#include <latch>
#include <memory>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace reprise::store {
namespace {

using ::testing::ElementsAre;

// Names to tell sessions apart.
constexpr std::array<char, 4> kNames{};
SessionName Session(size_t i) { return &kNames[i]; }

// Jain's fairness index: 1 when all have the same, 1/n when one has everything.
double FairnessIndex(const std::array<double, 3>& shares) {
  double sum = 0;
  double squares = 0;
  for (const double share : shares) {
    sum += share;
    squares += share * share;
  }
  return sum * sum / (static_cast<double>(shares.size()) * squares);
}

TEST(FairQueue, SessionsWithItemsOfAllSizesGetTheSameBytes) {
  constexpr std::array<uint64_t, 3> kCosts{8 * kMiB, 64 * kKiB, 1 * kMiB};
  struct Item {
    size_t session;
    uint64_t bytes;
  };
  FairQueue<Item> queue;
  for (size_t session = 0; session < 3; ++session) {
    for (uint64_t bytes = 0; bytes < 256 * kMiB; bytes += kCosts[session]) {
      queue.Push(Session(session), kCosts[session], {session, kCosts[session]});
    }
  }
  std::array<double, 3> served{};
  for (double sum = 0; sum < 3 * 200 * kMiB;) {
    const Item item = queue.Pop();
    served[item.session] += static_cast<double>(item.bytes);
    sum += static_cast<double>(item.bytes);
    // The bound of the paper: a quantum and two of the largest items.
    const auto [least, most] = std::minmax_element(served.begin(), served.end());
    ASSERT_LE(*most - *least, static_cast<double>(FairQueue<Item>::kQuantumBytes + 16 * kMiB));
  }
  EXPECT_GT(FairnessIndex(served), 0.999);
}

TEST(FairQueue, ALongQueueDelaysNobodyElseByMoreThanATurn) {
  FairQueue<int> queue;
  for (int i = 0; i < 256; ++i) queue.Push(Session(0), 64 * kKiB, 0);
  EXPECT_EQ(queue.Pop(), 0);
  queue.Push(Session(1), 64 * kKiB, 1);
  int before = 0;
  while (queue.Pop() == 0) ++before;
  EXPECT_EQ(before, 15) << "what was left of a quantum of sixteen";
  EXPECT_EQ(queue.size(), 240u);
}

TEST(FairQueue, ItemsOfOneSessionStayInOrder) {
  FairQueue<int> queue;
  for (int i = 0; i < 5; ++i) queue.Push(Session(0), i % 2 == 0 ? 3 * kMiB : 1, i);
  std::vector<int> order;
  while (!queue.empty()) order.push_back(queue.Pop());
  EXPECT_THAT(order, ElementsAre(0, 1, 2, 3, 4));
}

TEST(FairQueue, ASessionSavesNothingWhileItHasNothingWaiting) {
  FairQueue<int> queue;
  // Sixteen times a quantum of which next to nothing is used.
  for (int i = 0; i < 16; ++i) {
    queue.Push(Session(0), 1, 0);
    EXPECT_EQ(queue.Pop(), 0);
  }
  for (int i = 0; i < 8; ++i) {
    queue.Push(Session(0), kMiB, 0);
    queue.Push(Session(1), kMiB, 1);
  }
  std::vector<int> order;
  while (!queue.empty()) order.push_back(queue.Pop());
  EXPECT_THAT(order, ElementsAre(0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1));
}

TEST(WorkQueue, FetchesComeBeforePublishesAndThoseBeforeBackgroundWork) {
  WorkQueue queue;
  queue.Push(WorkClass::kBackground, Session(0), 1, [] {});
  queue.Push(WorkClass::kPublish, Session(1), 1, [] {});
  queue.Push(WorkClass::kFetch, Session(2), 1, [] {});
  std::vector<WorkClass> order;
  while (auto work = queue.Pop(/*only_fetch=*/false)) order.push_back(work->work_class);
  EXPECT_THAT(order, ElementsAre(WorkClass::kFetch, WorkClass::kPublish, WorkClass::kBackground));
}

TEST(WorkQueue, NobodyWaitsForEver) {
  WorkQueue queue;
  queue.Push(WorkClass::kPublish, Session(0), 1, [] {});
  queue.Push(WorkClass::kBackground, Session(1), 1, [] {});
  std::vector<size_t> others;
  for (size_t i = 0; i < 40; ++i) {
    queue.Push(WorkClass::kFetch, Session(2), 1, [] {});
    if (queue.Pop(/*only_fetch=*/false)->work_class != WorkClass::kFetch) others.push_back(i);
  }
  EXPECT_THAT(others, ElementsAre(WorkQueue::kMaxPassedOver, WorkQueue::kMaxPassedOver + 1));
}

TEST(WorkQueue, AThreadForFetchesTakesNothingElse) {
  WorkQueue queue;
  queue.Push(WorkClass::kPublish, Session(0), 1, [] {});
  for (size_t i = 0; i < 40; ++i) EXPECT_FALSE(queue.Pop(/*only_fetch=*/true).has_value());
  queue.Push(WorkClass::kFetch, Session(0), 1, [] {});
  EXPECT_TRUE(queue.Pop(/*only_fetch=*/true).has_value());
  EXPECT_EQ(queue.size(), 1u);
}

TEST(FairExecutor, PublishesLeaveAThreadToFetches) {
  std::latch publishing(1);
  std::latch release(1);
  std::latch fetched(1);
  std::atomic<int> published{0};
  {
    FairExecutor executor("test", 2, 1, 10);
    for (int i = 0; i < 3; ++i) {
      ASSERT_TRUE(executor.TryRun(WorkClass::kPublish, Session(0), 1, [&, i] {
        if (i == 0) publishing.count_down();
        release.wait();
        ++published;
      }));
    }
    publishing.wait();
    ASSERT_TRUE(executor.TryRun(WorkClass::kFetch, Session(1), 1, [&] { fetched.count_down(); }));
    fetched.wait();
    EXPECT_EQ(published, 0);
    release.count_down();
  }
  EXPECT_EQ(published, 3) << "what was queued runs before the end";
}

TEST(FairExecutor, RefusesAboveItsLimitWithoutBlocking) {
  std::latch started(1);
  std::latch release(1);
  FairExecutor executor("test", 1, 1, 2);
  const auto fetch = [&](FairExecutor::Task task) {
    return executor.TryRun(WorkClass::kFetch, Session(0), 1, std::move(task));
  };
  ASSERT_TRUE(fetch([&] {
    started.count_down();
    release.wait();
  }));
  started.wait();
  EXPECT_TRUE(fetch([] {}));
  EXPECT_TRUE(fetch([] {}));
  EXPECT_FALSE(fetch([] {}));
  release.count_down();
}

TEST(FairExecutor, DestroysTasksOutsideItsLock) {
  FairExecutor executor("test", 1, 1, 10);
  std::latch done(1);
  // The task owns an object whose destructor queues again: a deadlock if it died under the lock.
  auto owner = std::shared_ptr<int>(new int(0), [&](int* p) {
    delete p;
    EXPECT_TRUE(executor.TryRun(WorkClass::kFetch, Session(0), 1, [&] { done.count_down(); }));
  });
  ASSERT_TRUE(executor.TryRun(WorkClass::kFetch, Session(0), 1, [owned = std::move(owner)] {}));
  done.wait();
}

}  // namespace
}  // namespace reprise::store
