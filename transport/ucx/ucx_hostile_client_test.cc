// What clients that break the protocol can do to a server: lose their own endpoint.
#include <algorithm>
#include <atomic>
#include <functional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "common/limits.h"
#include "transport/conformance.h"
#include "transport/ucx/server_core.h"
#include "transport/ucx/testing/raw_peer.h"
#include "transport/ucx/testing/test_address.h"
#include "transport/ucx/ucx_transport.h"

namespace reprise::transport {
namespace {

constexpr uint32_t kEager = UCP_AM_SEND_FLAG_REPLY | UCP_AM_SEND_FLAG_EAGER;
constexpr uint32_t kRendezvous = UCP_AM_SEND_FLAG_REPLY | UCP_AM_SEND_FLAG_RNDV;
constexpr MethodId kHeld = 9;
constexpr MethodId kKept = 10;  // as kHeld, with the bulk
constexpr MethodId kLarge = 11;
constexpr size_t kLargeBytes = 4 * kMiB;  // of its answer

class UcxHostileClientTest : public ::testing::Test {
 protected:
  void SetUp() override {
    service_.On(kEcho, [](Request request, std::unique_ptr<Responder> responder) {
      responder->Send(Part{std::move(request.message), std::move(request.bulk)});
      responder->Complete(absl::OkStatus());
    });
    service_.On(kHeld, [this](Request request, std::unique_ptr<Responder> responder) {
      held_bulk_bytes_ += request.bulk.size();
      MutexLock lock(mutex_);
      held_.push_back(std::move(responder));
    });
    service_.On(kKept, [this](Request request, std::unique_ptr<Responder> responder) {
      MutexLock lock(mutex_);
      kept_.push_back(std::move(request.bulk));
      held_.push_back(std::move(responder));
    });
    service_.On(kLarge, [this](Request /*request*/, std::unique_ptr<Responder> responder) {
      ++large_answers_;
      responder->Send(Part{std::string(kLargeBytes, 'l'), SharedBytes()});
      responder->Complete(absl::OkStatus());
    });
    auto server = UcxServer::Create({.listen = TestAddress(),
                                     .service = &service_,
                                     .receive_bytes = 4 * kMaxPartBytes,
                                     .clock = &clock_});
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    auto peer = RawPeer::Create();
    ASSERT_TRUE(peer.ok()) << peer.status();
    peer_ = *std::move(peer);
  }

  // Connects the raw peer once more and says hello; the new endpoint's index.
  size_t ConnectAndGreet() {
    // Answers to earlier endpoints may come meanwhile.
    const auto welcomes = [&] {
      return std::ranges::count(peer_->received(), FrameKind::kWelcome,
                                [](const RawPeer::Received& got) { return got.frame.kind; });
    };
    const size_t index = peer_->endpoints();
    const auto before = welcomes();
    EXPECT_TRUE(peer_->Connect(server_->address()).ok());
    peer_->Send(index, {.kind = FrameKind::kHello}, std::string(kGoodHello));
    EXPECT_TRUE(peer_->ProgressUntil([&] { return welcomes() > before; }));
    return index;
  }

  static Frame Ask(uint64_t call_id, MethodId method = kHeld) {
    return {.kind = FrameKind::kRequest,
            .method = method,
            .call_id = call_id,
            .deadline_ms = 60'000,
            .credit = 1};
  }

  // The server closes the endpoint on which `misbehave` acts, counts one violation, and goes on
  // serving others.
  void ExpectLosesItsEndpoint(const std::string& what,
                              const std::function<void(size_t endpoint)>& misbehave) {
    SCOPED_TRACE(what);
    const uint64_t violations = server_->statistics().protocol_violations;
    const size_t lost = peer_->lost();
    misbehave(ConnectAndGreet());
    EXPECT_TRUE(peer_->ProgressUntil([&] { return peer_->lost() > lost; }));
    EXPECT_EQ(server_->statistics().protocol_violations, violations + 1);
  }

  size_t kept() {
    MutexLock lock(mutex_);
    return kept_.size();
  }

  TestService service_;
  std::atomic<size_t> held_bulk_bytes_{0};
  std::atomic<size_t> large_answers_{0};
  Mutex mutex_;
  std::vector<std::unique_ptr<Responder>> held_ ABSL_GUARDED_BY(mutex_);
  std::vector<SharedBytes> kept_ ABSL_GUARDED_BY(mutex_);
  ManualClock clock_;
  std::unique_ptr<UcxServer> server_;
  std::unique_ptr<RawPeer> peer_;
};

TEST_F(UcxHostileClientTest, EveryViolationCostsTheEndpointAndNothingElse) {
  auto good = ConnectUcx({.address = server_->address(), .hello = std::string(kGoodHello)},
                         Deadline::After(std::chrono::seconds(30)));
  ASSERT_TRUE(good.ok()) << good.status();

  const auto send = [this](Frame frame) {
    return [this, frame](size_t endpoint) { peer_->Send(endpoint, frame); };
  };
  ExpectLosesItsEndpoint("hello twice", send({.kind = FrameKind::kHello}));
  ExpectLosesItsEndpoint("a server's frames: hello reply", send({.kind = FrameKind::kWelcome}));
  ExpectLosesItsEndpoint("a server's frames: done", send({.kind = FrameKind::kDone, .call_id = 1}));
  ExpectLosesItsEndpoint("a server's frames: part with bulk", [this](size_t endpoint) {
    peer_->Send(endpoint, {.kind = FrameKind::kPart, .call_id = 1}, "", std::string(kMiB, 'b'));
  });
  ExpectLosesItsEndpoint("one call id twice", [this](size_t endpoint) {
    peer_->Send(endpoint, Ask(1));
    peer_->Send(endpoint, Ask(1));
  });
  ExpectLosesItsEndpoint("credit that was not used", [this](size_t endpoint) {
    peer_->Send(endpoint, Ask(1));
    peer_->Send(endpoint, {.kind = FrameKind::kCredit, .call_id = 1, .credit = 1});
  });
  ExpectLosesItsEndpoint("no header", [this](size_t endpoint) {
    peer_->SendRaw(endpoint, "", "data without a header", kEager);
  });
  ExpectLosesItsEndpoint("a message by rendezvous", [this](size_t endpoint) {
    Frame frame = Ask(1);
    frame.message_bytes = kMiB;
    peer_->SendRaw(endpoint, std::string(AsText(EncodeFrame(frame))), std::string(kMiB, 'm'),
                   kRendezvous);
  });
  ExpectLosesItsEndpoint("bulk that should come by rendezvous", [this](size_t endpoint) {
    Frame frame = Ask(1);
    frame.bulk_bytes = kRendezvousBytes;
    peer_->SendRaw(endpoint, std::string(AsText(EncodeFrame(frame))),
                   std::string(kRendezvousBytes, 'b'), kEager);
  });
  ExpectLosesItsEndpoint("bulk over the limit", [this](size_t endpoint) {
    Frame frame = Ask(1);
    frame.bulk_bytes = kMaxPartBytes + 1;
    peer_->SendRaw(endpoint, std::string(AsText(EncodeFrame(frame))),
                   std::string(kMaxPartBytes + 1, 'b'), kRendezvous);
  });
  ExpectLosesItsEndpoint("less bulk than promised", [this](size_t endpoint) {
    Frame frame = Ask(1);
    frame.bulk_bytes = 2 * kMiB;
    peer_->SendRaw(endpoint, std::string(AsText(EncodeFrame(frame))), std::string(kMiB, 'b'),
                   kRendezvous);
  });

  // Another client noticed nothing, and nothing was kept.
  const SharedBytes bulk = TestBulk(3 * kMiB, 1);
  auto reply = CallAndWait(*good->channel, {.method = kEcho,
                                            .message = "still here",
                                            .bulk = bulk,
                                            .deadline = Deadline::After(std::chrono::seconds(30))});
  ASSERT_TRUE(reply.ok()) << reply.status();
  EXPECT_EQ(AsText(reply->bulk.bytes()), AsText(bulk.bytes()));
}

TEST_F(UcxHostileClientTest, NothingIsServedBeforeHello) {
  ASSERT_TRUE(peer_->Connect(server_->address()).ok());
  peer_->Send(0, Ask(1, kEcho), "early");
  EXPECT_TRUE(peer_->ProgressUntil([&] { return peer_->lost() == 1; }));
  EXPECT_TRUE(peer_->received().empty());
  EXPECT_EQ(server_->statistics().protocol_violations, 1u);
}

TEST_F(UcxHostileClientTest, NothingIsServedAfterARefusedHello) {
  ASSERT_TRUE(peer_->Connect(server_->address()).ok());
  peer_->Send(0, {.kind = FrameKind::kHello}, TestMessage(20, 1));
  ASSERT_TRUE(peer_->ProgressUntil([&] { return peer_->received().size() == 1; }));
  EXPECT_EQ(peer_->received()[0].frame.status, absl::StatusCode::kUnauthenticated);
  peer_->Send(0, Ask(1, kEcho), "nevertheless");
  EXPECT_TRUE(peer_->ProgressUntil([&] { return peer_->lost() == 1; }));
  EXPECT_EQ(peer_->received().size(), 1u);
}

TEST_F(UcxHostileClientTest, RandomFramesNeverCrashTheServer) {
  std::mt19937 random(11);
  for (int round = 0; round < 20; ++round) {
    const size_t lost = peer_->lost();
    const size_t endpoint = ConnectAndGreet();
    for (int i = 0; i < 50; ++i) {
      Frame frame = Ask(random() % 4, static_cast<MethodId>(random() % 2 == 0 ? kEcho : kHeld));
      frame.kind = static_cast<FrameKind>(1 + random() % 12);
      std::string header(AsText(EncodeFrame(frame)));
      std::string data(random() % 3 == 0 ? random() % 100'000 : random() % 30, 'd');
      for (size_t flips = random() % 4; flips > 0; --flips) {
        header[random() % header.size()] = static_cast<char>(random());
      }
      if (random() % 8 == 0) header.resize(random() % 200);
      peer_->SendRaw(endpoint, header, std::move(data), random() % 2 == 0 ? kEager : kRendezvous);
    }
    EXPECT_TRUE(peer_->ProgressUntil([&] { return peer_->lost() > lost; }));
  }
  EXPECT_GE(server_->statistics().protocol_violations, 20u);
}

TEST_F(UcxHostileClientTest, FramesWithoutASenderAreCountedAndIgnored) {
  const size_t endpoint = ConnectAndGreet();
  const uint64_t before = server_->statistics().unknown_senders;
  peer_->SendRaw(endpoint, std::string(AsText(EncodeFrame(Ask(1)))), "", UCP_AM_SEND_FLAG_EAGER);
  EXPECT_TRUE(
      peer_->ProgressUntil([&] { return server_->statistics().unknown_senders == before + 1; }));
  EXPECT_EQ(peer_->lost(), 0u);
}

TEST_F(UcxHostileClientTest, AnEndpointThatSaysNothingIsClosed) {
  ASSERT_TRUE(peer_->Connect(server_->address()).ok());
  const size_t greeted = ConnectAndGreet();
  clock_.Advance(kHelloTimeout + std::chrono::milliseconds(1));
  EXPECT_TRUE(peer_->ProgressUntil([&] { return peer_->lost() == 1; }));
  // Who said hello stays.
  peer_->Send(greeted, Ask(1, kEcho), "hi");
  EXPECT_TRUE(peer_->ProgressUntil([&] { return peer_->received().size() == 3; }));
  EXPECT_EQ(peer_->lost(), 1u);
}

TEST_F(UcxHostileClientTest, EndpointsThatHaveNotSaidHelloAreBounded) {
  for (size_t i = 0; i < kMaxHalfOpenEndpoints + 10; ++i) {
    ASSERT_TRUE(peer_->Connect(server_->address()).ok());
    if (i % 32 == 31) peer_->Progress();
  }
  EXPECT_TRUE(peer_->ProgressUntil([&] { return server_->statistics().refused_endpoints >= 10; }));
  // Some are accepted only now; the clock goes on for them too.
  EXPECT_TRUE(peer_->ProgressUntil([&] {
    clock_.Advance(std::chrono::milliseconds(100));
    return peer_->lost() == peer_->endpoints();
  }));
  ConnectAndGreet();
}

TEST_F(UcxHostileClientTest, CallsOverTheWindowAreRefused) {
  const size_t endpoint = ConnectAndGreet();
  for (uint64_t id = 1; id <= kMaxCallsPerSession + 5; ++id) peer_->Send(endpoint, Ask(id));
  ASSERT_TRUE(peer_->ProgressUntil([&] { return peer_->received().size() == 1 + 5; }));
  for (size_t i = 1; i <= 5; ++i) {
    EXPECT_EQ(peer_->received()[i].frame.kind, FrameKind::kDone);
    EXPECT_EQ(peer_->received()[i].frame.status, absl::StatusCode::kResourceExhausted);
    EXPECT_EQ(peer_->received()[i].frame.call_id, kMaxCallsPerSession + i);
  }
  // Cancelling does not make room while handlers still hold the responders; their end does.
  for (uint64_t id = 1; id <= kMaxCallsPerSession; ++id) {
    peer_->Send(endpoint, {.kind = FrameKind::kCancel, .call_id = id});
  }
  peer_->Send(endpoint, Ask(1000));
  ASSERT_TRUE(peer_->ProgressUntil([&] { return peer_->received().size() == 1 + 6; }));
  {
    MutexLock lock(mutex_);
    for (const auto& responder : held_) EXPECT_TRUE(responder->dead());
    held_.clear();
  }
  peer_->Send(endpoint, Ask(1001, kEcho), "now");
  ASSERT_TRUE(peer_->ProgressUntil([&] { return peer_->received().size() == 1 + 6 + 2; }));
  EXPECT_EQ(peer_->received().back().frame.status, absl::StatusCode::kOk);
  EXPECT_EQ(server_->statistics().refused_requests, 6u);
}

TEST_F(UcxHostileClientTest, ASessionThatHoldsItsShareOfReceiveMemoryWaits) {
  // Handlers keep the responder, not the bulk; these requests' bulk is announced but never let go
  // because the peer does not answer.
  const size_t greedy = ConnectAndGreet();
  for (uint64_t id = 1; id <= 4; ++id) {
    peer_->Send(greedy, Ask(id), "", std::string(kMaxPartBytes, 'b'));
  }
  // Two of four slots is one session's share. Not making progress here keeps both receiving.
  while (server_->statistics().parked_parts < 2) std::this_thread::yield();
  EXPECT_EQ(held_bulk_bytes_, 0u);

  // Another session is not affected.
  auto good = ConnectUcx({.address = server_->address(), .hello = std::string(kGoodHello)},
                         Deadline::After(std::chrono::seconds(30)));
  ASSERT_TRUE(good.ok()) << good.status();
  auto reply = CallAndWait(*good->channel, {.method = kEcho,
                                            .message = "",
                                            .bulk = TestBulk(kMaxPartBytes, 1),
                                            .deadline = Deadline::After(std::chrono::seconds(30))});
  ASSERT_TRUE(reply.ok()) << reply.status();

  // A parked request that is cancelled lets go at once; the others go through in the end.
  peer_->Send(greedy, {.kind = FrameKind::kCancel, .call_id = 4});
  EXPECT_TRUE(peer_->ProgressUntil([&] { return held_bulk_bytes_ == 3 * kMaxPartBytes; }));
  EXPECT_TRUE(peer_->ProgressUntil([&] { return peer_->sends_under_way() == 0; }));
}

TEST_F(UcxHostileClientTest, SmallBulkThatWaitsIsBounded) {
  constexpr size_t kBulkBytes = kRendezvousBytes - 1;
  constexpr size_t kRoom = kMaxParkedCopyBytes / kBulkBytes;
  constexpr uint64_t kCallsEach = 200;
  static_assert(2 * kCallsEach > kRoom + 100);
  // Twice: what waited is not counted for ever.
  for (size_t round = 1; round <= 2; ++round) {
    const std::vector<size_t> greedy = {ConnectAndGreet(), ConnectAndGreet()};
    for (const size_t endpoint : greedy) {
      for (uint64_t id = 1; id <= 2; ++id) {
        peer_->Send(endpoint, Ask(id, kKept), "", std::string(kMaxPartBytes, 'b'));
      }
    }
    ASSERT_TRUE(peer_->ProgressUntil([&] { return kept() == 4; }));
    // Every slot is in use now.
    const uint64_t refused = server_->statistics().refused_requests;
    for (uint64_t id = 3; id < 3 + kCallsEach; ++id) {
      for (const size_t endpoint : greedy) {
        Frame frame = Ask(id);
        frame.bulk_bytes = kBulkBytes;
        peer_->SendRaw(endpoint, std::string(AsText(EncodeFrame(frame))),
                       std::string(kBulkBytes, 'b'), kEager);
      }
    }
    EXPECT_TRUE(peer_->ProgressUntil([&] {
      return server_->statistics().refused_requests == refused + 2 * kCallsEach - kRoom;
    })) << server_->statistics().refused_requests;
    // Counted before they are answered.
    EXPECT_TRUE(peer_->ProgressUntil([&] {
      return peer_->received().back().frame.status == absl::StatusCode::kResourceExhausted;
    }));
    // What had room is served when there are slots again.
    {
      MutexLock lock(mutex_);
      kept_.clear();
    }
    EXPECT_TRUE(
        peer_->ProgressUntil([&] { return held_bulk_bytes_ == round * kRoom * kBulkBytes; }));
  }
  EXPECT_EQ(peer_->lost(), 0u);
}

TEST_F(UcxHostileClientTest, AClientThatReadsNoAnswersIsRefusedMore) {
  const size_t endpoint = ConnectAndGreet();
  constexpr uint64_t kAsked = 60;
  for (uint64_t id = 1; id <= kAsked; ++id) peer_->Send(endpoint, Ask(id, kLarge));
  const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  while (large_answers_ + server_->statistics().refused_requests < kAsked) {
    ASSERT_LT(std::chrono::steady_clock::now(), give_up);
    std::this_thread::yield();
  }
  // One more may begin below the limit; what the socket takes is not counted.
  EXPECT_LE(large_answers_, kMaxUnsentBytes / kLargeBytes + 5);
  // It gets what it asked for when it reads, and is served again.
  ASSERT_TRUE(peer_->ProgressUntil(
      [&] { return peer_->received().size() == 1 + kAsked + large_answers_; }));
  peer_->Send(endpoint, Ask(1000, kLarge));
  ASSERT_TRUE(peer_->ProgressUntil([&] { return peer_->received().back().frame.call_id == 1000; }));
  EXPECT_EQ(peer_->received().back().frame.status, absl::StatusCode::kOk);
}

TEST_F(UcxHostileClientTest, ClientsThatReadNoAnswersTogetherGetLittleMoreThanOne) {
  constexpr uint64_t kAsked = 60;
  constexpr size_t kClients = 4;
  std::vector<size_t> endpoints;
  for (size_t i = 0; i < kClients; ++i) endpoints.push_back(ConnectAndGreet());
  for (const size_t endpoint : endpoints) {
    const uint64_t ended = large_answers_ + server_->statistics().refused_requests;
    for (uint64_t id = 1; id <= kAsked; ++id) peer_->Send(endpoint, Ask(id, kLarge));
    const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    while (large_answers_ + server_->statistics().refused_requests < ended + kAsked) {
      ASSERT_LT(std::chrono::steady_clock::now(), give_up);
      std::this_thread::yield();
    }
  }
  // Each may begin one more below its limit; what the sockets take is not counted.
  const uint64_t each = kMaxUnsentBytesInCrowd / kLargeBytes + 5;
  EXPECT_LE(large_answers_, kMaxUnsentBytes / kLargeBytes + kClients * each);
}

TEST_F(UcxHostileClientTest, AClientThatAsksOnAndReadsNothingIsClosed) {
  const size_t endpoint = ConnectAndGreet();
  for (uint64_t id = 1; id <= 200'000; ++id) {
    peer_->Send(endpoint, Ask(id, kLarge));
    if (server_->statistics().protocol_violations > 0) break;
  }
  EXPECT_TRUE(peer_->ProgressUntil([&] { return peer_->lost() == 1; }));
  EXPECT_EQ(server_->statistics().protocol_violations, 1u);
}

}  // namespace
}  // namespace reprise::transport
