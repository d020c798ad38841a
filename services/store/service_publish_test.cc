#include <cmath>
#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "services/store/service_fixture.h"

namespace reprise::store {
namespace {

using ::testing::HasSubstr;

// Of a container that nobody has the bytes of.
v1::PublishRequest FirstStep(const Key& key, uint64_t total_bytes) {
  v1::PublishRequest request = FirstStepOf(key, {});
  request.set_total_bytes(total_bytes);
  return request;
}

class PublishTest : public ServiceTest {
 protected:
  absl::Status Refusal(const v1::PublishRequest& request, size_t bulk_bytes = 16) {
    return Run(*channel_, v1::PUBLISH, request.SerializeAsString(),
               SharedBytes::CopyOf(std::vector<std::byte>(bulk_bytes)))
        .status;
  }

  void SetUp() override {
    ServiceTest::SetUp();
    channel_ = Connect();
  }

  std::unique_ptr<transport::Channel> channel_;
};

TEST_F(PublishTest, StepsMayComeInAnyOrder) {
  const Key key = KeyNumber(1);
  const std::vector<std::byte> container = MakeContainer(key, {.layers = 4});
  const ByteSpan bytes(container);
  v1::PublishRequest request = FirstStepOf(key, container);
  request.set_offset(5000);
  auto reply = Ask<v1::PublishReply>(*channel_, v1::PUBLISH, request,
                                     SharedBytes::CopyOf(bytes.subspan(5000)));
  EXPECT_EQ(reply.outcome(), v1::PublishReply::IN_PROGRESS);
  EXPECT_TRUE(HasMetric("reprise_store_uploads 1"));
  EXPECT_EQ(pieces_->Peek(1, key), nullptr);
  request.set_upload_id(reply.upload_id());
  request.set_offset(100);
  reply = Ask<v1::PublishReply>(*channel_, v1::PUBLISH, request,
                                SharedBytes::CopyOf(bytes.subspan(100, 4900)));
  EXPECT_EQ(reply.outcome(), v1::PublishReply::IN_PROGRESS);
  request.set_offset(0);
  reply =
      Ask<v1::PublishReply>(*channel_, v1::PUBLISH, request, SharedBytes::CopyOf(bytes.first(100)));
  EXPECT_EQ(reply.outcome(), v1::PublishReply::STORED);
  ASSERT_NE(pieces_->Peek(1, key), nullptr);
  EXPECT_TRUE(HasMetric("reprise_store_uploads 0"));
  EXPECT_TRUE(HasMetric("reprise_store_published_pieces_total{result=\"stored\"} 1"));
}

TEST_F(PublishTest, AHeldKeyIsAnsweredAtTheFirstStep) {
  const Key key = KeyNumber(1);
  Store(*channel_, key, {.seed = 1});
  const std::vector<std::byte> other = MakeContainer(key, {.seed = 2});
  const auto reply = Publish(*channel_, key, other, 100);
  ASSERT_TRUE(reply.ok()) << reply.status();
  EXPECT_EQ(reply->outcome(), v1::PublishReply::ALREADY_HELD);
  EXPECT_EQ(reply->upload_id(), 0u);
  EXPECT_TRUE(HasMetric("reprise_store_uploads 0"));
}

TEST_F(PublishTest, WhatIsHeldDecidesAtTheFirstStep) {
  const Key key = KeyNumber(1);
  const auto lossy = Store(*channel_, key, {.planes = 1, .seed = 1, .distortion = 0.1f});
  const auto outcome = [&](const std::vector<std::byte>& container) {
    const auto reply = Publish(*channel_, key, container);
    EXPECT_TRUE(reply.ok()) << reply.status();
    return reply.ok() ? reply->outcome() : v1::PublishReply::OUTCOME_UNSPECIFIED;
  };
  const auto worse = MakeContainer(key, {.planes = 4, .seed = 2, .distortion = 0.2f});
  EXPECT_EQ(outcome(worse), v1::PublishReply::ALREADY_HELD) << "more planes, but worse";
  EXPECT_EQ(outcome(lossy), v1::PublishReply::ALREADY_HELD);
  const auto lossless = MakeContainer(key, {.planes = 1, .seed = 3});
  EXPECT_EQ(outcome(lossless), v1::PublishReply::STORED) << "lossy must not stand for lossless";
  const auto more_planes = MakeContainer(key, {.planes = 4, .seed = 4});
  EXPECT_EQ(outcome(more_planes), v1::PublishReply::ALREADY_HELD) << "no better with four";
  EXPECT_EQ(pieces_->Describe(1, key)->content_id, PieceMeta::Parse(lossless)->header().content_id);
}

TEST_F(PublishTest, OnlyMissingPlanesAreSentToRestoreAPiece) {
  const Key key = KeyNumber(1);
  const auto whole = MakeContainer(key, {.planes = 4, .layers = 2, .segment_bytes = 50'000});
  const ByteSpan held = CutTo(whole, 1);
  ASSERT_EQ(Publish(*channel_, key, held)->outcome(), v1::PublishReply::STORED);
  // To level 2, in a first step without bytes and one with those that are missing.
  const ByteSpan wanted = CutTo(whole, 3);
  v1::PublishRequest request = FirstStepOf(key, wanted);
  auto reply = Ask<v1::PublishReply>(*channel_, v1::PUBLISH, request);
  EXPECT_EQ(reply.outcome(), v1::PublishReply::IN_PROGRESS);
  ASSERT_EQ(reply.from_offset(), held.size());
  request.set_upload_id(reply.upload_id());
  request.set_offset(reply.from_offset());
  reply = Ask<v1::PublishReply>(*channel_, v1::PUBLISH, request,
                                SharedBytes::CopyOf(wanted.subspan(held.size())));
  EXPECT_EQ(reply.outcome(), v1::PublishReply::STORED);
  EXPECT_EQ(pieces_->Describe(1, key)->planes_held, 3u);
  // To the last, by a client that did not know and sent from the start: its bulk is dropped.
  const auto last = Publish(*channel_, key, whole, 7000);
  ASSERT_TRUE(last.ok()) << last.status();
  EXPECT_EQ(last->outcome(), v1::PublishReply::STORED);
  const storage::PieceRef piece = pieces_->Peek(1, key);
  EXPECT_EQ(piece->level(), 3u);
  EXPECT_TRUE(piece->meta().VerifyBody(piece->body(), 3).ok());
  EXPECT_EQ(Publish(*channel_, key, wanted)->outcome(), v1::PublishReply::ALREADY_HELD);
}

TEST_F(PublishTest, HostileRestoresAreRefusedAndHarmNothing) {
  const Key key = KeyNumber(1);
  const auto whole = MakeContainer(key, {.planes = 3});
  ASSERT_EQ(Publish(*channel_, key, CutTo(whole, 1))->outcome(), v1::PublishReply::STORED);
  const v1::PublishRequest honest = FirstStepOf(key, whole);
  for (const uint64_t total : {uint64_t{1}, CutTo(whole, 1).size(), CutTo(whole, 2).size(),
                               whole.size() - 1, whole.size() + 1, size_t{1 * kMiB}}) {
    v1::PublishRequest request = honest;
    request.set_total_bytes(total);
    EXPECT_EQ(Refusal(request, 0).code(), absl::StatusCode::kInvalidArgument) << total;
  }
  for (const uint32_t planes : {2u, 4u, 16u}) {
    v1::PublishRequest request = honest;
    request.set_planes(planes);
    EXPECT_EQ(Refusal(request, 0).code(), absl::StatusCode::kInvalidArgument) << planes;
  }
  // Once begun, bytes that the store has cannot be written over.
  v1::PublishRequest request = honest;
  request.set_upload_id(Ask<v1::PublishReply>(*channel_, v1::PUBLISH, request).upload_id());
  request.set_offset(CutTo(whole, 1).size() - 1);
  EXPECT_EQ(Refusal(request, 2).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(HasMetric("reprise_store_uploads 0"));
  EXPECT_EQ(pieces_->Describe(1, key)->planes_held, 1u);
}

TEST_F(PublishTest, OnlyContainersAtFaultCountAsRejected) {
  const Key key = KeyNumber(1);
  Store(*channel_, key, {.seed = 1, .distortion = 0.5f});
  ASSERT_TRUE(pieces_->Hold(1, key, 0, Deadline::After(std::chrono::seconds(50))));
  // A hold keeps other content under the key: refused, but not for what it is.
  EXPECT_EQ(Publish(*channel_, key, MakeContainer(key, {.seed = 2})).status().code(),
            absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE(HasMetric("reprise_store_published_pieces_total{result=\"rejected\"} 0"));
  EXPECT_TRUE(HasMetric("reprise_store_refused_uploads_total 1"));
}

TEST_F(PublishTest, DamagedContainersAreRefusedAndCounted) {
  const Key key = KeyNumber(1);
  const std::vector<std::byte> good = MakeContainer(key, {});
  int damaged = 0;
  for (const size_t at : {size_t{0}, size_t{40}, size_t{4095}, good.size() - 1}) {
    std::vector<std::byte> bad = good;
    bad[at] ^= std::byte{1};
    const absl::Status status = Publish(*channel_, key, bad).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << at << ": " << status;
    ++damaged;
  }
  EXPECT_EQ(Publish(*channel_, KeyNumber(2), good).status().code(), absl::StatusCode::kDataLoss);
  EXPECT_TRUE(HasMetric("reprise_store_published_pieces_total{result=\"rejected\"} " +
                        std::to_string(damaged + 1)));
  EXPECT_TRUE(HasMetric("reprise_store_pieces 0"));
  EXPECT_TRUE(HasMetric("reprise_store_bytes_used 0"));
}

TEST_F(PublishTest, HostileStepsAreRefused) {
  const Key key = KeyNumber(1);
  v1::PublishRequest request = FirstStep(key, 100);
  EXPECT_EQ(Run(*channel_, v1::PUBLISH, "\xff\xff\xff").status.code(),
            absl::StatusCode::kInvalidArgument);

  for (const std::string& bad : {std::string(), std::string(31, 'k'), std::string(33, 'k')}) {
    request.set_key(bad);
    EXPECT_EQ(Refusal(request).code(), absl::StatusCode::kInvalidArgument);
  }
  request = FirstStep(key, 100);
  request.set_parent("short");
  EXPECT_EQ(Refusal(request).code(), absl::StatusCode::kInvalidArgument);

  for (const uint64_t total : {uint64_t{0}, uint64_t{260} * kMiB + 1, UINT64_MAX}) {
    EXPECT_EQ(Refusal(FirstStep(key, total)).code(), absl::StatusCode::kInvalidArgument) << total;
  }
  for (const uint64_t offset : {uint64_t{85}, uint64_t{101}, UINT64_MAX - 8}) {
    request = FirstStep(key, 100);
    request.set_offset(offset);
    EXPECT_EQ(Refusal(request).code(), absl::StatusCode::kInvalidArgument) << offset;
  }
  for (const std::string& content : {std::string(), std::string(31, 'c'), std::string(33, 'c')}) {
    request = FirstStep(key, 100);
    request.set_content_id(content);
    EXPECT_EQ(Refusal(request).code(), absl::StatusCode::kInvalidArgument);
  }
  for (const uint32_t planes : {0u, kMaxPlanes + 1, UINT32_MAX}) {
    request = FirstStep(key, 100);
    request.set_planes(planes);
    EXPECT_EQ(Refusal(request).code(), absl::StatusCode::kInvalidArgument) << planes;
  }
  for (const float distortion :
       {-0.5f, std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    request = FirstStep(key, 100);
    request.set_key_distortion(distortion);
    EXPECT_EQ(Refusal(request).code(), absl::StatusCode::kInvalidArgument) << distortion;
    request = FirstStep(key, 100);
    request.set_value_distortion(distortion);
    EXPECT_EQ(Refusal(request).code(), absl::StatusCode::kInvalidArgument) << distortion;
  }
  for (const double seconds :
       {-1.0, std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
    request = FirstStep(key, 100);
    request.set_recompute_seconds(seconds);
    EXPECT_EQ(Refusal(request).code(), absl::StatusCode::kInvalidArgument) << seconds;
  }
  request = FirstStep(key, 100);
  request.set_upload_id(77);
  EXPECT_THAT(std::string(Refusal(request).message()), HasSubstr("upload 77 is not under way"));
  EXPECT_TRUE(HasMetric("reprise_store_uploads 0"));
}

TEST_F(PublishTest, AnUploadEndsWithItsFirstBadStep) {
  const Key key = KeyNumber(1);
  v1::PublishRequest request = FirstStep(key, 100);
  const auto reply = Ask<v1::PublishReply>(*channel_, v1::PUBLISH, request,
                                           SharedBytes::CopyOf(std::vector<std::byte>(10)));
  request.set_upload_id(reply.upload_id());
  // Over bytes already written.
  request.set_offset(5);
  EXPECT_EQ(Refusal(request, 10).code(), absl::StatusCode::kInvalidArgument);
  request.set_offset(10);
  EXPECT_THAT(std::string(Refusal(request, 10).message()), HasSubstr("is not under way"));
  EXPECT_TRUE(HasMetric("reprise_store_uploads 0"));
}

TEST_F(PublishTest, AStepMustBelongToItsUpload) {
  const auto reply = Ask<v1::PublishReply>(*channel_, v1::PUBLISH, FirstStep(KeyNumber(1), 100),
                                           SharedBytes::CopyOf(std::vector<std::byte>(10)));
  v1::PublishRequest other = FirstStep(KeyNumber(2), 100);
  other.set_upload_id(reply.upload_id());
  other.set_offset(10);
  EXPECT_EQ(Refusal(other, 10).code(), absl::StatusCode::kInvalidArgument);
  // Another session's uploads do not exist here.
  v1::PublishRequest step = FirstStep(KeyNumber(1), 100);
  step.set_upload_id(reply.upload_id());
  step.set_offset(10);
  const auto stranger = Connect();
  EXPECT_EQ(Run(*stranger, v1::PUBLISH, step.SerializeAsString(),
                SharedBytes::CopyOf(std::vector<std::byte>(10)))
                .status.code(),
            absl::StatusCode::kInvalidArgument);
}

TEST_F(PublishTest, TooLargeForTheBudget) {
  const absl::Status status = Refusal(FirstStep(KeyNumber(1), 200 * kMiB));
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE(HasMetric("reprise_store_refused_uploads_total 1"));
  EXPECT_TRUE(
      HasMetric("reprise_store_requests_total{code=\"RESOURCE_EXHAUSTED\",method=\"Publish\"} 1"));
}

TEST_F(PublishTest, UploadsOfASessionAreBoundedAndDieWithIt) {
  for (uint32_t i = 0; i < 64; ++i) {
    Ask<v1::PublishReply>(*channel_, v1::PUBLISH, FirstStep(KeyNumber(i), 100),
                          SharedBytes::CopyOf(std::vector<std::byte>(10)));
  }
  EXPECT_EQ(Refusal(FirstStep(KeyNumber(64), 100)).code(), absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE(HasMetric("reprise_store_uploads 64"));
  channel_.reset();
  // The store has noticed once another session's request comes back: loopback delivers in order.
  const auto other = Connect();
  Store(*other, KeyNumber(100));
  EXPECT_TRUE(HasMetric("reprise_store_uploads 0"));
  EXPECT_TRUE(HasMetric("reprise_store_sessions 1"));
}

TEST_F(PublishTest, IdleUploadsAreSwept) {
  // Deadlines are real; the store's clock starts from the same moment and then stands.
  ManualClock clock(Clock::Steady().Now());
  channel_.reset();
  Start({}, 64 * kMiB, clock);
  channel_ = Connect();
  v1::PublishRequest request = FirstStep(KeyNumber(1), 100);
  Ask<v1::PublishReply>(*channel_, v1::PUBLISH, request,
                        SharedBytes::CopyOf(std::vector<std::byte>(10)));
  clock.Advance(std::chrono::seconds(29));
  service_->Sweep();
  EXPECT_TRUE(HasMetric("reprise_store_uploads 1"));
  clock.Advance(std::chrono::seconds(1));
  service_->Sweep();
  EXPECT_TRUE(HasMetric("reprise_store_uploads 0"));
}

}  // namespace
}  // namespace reprise::store
