// Conformance: buffers that are handed out again after a call was given up in the middle.
#include <algorithm>
#include <array>
#include <atomic>
#include <thread>
#include <vector>

#include "common/limits.h"
#include "transport/conformance.h"

namespace reprise::transport {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

#ifdef REPRISE_SANITIZED
constexpr uint32_t kCancellations = 500;
#else
constexpr uint32_t kCancellations = 10'000;
#endif
constexpr uint32_t kThreads = 4;
constexpr uint32_t kParts = 4;
constexpr uint32_t kPatterns = 8;
constexpr size_t kPatternBytes = 128 * kKiB;

// A valid protobuf message: field 1 is `pattern`.
std::string Ask(uint32_t pattern) { return {'\x08', static_cast<char>(pattern)}; }

TEST_P(CarrierConformance, WhatIsHeldStaysAsItCameWhileThousandsOfOthersAreCancelled) {
  std::array<SharedBytes, kPatterns> patterns;
  for (uint32_t i = 0; i < kPatterns; ++i) patterns[i] = TestBulk(kPatternBytes, i);
  service_.On(7, [&patterns](Request request, std::unique_ptr<Responder> responder) {
    const auto pattern = static_cast<size_t>(request.message.at(1));
    for (uint32_t i = 0; i < kParts; ++i) responder->Send(Part{"", patterns[pattern]});
    responder->Complete(absl::OkStatus());
  });
  std::unique_ptr<Channel> channel = Connect();
  ASSERT_NE(channel, nullptr);

  std::atomic<uint32_t> cancelled{0};
  std::vector<std::thread> threads;
  for (uint32_t thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([&, thread] {
      for (uint32_t i = thread; cancelled < kCancellations; i += kThreads) {
        const bool by_deadline = i % 5 == 4;
        const auto observer = std::make_shared<RecordingObserver>([](const Part&) {});
        const auto call = channel->Start(
            MakeRequest(7, Ask(i % kPatterns), SharedBytes(),
                        by_deadline ? milliseconds(1 + i % 3) : milliseconds(seconds(30))),
            observer);
        if (!by_deadline) {
          // Before the first part, or while the ones after it are on their way.
          while (observer->parts_seen() < i % kParts && !observer->done()) {
            std::this_thread::yield();
          }
          call->Cancel();
        }
        const absl::Status status = observer->WaitDone();
        if (!status.ok()) ++cancelled;
        const bool ended_as_asked =
            by_deadline ? absl::IsDeadlineExceeded(status) : absl::IsCancelled(status);
        EXPECT_TRUE(status.ok() || ended_as_asked) << status;
      }
    });
  }

  uint32_t held = 0;
  for (uint32_t i = 0; cancelled < kCancellations; ++i) {
    const SharedBytes& pattern = patterns[i % kPatterns];
    const auto observer = std::make_shared<RecordingObserver>();
    const auto call = channel->Start(MakeRequest(7, Ask(i % kPatterns)), observer);
    ASSERT_TRUE(observer->WaitParts(kParts));
    const std::vector<Part> parts = observer->TakeParts();
    const auto intact = [&] {
      return std::all_of(parts.begin(), parts.end(), [&](const Part& part) {
        return AsText(part.bulk.bytes()) == AsText(pattern.bytes());
      });
    };
    EXPECT_TRUE(intact()) << "as it came";
    const uint32_t until = std::min(cancelled + 20, kCancellations);
    while (cancelled < until) std::this_thread::yield();
    EXPECT_TRUE(intact()) << "after 20 cancellations";
    ++held;
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_GE(held, 5u);
}

}  // namespace
}  // namespace reprise::transport
