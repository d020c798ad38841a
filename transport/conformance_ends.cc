// Conformance: every call ends exactly once, in time, with the right status.
#include <thread>

#include "common/executor.h"
#include "common/limits.h"
#include "transport/conformance.h"

namespace reprise::transport {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

// How late a deadline may be noticed: generous, because sanitized tests share two cores.
constexpr milliseconds kLate{2'000};

TEST_P(CarrierConformance, DeadlineEndsACallThatIsNotAnswered) {
  std::unique_ptr<Channel> channel = Connect();
  ASSERT_NE(channel, nullptr);
  auto observer = std::make_shared<RecordingObserver>();
  const TimePoint start = Clock::Steady().Now();
  auto call = channel->Start(MakeRequest(kPark, "", SharedBytes(), milliseconds(200)), observer);
  EXPECT_EQ(observer->WaitDone().code(), absl::StatusCode::kDeadlineExceeded);
  const Duration took = Clock::Steady().Now() - start;
  EXPECT_GE(took, milliseconds(199));
  EXPECT_LE(took, milliseconds(200) + kLate);

  std::optional<ParkedCalls::Parked> parked = parked_.Take();
  ASSERT_TRUE(parked.has_value());
  while (!parked->responder->dead()) std::this_thread::yield();
  parked->responder->Send(Part{"", TestBulk(kMiB, 1)});
  parked->responder->Complete(absl::OkStatus());
  // The channel is still good.
  EXPECT_TRUE(CallAndWait(*channel, MakeRequest(kEcho)).ok());
}

TEST_P(CarrierConformance, DeadlineEndsACallWhosePartsAreHeld) {
  const SharedBytes bulk = TestBulk(kMiB, 1);
  service_.On(7, [bulk](Request /*request*/, std::unique_ptr<Responder> responder) {
    for (uint32_t i = 0; i < 10; ++i) responder->Send(Part{"", bulk});
    responder->Complete(absl::OkStatus());
  });
  std::unique_ptr<Channel> channel = Connect();
  ASSERT_NE(channel, nullptr);
  auto observer = std::make_shared<RecordingObserver>();
  CallRequest request = MakeRequest(7, "", SharedBytes(), milliseconds(1'000));
  request.credit_parts = 1;
  const TimePoint start = Clock::Steady().Now();
  auto call = channel->Start(std::move(request), observer);
  EXPECT_EQ(observer->WaitDone().code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_LE(Clock::Steady().Now() - start, milliseconds(1'000) + kLate);
  EXPECT_EQ(observer->parts_seen(), 1u);
}

TEST_P(CarrierConformance, DeadlineThatHasPassedEndsTheCall) {
  std::unique_ptr<Channel> channel = Connect();
  ASSERT_NE(channel, nullptr);
  auto observer = std::make_shared<RecordingObserver>();
  auto call = channel->Start(MakeRequest(kEcho, "", SharedBytes(), milliseconds(-1)), observer);
  EXPECT_EQ(observer->WaitDone().code(), absl::StatusCode::kDeadlineExceeded);
}

TEST_P(CarrierConformance, ServiceSeesTheDeadline) {
  std::unique_ptr<Channel> channel = Connect();
  ASSERT_NE(channel, nullptr);
  const Deadline deadline = Deadline::After(seconds(20));
  CallRequest request = MakeRequest(kPark);
  request.deadline = deadline;
  auto observer = std::make_shared<RecordingObserver>();
  auto call = channel->Start(std::move(request), observer);
  std::optional<ParkedCalls::Parked> parked = parked_.Take();
  ASSERT_TRUE(parked.has_value());
  const Duration off = parked->request.deadline.at() - deadline.at();
  EXPECT_LT(std::chrono::abs(off), seconds(1)) << off.count() << " ns";
}

TEST_P(CarrierConformance, CancelEndsACallOnce) {
  std::unique_ptr<Channel> channel = Connect();
  ASSERT_NE(channel, nullptr);
  auto observer = std::make_shared<RecordingObserver>();
  auto call = channel->Start(MakeRequest(kPark), observer);
  std::optional<ParkedCalls::Parked> parked = parked_.Take();
  ASSERT_TRUE(parked.has_value());
  EXPECT_FALSE(parked->responder->dead());
  call->Cancel();
  call->Cancel();
  EXPECT_EQ(observer->WaitDone().code(), absl::StatusCode::kCancelled);
  call->Cancel();
  while (!parked->responder->dead()) std::this_thread::yield();
  parked->responder->Send(Part{TestMessage(10, 1), SharedBytes()});
  parked->responder->Complete(absl::OkStatus());
  EXPECT_TRUE(CallAndWait(*channel, MakeRequest(kEcho)).ok());
  EXPECT_EQ(observer->parts_seen(), 0u);
}

TEST_P(CarrierConformance, CancelWakesASenderThatWaitsForCredit) {
  Event woken;
  service_.On(7, [&](Request /*request*/, std::unique_ptr<Responder> responder) {
    auto held = std::shared_ptr<Responder>(std::move(responder));
    const SharedBytes bulk = TestBulk(kMiB, 1);
    for (int i = 0; i < 30; ++i) held->Send(Part{"", bulk});
    Responder& waiting = *held;
    waiting.WhenWritable([held = std::move(held), &woken] {
      if (held->dead()) woken.Set();
    });
  });
  std::unique_ptr<Channel> channel = Connect();
  ASSERT_NE(channel, nullptr);
  auto observer = std::make_shared<RecordingObserver>();
  CallRequest request = MakeRequest(7);
  request.credit_parts = 1;
  auto call = channel->Start(std::move(request), observer);
  ASSERT_TRUE(observer->WaitParts(1));
  call->Cancel();
  EXPECT_EQ(observer->WaitDone().code(), absl::StatusCode::kCancelled);
  EXPECT_TRUE(woken.Wait());
}

TEST_P(CarrierConformance, EveryStatusPassesWithItsMessage) {
  Mutex mutex;
  absl::Status answer;
  service_.On(7, [&](Request /*request*/, std::unique_ptr<Responder> responder) {
    MutexLock lock(mutex);
    responder->Complete(answer);
  });
  std::unique_ptr<Channel> channel = Connect();
  ASSERT_NE(channel, nullptr);
  for (int code = 1; code <= 16; ++code) {
    const absl::Status expected(static_cast<absl::StatusCode>(code),
                                "piece 0a1b: 12% of it\nis \"gone\"");
    {
      MutexLock lock(mutex);
      answer = expected;
    }
    EXPECT_EQ(CallAndWait(*channel, MakeRequest(7)).status(), expected);
  }
}

TEST_P(CarrierConformance, PartsBeforeAnErrorArrive) {
  service_.On(7, [](Request /*request*/, std::unique_ptr<Responder> responder) {
    responder->Send(Part{TestMessage(10, 1), TestBulk(100, 1)});
    responder->Send(Part{TestMessage(10, 2), SharedBytes()});
    responder->Complete(absl::DataLossError("the rest is damaged"));
  });
  std::unique_ptr<Channel> channel = Connect();
  ASSERT_NE(channel, nullptr);
  auto observer = std::make_shared<RecordingObserver>();
  auto call = channel->Start(MakeRequest(7), observer);
  EXPECT_EQ(observer->WaitDone(), absl::DataLossError("the rest is damaged"));
  EXPECT_EQ(observer->parts_seen(), 2u);
}

TEST_P(CarrierConformance, UnaryCallWithOtherThanOnePartIsInternal) {
  service_.On(7, [](Request request, std::unique_ptr<Responder> responder) {
    for (size_t i = 0; i < request.message.size() / 2; ++i) responder->Send(Part{});
    responder->Complete(absl::OkStatus());
  });
  std::unique_ptr<Channel> channel = Connect();
  ASSERT_NE(channel, nullptr);
  const auto code = [&](size_t parts) {
    return CallAndWait(*channel, MakeRequest(7, TestMessage(2 * parts, 1))).status().code();
  };
  EXPECT_EQ(code(0), absl::StatusCode::kInternal);
  EXPECT_EQ(code(1), absl::StatusCode::kOk);
  EXPECT_EQ(code(2), absl::StatusCode::kInternal);
}

TEST_P(CarrierConformance, ResponderDroppedWithoutCompleteIsInternal) {
  service_.On(7, [](Request /*request*/, std::unique_ptr<Responder> responder) {
    responder->Send(Part{TestMessage(10, 1), SharedBytes()});
    responder.reset();
  });
  std::unique_ptr<Channel> channel = Connect();
  ASSERT_NE(channel, nullptr);
  EXPECT_EQ(CallAndWait(*channel, MakeRequest(7)).status().code(), absl::StatusCode::kInternal);
}

TEST_P(CarrierConformance, HandlerHeldForASecondDelaysNobodyElse) {
  Executor executor("held", 1, 4);
  Event release;
  service_.On(7, [&](Request request, std::unique_ptr<Responder> responder) {
    auto held = std::make_shared<std::unique_ptr<Responder>>(std::move(responder));
    ASSERT_TRUE(executor.TryRun([&release, held, message = std::move(request.message)]() mutable {
      (void)release.WaitFor(seconds(1));
      (*held)->Send(Part{std::move(message), SharedBytes()});
      (*held)->Complete(absl::OkStatus());
    }));
  });
  std::unique_ptr<Channel> channel = Connect();
  ASSERT_NE(channel, nullptr);
  auto observer = std::make_shared<RecordingObserver>();
  const TimePoint start = Clock::Steady().Now();
  auto call = channel->Start(MakeRequest(7, TestMessage(10, 1)), observer);
  int others = 0;
  while (!observer->done()) {
    ASSERT_TRUE(CallAndWait(*channel, MakeRequest(kEcho, TestMessage(10, 2))).ok());
    ++others;
  }
  EXPECT_TRUE(observer->WaitDone().ok());
  EXPECT_GE(Clock::Steady().Now() - start, milliseconds(999));
  EXPECT_GE(others, 20) << "calls that went through while one handler was held";
}

TEST_P(CarrierConformance, DestroyingAChannelCancelsItsCalls) {
  std::unique_ptr<Channel> channel = Connect();
  ASSERT_NE(channel, nullptr);
  std::vector<std::shared_ptr<RecordingObserver>> observers;
  std::vector<std::shared_ptr<Call>> calls;
  for (uint32_t i = 0; i < 5; ++i) {
    observers.push_back(std::make_shared<RecordingObserver>());
    calls.push_back(channel->Start(MakeRequest(kPark, "", TestBulk(kMiB, i)), observers.back()));
  }
  std::optional<ParkedCalls::Parked> parked = parked_.Take();
  ASSERT_TRUE(parked.has_value());
  channel.reset();
  for (const auto& observer : observers) {
    // Not WaitDone alone: the destructor itself has waited.
    EXPECT_TRUE(observer->done());
    EXPECT_EQ(observer->WaitDone().code(), absl::StatusCode::kCancelled);
  }
  for (const auto& call : calls) call->Cancel();
  while (!parked->responder->dead()) std::this_thread::yield();
  EXPECT_TRUE(service_.WaitForLostSessions(1));
}

// A call that was started, or cancelled by another thread, in the moment of the destruction could
// be left without its end, or reach for what was gone.
TEST_P(CarrierConformance, DestroyingAChannelAgainAndAgainEndsWhatHadJustBegun) {
#ifdef REPRISE_SANITIZED
  constexpr int kRounds = 50;
#else
  constexpr int kRounds = 300;
#endif
  const SharedBytes bulk = TestBulk(100'000, 1);
  for (int round = 0; round < kRounds; ++round) {
    std::unique_ptr<Channel> channel = Connect();
    ASSERT_NE(channel, nullptr) << "in round " << round;
    std::vector<std::shared_ptr<RecordingObserver>> observers;
    std::vector<std::shared_ptr<Call>> calls;
    for (int i = 0; i < 6; ++i) {
      observers.push_back(std::make_shared<RecordingObserver>([](const Part&) {}));
      calls.push_back(channel->Start(MakeRequest(kEcho, "", i % 2 == 0 ? bulk : SharedBytes()),
                                     observers.back()));
      // In every third round some of them are well under way.
      if (round % 3 == 0) std::this_thread::yield();
    }
    std::thread canceller([&calls] {
      for (const auto& call : calls) call->Cancel();
    });
    channel.reset();
    for (const auto& observer : observers) EXPECT_TRUE(observer->done()) << "in round " << round;
    canceller.join();
  }
  EXPECT_TRUE(service_.WaitForLostSessions(kRounds));
}

TEST_P(CarrierConformance, DestroyingAServerEndsItsCalls) {
  std::unique_ptr<Channel> channel = Connect();
  ASSERT_NE(channel, nullptr);
  std::vector<std::shared_ptr<RecordingObserver>> observers;
  std::vector<std::shared_ptr<Call>> calls;
  for (uint32_t i = 0; i < 5; ++i) {
    observers.push_back(std::make_shared<RecordingObserver>());
    calls.push_back(channel->Start(MakeRequest(kPark), observers.back()));
  }
  std::optional<ParkedCalls::Parked> parked = parked_.Take();
  ASSERT_TRUE(parked.has_value());
  server_.reset();
  EXPECT_TRUE(parked->responder->dead());
  EXPECT_EQ(service_.lost().size(), 1u);
  for (const auto& observer : observers) {
    EXPECT_EQ(observer->WaitDone().code(), absl::StatusCode::kUnavailable) << observer->WaitDone();
  }
  // A responder outlives its server without harm.
  parked->responder->Send(Part{"", TestBulk(10, 1)});
  parked->responder->Complete(absl::OkStatus());
  // And the channel knows.
  EXPECT_EQ(CallAndWait(*channel, MakeRequest(kEcho)).status().code(),
            absl::StatusCode::kUnavailable);
  while (channel->alive()) std::this_thread::yield();
}

TEST_P(CarrierConformance, DestroyingAServerReleasesWhatItWasSending) {
  Event released;
  service_.On(7, [&](Request request, std::unique_ptr<Responder> responder) {
    auto memory = std::make_shared<std::string>(8 * kMiB, 'x');
    std::shared_ptr<const void> owner(memory.get(),
                                      [memory, &released](const void*) { released.Set(); });
    for (int i = 0; i < 4; ++i) responder->Send(Part{"", SharedBytes(AsBytes(*memory), owner)});
    parked_.Park(std::move(request), std::move(responder));
  });
  std::unique_ptr<Channel> channel = Connect();
  ASSERT_NE(channel, nullptr);
  auto observer = std::make_shared<RecordingObserver>();
  CallRequest request = MakeRequest(7);
  request.credit_parts = 1;
  auto call = channel->Start(std::move(request), observer);
  ASSERT_TRUE(observer->WaitParts(1));
  server_.reset();
  EXPECT_TRUE(released.is_set()) << "the server is gone, its carrier still holds a buffer";
  // The part that is held may hide the end from some carriers until it is released.
  EXPECT_EQ(observer->TakeParts().size(), 1u);
  EXPECT_EQ(observer->WaitDone().code(), absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace reprise::transport
