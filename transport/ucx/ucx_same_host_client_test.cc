// What clients can do to a server that lends them its memory.
#include <atomic>
#include <functional>
#include <string>
#include <vector>

#include "common/limits.h"
#include "transport/conformance.h"
#include "transport/ucx/endpoint.h"
#include "transport/ucx/same_host.h"
#include "transport/ucx/testing/raw_peer.h"
#include "transport/ucx/testing/test_address.h"
#include "transport/ucx/ucx_transport.h"

namespace reprise::transport {
namespace {

constexpr MethodId kBulk = 9;

class UcxSameHostClientTest : public ::testing::Test {
 protected:
  void SetUp() override {
    // As many parts as the request has bytes.
    service_.On(kBulk, [this](Request request, std::unique_ptr<Responder> responder) {
      for (size_t i = 0; i < request.message.size(); ++i) {
        responder->Send(Part{"part", SharedBytes(AsBytes(*bulk_), bulk_)});
      }
      responder->Complete(absl::OkStatus());
    });
    Start(/*same_host=*/true);
    auto peer = RawPeer::Create();
    ASSERT_TRUE(peer.ok()) << peer.status();
    peer_ = *std::move(peer);
  }

  void Start(bool same_host) {
    server_ = nullptr;
    auto server =
        UcxServer::Create({.listen = TestAddress(), .service = &service_, .same_host = same_host});
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
  }

  // Connects once more and says hello; false when no token came before the welcome.
  bool ConnectAndGreet(uint64_t identity) {
    endpoint_ = peer_->endpoints();
    const size_t before = peer_->received().size();
    EXPECT_TRUE(peer_->Connect(server_->address()).ok());
    peer_->Send(endpoint_, {.kind = FrameKind::kHelloSameHost, .call_id = identity},
                std::string(kGoodHello));
    EXPECT_TRUE(peer_->ProgressUntil(
        [&] { return peer_->received().size() > before && last().kind == FrameKind::kWelcome; }));
    const Frame& first = peer_->received()[before].frame;
    if (first.kind != FrameKind::kToken) return false;
    auto reader = SameHostReader::Create(first.sequence, first.address);
    EXPECT_TRUE(reader.ok()) << reader.status();
    if (reader.ok()) proof_ = reader->proof();
    return true;
  }

  void ConnectAndProve() {
    ASSERT_TRUE(ConnectAndGreet(*SameHostIdentity()));
    peer_->Send(endpoint_, {.kind = FrameKind::kProof}, proof_);
  }

  // Asks for `parts` parts and waits for the end.
  void Ask(uint64_t call_id, size_t parts = 1) {
    peer_->Send(endpoint_,
                {.kind = FrameKind::kRequest,
                 .method = kBulk,
                 .call_id = call_id,
                 .deadline_ms = 60'000,
                 .credit = kMaxCreditParts},
                std::string(parts, '.'));
    ASSERT_TRUE(peer_->ProgressUntil(
        [&] { return last().kind == FrameKind::kDone && last().call_id == call_id; }));
  }

  void SendRead(uint64_t call_id, uint32_t sequence) {
    peer_->Send(endpoint_, {.kind = FrameKind::kRead, .call_id = call_id, .sequence = sequence});
  }

  // Copies that the server keeps, besides the test's own.
  long Kept() const { return bulk_.use_count() - 1; }
  bool WaitForKept(long count) {
    return peer_->ProgressUntil([&] { return Kept() == count; });
  }

  void ExpectLosesItsEndpoint(const std::string& what, const std::function<void()>& misbehave) {
    SCOPED_TRACE(what);
    const uint64_t violations = server_->statistics().protocol_violations;
    const size_t lost = peer_->lost();
    misbehave();
    EXPECT_TRUE(peer_->ProgressUntil([&] { return peer_->lost() > lost; }));
    EXPECT_EQ(server_->statistics().protocol_violations, violations + 1);
    EXPECT_TRUE(WaitForKept(0));
  }

  const Frame& last() const { return peer_->received().back().frame; }

  const std::shared_ptr<std::string> bulk_ = std::make_shared<std::string>(kSameHostBytes, 'b');
  TestService service_;
  std::unique_ptr<UcxServer> server_;
  std::unique_ptr<RawPeer> peer_;
  size_t endpoint_ = 0;
  std::string proof_;
};

TEST_F(UcxSameHostClientTest, APartIsKeptUntilItWasRead) {
  ConnectAndProve();
  Ask(1, 2);
  EXPECT_EQ(Kept(), 2);
  const RawPeer::Received& part = peer_->received()[peer_->received().size() - 2];
  EXPECT_EQ(part.frame.kind, FrameKind::kLentPart);
  EXPECT_EQ(part.frame.bulk_bytes, bulk_->size());
  EXPECT_EQ(part.frame.address, reinterpret_cast<uintptr_t>(bulk_->data()));
  EXPECT_EQ(part.message, "part");
  EXPECT_EQ(server_->statistics().same_host_bytes, 0u);
  SendRead(1, 1);
  EXPECT_TRUE(WaitForKept(1));
  // Also by a client that does not want it any more.
  peer_->Send(endpoint_, {.kind = FrameKind::kCancel, .call_id = 1});
  SendRead(1, 0);
  EXPECT_TRUE(WaitForKept(0));
  EXPECT_EQ(server_->statistics().same_host_bytes, 2 * bulk_->size());
}

TEST_F(UcxSameHostClientTest, WhatIsLentReturnsWithTheEndpointOrTheServer) {
  ConnectAndProve();
  Ask(1, 3);
  EXPECT_EQ(Kept(), 3);
  auto dying = RawPeer::Create();
  ASSERT_TRUE(dying.ok()) << dying.status();
  peer_.swap(*dying);
  ConnectAndProve();
  Ask(1, 2);
  EXPECT_EQ(Kept(), 5);
  peer_.swap(*dying);
  dying->reset();
  EXPECT_TRUE(WaitForKept(3));
  server_ = nullptr;
  EXPECT_EQ(Kept(), 0);
}

TEST_F(UcxSameHostClientTest, NothingIsLentWithoutAProof) {
  const auto expect_sent = [this](const std::string& what) {
    SCOPED_TRACE(what);
    const size_t before = peer_->received().size();
    Ask(1);
    EXPECT_EQ(peer_->received()[before].frame.kind, FrameKind::kPart);
  };
  ASSERT_FALSE(ConnectAndGreet(*SameHostIdentity() + 2));
  expect_sent("of another host");
  ASSERT_TRUE(ConnectAndGreet(*SameHostIdentity()));
  expect_sent("not proven yet");
  ASSERT_TRUE(ConnectAndGreet(*SameHostIdentity()));
  peer_->Send(endpoint_, {.kind = FrameKind::kProof});
  expect_sent("may not read");
  Start(/*same_host=*/false);
  ASSERT_FALSE(ConnectAndGreet(*SameHostIdentity()));
  expect_sent("not switched on");
}

TEST_F(UcxSameHostClientTest, EveryViolationCostsTheEndpointAndNothingElse) {
  const auto prove = [this](std::string proof) {
    peer_->Send(endpoint_, {.kind = FrameKind::kProof}, std::move(proof));
  };
  ExpectLosesItsEndpoint("a wrong proof", [&] {
    ASSERT_TRUE(ConnectAndGreet(*SameHostIdentity()));
    prove(std::string(kProofBytes, 'x'));
  });
  ExpectLosesItsEndpoint("another endpoint's proof", [&] {
    ASSERT_TRUE(ConnectAndGreet(*SameHostIdentity()));
    const std::string proof = proof_;
    ASSERT_TRUE(ConnectAndGreet(*SameHostIdentity()));
    prove(proof);
  });
  ExpectLosesItsEndpoint("a proof that nobody asked for", [&] {
    ASSERT_FALSE(ConnectAndGreet(1));
    prove(proof_);
  });
  ExpectLosesItsEndpoint("a proof twice", [&] {
    ConnectAndProve();
    prove(proof_);
  });
  ExpectLosesItsEndpoint("hello twice", [&] {
    ConnectAndProve();
    peer_->Send(endpoint_, {.kind = FrameKind::kHelloSameHost}, std::string(kGoodHello));
  });
  ExpectLosesItsEndpoint("what was not lent is read", [&] {
    ConnectAndProve();
    Ask(1);
    SendRead(1, 1);
  });
  ExpectLosesItsEndpoint("a part is read twice", [&] {
    ConnectAndProve();
    Ask(1, 2);
    SendRead(1, 0);
    SendRead(1, 0);
  });
  ExpectLosesItsEndpoint("another session's part is read", [&] {
    ConnectAndProve();
    const size_t other = endpoint_;
    Ask(5);
    ConnectAndProve();
    SendRead(5, 0);
    EXPECT_TRUE(peer_->ProgressUntil([&] { return peer_->lost() > 0; }));
    EXPECT_EQ(Kept(), 1);
    endpoint_ = other;
    SendRead(5, 0);
  });
  ExpectLosesItsEndpoint("a call id again before its parts were read", [&] {
    ConnectAndProve();
    Ask(1);
    peer_->Send(endpoint_,
                {.kind = FrameKind::kRequest,
                 .method = kBulk,
                 .call_id = 1,
                 .deadline_ms = 60'000,
                 .credit = 1},
                ".");
  });
  for (const Frame& frame :
       {Frame{.kind = FrameKind::kToken, .sequence = 1, .address = 1},
        Frame{.kind = FrameKind::kLentPart, .call_id = 1, .bulk_bytes = 1, .address = 1}}) {
    ExpectLosesItsEndpoint("a server's frame", [&] {
      ConnectAndProve();
      peer_->SendRaw(endpoint_, std::string(AsText(EncodeFrame(frame))), "",
                     UCP_AM_SEND_FLAG_REPLY | UCP_AM_SEND_FLAG_EAGER);
    });
  }
}

TEST_F(UcxSameHostClientTest, WhatAClientLeavesUnreadIsBounded) {
  constexpr size_t kParts = 200;
  ConnectAndProve();
  uint64_t call_id = 0;
  while (server_->statistics().refused_requests == 0 && last().status == absl::StatusCode::kOk) {
    ASSERT_LT(++call_id, 2 * kMaxUnsentBytes / kParts / Endpoint::SendCost(0));
    Ask(call_id, kParts);
  }
  EXPECT_EQ(last().status, absl::StatusCode::kResourceExhausted);
  EXPECT_LE(static_cast<size_t>(Kept()), kMaxUnsentBytes / Endpoint::SendCost(0) + kParts);
  EXPECT_EQ(peer_->lost(), 0u);
}

}  // namespace
}  // namespace reprise::transport
