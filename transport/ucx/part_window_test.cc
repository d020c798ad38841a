#include "transport/ucx/part_window.h"

#include <algorithm>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "gtest/gtest.h"

#include "common/limits.h"
#include "transport/ucx/deadline_heap.h"
#include "transport/ucx/frame.h"
#include "transport/ucx/ring_queue.h"

namespace reprise::transport {
namespace {

Part Numbered(uint32_t number) { return Part{std::to_string(number), SharedBytes()}; }

TEST(PartWindowTest, GivesPartsInOrderWhateverTheOrderOfArrival) {
  std::mt19937 random(1);
  for (int round = 0; round < 50; ++round) {
    std::vector<uint32_t> arrivals(100);
    std::iota(arrivals.begin(), arrivals.end(), 0);
    std::shuffle(arrivals.begin(), arrivals.end(), random);
    PartWindow window;
    std::vector<std::string> got;
    for (const uint32_t sequence : arrivals) {
      ASSERT_TRUE(window.Announce(sequence, 2).ok());
      window.Arrive(sequence, Numbered(sequence));
      while (auto part = window.TakeNext()) got.push_back(part->message);
    }
    EXPECT_FALSE(window.complete());
    ASSERT_TRUE(window.End(100).ok());
    EXPECT_TRUE(window.complete());
    ASSERT_EQ(got.size(), 100u);
    for (uint32_t i = 0; i < 100; ++i) EXPECT_EQ(got[i], std::to_string(i));
  }
}

TEST(PartWindowTest, AnAnnouncedPartHoldsBackThoseBehindIt) {
  PartWindow window;
  ASSERT_TRUE(window.Announce(0, 0).ok());
  ASSERT_TRUE(window.Announce(1, 0).ok());
  window.Arrive(1, Numbered(1));
  ASSERT_TRUE(window.End(2).ok());
  EXPECT_FALSE(window.TakeNext().has_value());
  EXPECT_FALSE(window.complete());
  window.Arrive(0, Numbered(0));
  EXPECT_EQ(window.TakeNext()->message, "0");
  EXPECT_EQ(window.TakeNext()->message, "1");
  EXPECT_TRUE(window.complete());
}

TEST(PartWindowTest, AnEmptyCallIsComplete) {
  PartWindow window;
  ASSERT_TRUE(window.End(0).ok());
  EXPECT_TRUE(window.complete());
}

TEST(PartWindowTest, PeersMistakesAreRefused) {
  PartWindow window;
  ASSERT_TRUE(window.Announce(1, 0).ok());
  EXPECT_FALSE(window.Announce(1, 0).ok()) << "twice, not arrived";
  window.Arrive(1, Numbered(1));
  EXPECT_FALSE(window.Announce(1, 0).ok()) << "twice, arrived";
  ASSERT_TRUE(window.Announce(0, 0).ok());
  window.Arrive(0, Numbered(0));
  ASSERT_TRUE(window.TakeNext().has_value());
  EXPECT_FALSE(window.Announce(0, 0).ok()) << "twice, taken";
  EXPECT_FALSE(window.End(1).ok()) << "fewer parts than were sent";
  EXPECT_TRUE(window.End(3).ok());
  EXPECT_FALSE(window.End(3).ok()) << "the end twice";
  EXPECT_FALSE(window.Announce(3, 0).ok()) << "beyond the end";
  EXPECT_TRUE(window.Announce(2, 0).ok());
}

TEST(PartWindowTest, HowFarAheadIsBounded) {
  PartWindow by_count;
  EXPECT_FALSE(by_count.Announce(2 * kMaxPartsAhead, 0).ok());
  EXPECT_FALSE(by_count.Announce(UINT32_MAX, 0).ok());
  EXPECT_TRUE(by_count.Announce(2 * kMaxPartsAhead - 1, 0).ok());

  PartWindow by_bytes;
  uint32_t sequence = 1;
  size_t bytes = 0;
  while (by_bytes.Announce(sequence, kMaxMessageBytes).ok()) {
    ++sequence;
    bytes += kMaxMessageBytes;
  }
  EXPECT_GE(bytes, 2 * kMaxBytesAhead);
  EXPECT_LE(bytes, 2 * kMaxBytesAhead + kMaxMessageBytes);
}

TEST(RingQueueTest, IsAQueueAcrossGrowthAndWrapping) {
  RingQueue<std::string> queue;
  int pushed = 0;
  int popped = 0;
  std::mt19937 random(3);
  while (popped < 10'000) {
    for (size_t i = random() % 20; i > 0; --i) queue.push_back(std::to_string(pushed++));
    for (size_t i = random() % 20; i > 0 && !queue.empty(); --i) {
      ASSERT_EQ(queue.pop_front(), std::to_string(popped++));
    }
    ASSERT_EQ(queue.size(), static_cast<size_t>(pushed - popped));
  }
}

TEST(RingQueueTest, PoppedElementsAreNotKeptAlive) {
  RingQueue<std::shared_ptr<int>> queue;
  auto value = std::make_shared<int>(1);
  const std::weak_ptr<int> alive = value;
  queue.push_back(std::move(value));
  static_cast<void>(queue.pop_front());
  EXPECT_TRUE(alive.expired());
}

TEST(DeadlineHeapTest, GivesWhatIsDueInOrderAndPrunes) {
  const TimePoint start = TimePoint{} + std::chrono::hours(1);
  const auto at = [&](int ms) { return start + std::chrono::milliseconds(ms); };
  DeadlineHeap<int> heap;
  EXPECT_FALSE(heap.next().has_value());
  for (const int ms : {50, 10, 40, 20, 30}) heap.Push(Deadline(at(ms)), ms);
  EXPECT_EQ(heap.next(), at(10));
  EXPECT_FALSE(heap.PopDue(at(9)).has_value());
  EXPECT_EQ(heap.PopDue(at(25)), 10);
  EXPECT_EQ(heap.PopDue(at(25)), 20);
  EXPECT_FALSE(heap.PopDue(at(25)).has_value());

  for (int i = 0; i < 100'000; ++i) {
    heap.Push(Deadline(at(1000 + i)), -1);
    heap.Prune(3, [](int what) { return what < 0; });
  }
  EXPECT_LT(heap.size(), 100u);
  EXPECT_EQ(heap.PopDue(at(60)), 30);
  EXPECT_EQ(heap.PopDue(at(60)), 40);
  EXPECT_EQ(heap.PopDue(at(60)), 50);
}

}  // namespace
}  // namespace reprise::transport
