// That an operation ends when it is told to, however slowly the pieces of others decode.

#include <thread>

#include "client/client_fixture.h"
#include "client/fetch_operation.h"
#include "proto/reprise.pb.h"

namespace reprise::client {
namespace {

constexpr std::chrono::milliseconds kDecodeTime{20};

// Takes kDecodeTime for each segment. Its outcome: whether every piece came.
class SlowFetch final : public OperationOf<bool, FetchOperation> {
 public:
  using OperationOf::OperationOf;

 private:
  absl::Status TakeMeta(uint32_t, const PieceMeta&, ByteSpan, uint32_t) override {
    return absl::OkStatus();
  }
  absl::Status TakeSegment(uint32_t, const PieceMeta&, uint32_t, ByteSpan) override {
    std::this_thread::sleep_for(kDecodeTime);
    return absl::OkStatus();
  }
  absl::Status TakeEnd(uint32_t, const PieceMeta&, uint32_t) override { return absl::OkStatus(); }
  void OnMiss(uint32_t, const PieceMiss&) override { missed_ = true; }
  void OnFetched(const absl::Status& status) override {
    if (!status.ok()) return Finish(status);
    Finish(!missed_);
  }

  bool missed_ = false;
};

// 8 fetches of 64 segments each, 20 ms a segment, on one thread: 10 s of work.
class SlowCodecTest : public ClientTest {
 protected:
  SlowCodecTest()
      : keys_(SampleKeys(AttentionNamespace(), 4)),
        core_(std::make_unique<Core>(
            std::make_unique<LoopbackConnector>([this] { return server_.get(); }), ClientOptions{},
            Clock::Steady())) {
    Publish(keys_, 4, 1);
    for (uint32_t i = 0; i < 7; ++i) others_.push_back(Fetch(Soon()));
  }
  ~SlowCodecTest() override {
    for (auto& other : others_) other.Cancel();
    core_->operations.CancelAllAndWait();
  }

  Async<bool> Fetch(Deadline deadline) {
    std::vector<ExpectedPiece> pieces;
    for (uint32_t chunk = 0; chunk < 4; ++chunk) {
      for (uint32_t slot = 0; slot < 4; ++slot) {
        pieces.emplace_back();
        pieces.back().key = keys_.key(chunk, slot);
      }
    }
    return SlowFetch::Run(std::make_shared<SlowFetch>(*core_, deadline, std::move(pieces)));
  }

  const PrefixKeys keys_;
  std::unique_ptr<Core> core_;
  std::vector<Async<bool>> others_;
};

// One segment of another operation, and one of its own, may be in hand.
constexpr auto kSlack = 10 * kDecodeTime;

TEST_F(SlowCodecTest, CancelDoesNotWaitForOtherOperationsPieces) {
  auto fetch = Fetch(Soon());
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  const TimePoint cancelled = Clock::Steady().Now();
  fetch.Cancel();
  EXPECT_TRUE(absl::IsCancelled(fetch.Wait().status()));
  EXPECT_LT(Clock::Steady().Now() - cancelled, kSlack);
}

TEST_F(SlowCodecTest, TheDeadlineDoesNotWaitForOtherOperationsPieces) {
  const Deadline deadline = Deadline::After(std::chrono::milliseconds(300));
  auto result = Fetch(deadline).Wait();
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_FALSE(*result);
  EXPECT_LT(Clock::Steady().Now() - deadline.at(), kSlack);
}

}  // namespace
}  // namespace reprise::client
