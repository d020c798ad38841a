// That an operation ends when it is told to, however slowly the pieces of others decode.

#include <atomic>
#include <thread>

#include "client/client_fixture.h"
#include "client/fetch_operation.h"
#include "proto/reprise.pb.h"

namespace reprise::client {
namespace {

// One segment of the slow codec.
constexpr std::chrono::milliseconds kDecodeTime{5};
constexpr uint32_t kOthers = 60;
// Segments that may be decoded, by all, before an operation that is to end has ended: far fewer
// than a round of all operations.
constexpr int kSlack = kOthers / 3;

void YieldUntil(TimePoint end) {
  while (Clock::Steady().Now() < end) std::this_thread::yield();
}

// Takes kDecodeTime for each segment. Its outcome: whether every piece came.
class SlowFetch final : public OperationOf<bool, FetchOperation> {
 public:
  SlowFetch(Core& fetch_core, Deadline deadline, std::vector<ExpectedPiece> pieces,
            std::atomic<int>& decoded)
      : OperationOf(fetch_core, deadline, std::move(pieces)), decoded_(decoded) {}

  int decoded_here() const { return decoded_here_; }

 private:
  const Replicas& ReplicasOf(uint32_t /*piece*/) const override { return only_; }
  absl::Status TakeMeta(uint32_t, const PieceMeta&, ByteSpan, uint32_t) override {
    return absl::OkStatus();
  }
  absl::Status TakeSegment(uint32_t, const PieceMeta&, uint32_t, ByteSpan) override {
    YieldUntil(Clock::Steady().Now() + kDecodeTime);
    ++decoded_;
    ++decoded_here_;
    return absl::OkStatus();
  }
  absl::Status TakeEnd(uint32_t, const PieceMeta&, uint32_t) override { return absl::OkStatus(); }
  void OnMiss(uint32_t, const PieceMiss&) override { missed_ = true; }
  void OnFetched(const absl::Status& status) override {
    if (!status.ok()) return Finish(status);
    Finish(!missed_);
  }

  const Replicas only_{0};
  std::atomic<int>& decoded_;
  std::atomic<int> decoded_here_{0};
  bool missed_ = false;
};

// kOthers fetches of 256 segments each on one thread: far more work than a test has time.
class SlowCodecTest : public ClientTest {
 protected:
  SlowCodecTest()
      : keys_(SampleKeys(AttentionNamespace(), 16)),
        core_(std::make_unique<Core>(
            std::make_unique<StaticMembership>(View{.epoch = 0, .nodes = {Node{}}}),
            [this](const Node&) {
              return std::make_unique<LoopbackConnector>([this] { return server_.get(); });
            },
            ClientOptions{}, Clock::Steady())) {
    Publish(keys_, 16, 1);
    for (uint32_t i = 0; i < kOthers; ++i) others_.push_back(SlowFetch::Run(Make(Soon())));
    // By then all have begun, and what comes is bounded by their credit.
    while (decoded_ < static_cast<int>(2 * kOthers)) std::this_thread::yield();
  }
  ~SlowCodecTest() override { core_->operations.CancelAllAndWait(); }

  std::shared_ptr<SlowFetch> Make(Deadline deadline) {
    std::vector<ExpectedPiece> pieces;
    for (uint32_t chunk = 0; chunk < 16; ++chunk) {
      for (uint32_t slot = 0; slot < 4; ++slot) {
        pieces.emplace_back();
        pieces.back().key = keys_.key(chunk, slot);
      }
    }
    return std::make_shared<SlowFetch>(*core_, deadline, std::move(pieces), decoded_);
  }

  const PrefixKeys keys_;
  std::atomic<int> decoded_{0};
  std::unique_ptr<Core> core_;
  std::vector<Async<bool>> others_;
};

TEST_F(SlowCodecTest, CancelDoesNotWaitForOtherOperationsPieces) {
  const auto fetch = Make(Soon());
  auto result = SlowFetch::Run(fetch);
  // Its turn has just been, and the next is a round away.
  while (fetch->decoded_here() < 2) std::this_thread::yield();
  const int before = decoded_;
  result.Cancel();
  EXPECT_TRUE(absl::IsCancelled(result.Wait().status()));
  EXPECT_LT(decoded_ - before, kSlack);
}

TEST_F(SlowCodecTest, TheDeadlineDoesNotWaitForOtherOperationsPieces) {
  for (int i = 0; i < 5; ++i) {
    const Deadline deadline = Deadline::After(std::chrono::milliseconds(100));
    auto late = SlowFetch::Run(Make(deadline));
    YieldUntil(deadline.at());
    const int before = decoded_;
    auto result = late.Wait();
    ASSERT_TRUE(result.ok()) << result.status();
    EXPECT_FALSE(*result);
    EXPECT_LT(decoded_ - before, kSlack);
  }
}

}  // namespace
}  // namespace reprise::client
