// That whatever a store does is a miss with the right reason, and what the client does about it.

#include "chunk/container.h"
#include "client/client_fixture.h"
#include "proto/reprise.pb.h"

namespace reprise::client {
namespace {

class MissesTest : public ClientTest {};

TEST_F(MissesTest, AnOverloadedStoreIsAMissAndNoError) {
  const PrefixKeys keys = SampleKeys(AttentionNamespace(), 2);
  Publish(keys, 2, 1);
  Refuse(v1::LOOKUP, absl::ResourceExhaustedError("too many requests wait"));
  auto hit = client_->Lookup(keys, {}, Soon()).Wait();
  ASSERT_TRUE(hit.ok()) << hit.status();
  EXPECT_EQ(hit->chunks, 0u);
  ASSERT_TRUE(hit->miss.has_value());
  EXPECT_EQ(hit->miss->reason, MissReason::kRefused);
  EXPECT_EQ(hit->miss->detail, "too many requests wait");

  Refuse(v1::FETCH, absl::ResourceExhaustedError("too many requests wait"));
  SampleTensors loaded(keys.name_space(), 0, 2, Layout::kContiguous);
  auto result = client_->Load(keys, 0, 2, loaded.views(), {}, Soon()).Wait();
  ASSERT_TRUE(result.ok()) << result.status();
  ASSERT_EQ(result->misses.size(), 1u);
  EXPECT_EQ(result->misses[0].reason, MissReason::kRefused);
  auto piece = client_->FetchPiece(keys.key(0, 0), std::nullopt, 0, Soon()).Wait();
  ASSERT_TRUE(piece.ok() && piece->miss.has_value());
  EXPECT_EQ(piece->miss->reason, MissReason::kRefused);
  EXPECT_EQ(Misses(MissReason::kRefused), 3u);
  EXPECT_EQ(Misses(MissReason::kPeerLost), 0u);
}

TEST_F(MissesTest, WhatALookupLearnedBeforeItWasRefusedCounts) {
  Namespace name_space = AttentionNamespace();
  name_space.chunk_tokens = 1;
  const PrefixKeys keys = SampleKeys(name_space, 1030);  // 4,120 pieces: two batches
  PublishRaw(keys, 1030, 1);
  int lookups = 0;
  store_.set_intercept([&lookups](const transport::Request& request,
                                  std::unique_ptr<transport::Responder>& responder) {
    if (request.method != v1::LOOKUP || ++lookups == 1) return false;
    responder->Complete(absl::ResourceExhaustedError("enough"));
    return true;
  });
  auto hit = client_->Lookup(keys, {}, Soon()).Wait();
  ASSERT_TRUE(hit.ok());
  EXPECT_EQ(hit->chunks, 1024u);
  EXPECT_EQ(hit->pieces.size(), 4096u);
  ASSERT_TRUE(hit->miss.has_value());
  EXPECT_EQ(hit->miss->reason, MissReason::kRefused);
}

// More keys than one request takes, the later ones absent.
TEST_F(MissesTest, AHoldThatWasGrantedIsToldWhateverLaterKeysSay) {
  Namespace name_space = AttentionNamespace();
  name_space.chunk_tokens = 1;
  const PrefixKeys keys = SampleKeys(name_space, 1030);
  store_.set_max_hold(std::chrono::milliseconds(700));
  PublishRaw(keys, 1024, 1);  // exactly the first request's
  auto hit = client_->Lookup(keys, {.hold = std::chrono::seconds(1)}, Soon()).Wait();
  ASSERT_TRUE(hit.ok());
  EXPECT_EQ(hit->chunks, 1024u);
  EXPECT_EQ(hit->held, std::chrono::milliseconds(700));
  EXPECT_EQ(client_->Lookup(keys, {}, Soon()).Wait()->held, std::chrono::milliseconds(0));
}

// A piece of a codec that comes after this build's. The store holds it rightly, however often it is
// missed.
TEST_F(MissesTest, APieceThatThisBuildCannotReadIsNotReportedAsDamaged) {
  const PrefixKeys keys = SampleKeys(AttentionNamespace(), 1);
  PublishRaw(keys, 1, 1);
  const Key key = keys.key(0, 0);
  const PieceMeta raw = PieceMeta::Parse(store_.Container(key)).value();
  PieceHeader header = raw.header();
  header.codec_parameters.resize(3);  // raw knows none
  PieceLayout later = PieceLayout::Create(header, raw.segments()).value();
  std::vector<std::byte> container(later.total_bytes());
  later.Seal(container);
  store_.Put(key, container);
  // And one that is sound, but not of the shape that its namespace has.
  const PieceMeta second = PieceMeta::Parse(store_.Container(keys.key(0, 1))).value();
  header = second.header();
  header.key_dim -= 1;
  PieceLayout other = PieceLayout::Create(header, second.segments()).value();
  std::vector<std::byte> unfit(other.total_bytes());
  other.Seal(unfit);
  store_.Put(header.key, unfit);

  SampleTensors loaded(keys.name_space(), 0, 1, Layout::kContiguous);
  for (int i = 0; i < 3; ++i) {
    auto result = client_->Load(keys, 0, 1, loaded.views(), {}, Soon()).Wait();
    ASSERT_TRUE(result.ok());
    ASSERT_EQ(result->misses.size(), 1u);
    EXPECT_EQ(result->misses[0].reason, MissReason::kUnknownFormat);
  }
  store_.Erase(key);
  PublishRaw(keys, 1, 1);
  auto result = client_->Load(keys, 0, 1, loaded.views(), {}, Soon()).Wait();
  ASSERT_EQ(result->misses.size(), 1u);
  EXPECT_EQ(result->misses[0].reason, MissReason::kOtherNamespace);
  // A report would be on its way by now, and this comes after it.
  ASSERT_TRUE(client_->Stat(keys.key(0, 2), false, Soon()).Wait().ok());
  EXPECT_EQ(store_.requests(v1::STAT), 1);
}

}  // namespace
}  // namespace reprise::client
