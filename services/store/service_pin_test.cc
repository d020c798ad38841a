// Pin, Warm and times to live as messages, against a host tier.

#include <chrono>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "services/store/service_fixture.h"

namespace reprise::store {
namespace {

using std::chrono::seconds;
using ::testing::HasSubstr;

class PinTest : public ServiceTest {
 protected:
  void SetUp() override {
    Start({}, 8 * kMiB, clock_);
    channel_ = Connect();
  }
  static v1::PinRequest PinOf(const std::vector<uint32_t>& numbers, uint32_t ttl_s) {
    v1::PinRequest request;
    for (const uint32_t number : numbers) {
      request.add_keys(std::string(KeyNumber(number).digest.AsString()));
    }
    request.set_ttl_s(ttl_s);
    return request;
  }
  static v1::WarmRequest WarmOf(const std::vector<uint32_t>& numbers) {
    v1::WarmRequest request;
    for (const uint32_t number : numbers) {
      request.add_keys(std::string(KeyNumber(number).digest.AsString()));
    }
    request.set_level(kMaxPlanes - 1);
    return request;
  }
  uint64_t Pin(const std::vector<uint32_t>& numbers, uint32_t ttl_s) {
    return Ask<v1::PinReply>(*channel_, v1::PIN, PinOf(numbers, ttl_s)).pinned();
  }
  absl::Status Refusal(v1::Method method, const google::protobuf::MessageLite& request) {
    return Run(*channel_, method, request.SerializeAsString()).status;
  }

  ManualClock clock_;
  std::unique_ptr<transport::Channel> channel_;
};

TEST_F(PinTest, PinsWhatIsHeldAndUnpinsIt) {
  Store(*channel_, KeyNumber(1));
  Store(*channel_, KeyNumber(3));
  EXPECT_EQ(Pin({1, 2, 3}, 60), 2u);
  EXPECT_EQ(Pin({1, 2, 3}, 0), 2u);
  EXPECT_EQ(Pin({1, 2, 3}, 0), 0u);
  EXPECT_EQ(Pin({1}, 60), 1u);
  EXPECT_FALSE(HasMetric("reprise_store_bytes_under_pins 0"));
  clock_.Advance(seconds(60));
  EXPECT_TRUE(HasMetric("reprise_store_bytes_under_pins 0"));
}

TEST_F(PinTest, RefusesMoreThanADayAndMoreThanTheShare) {
  Store(*channel_, KeyNumber(1));
  const absl::Status long_pin = Refusal(v1::PIN, PinOf({1}, 86'401));
  EXPECT_EQ(long_pin.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(long_pin.message(), HasSubstr("at most 86400"));
  EXPECT_EQ(Refusal(v1::PIN, PinOf({}, 1)).code(), absl::StatusCode::kInvalidArgument);
  std::vector<uint32_t> numbers;
  for (uint32_t number = 10; number < 40; ++number) {
    Store(*channel_, KeyNumber(number), {.segment_bytes = 100'000});
    numbers.push_back(number);
  }
  const absl::Status refused = Refusal(v1::PIN, PinOf(numbers, 60));
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(refused.message(), HasSubstr("of 30 keys "));
  EXPECT_THAT(refused.message(), HasSubstr(" are pinned: "));
  EXPECT_THAT(refused.message(), HasSubstr("unpin some"));
}

TEST_F(PinTest, WarmCountsLeadingPieces) {
  for (const uint32_t number : {1u, 2u, 4u}) Store(*channel_, KeyNumber(number));
  const auto warm = [&](const std::vector<uint32_t>& numbers) {
    return Ask<v1::WarmReply>(*channel_, v1::WARM, WarmOf(numbers)).warm();
  };
  EXPECT_EQ(warm({1, 2}), 2u);
  EXPECT_EQ(warm({1, 2, 3, 4}), 2u);
  EXPECT_EQ(warm({3, 1}), 0u);
  EXPECT_EQ(Refusal(v1::WARM, WarmOf({})).code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(PinTest, ManyKeysAreEachPinnedOnce) {
  Start({}, 64 * kMiB, clock_);
  channel_ = Connect();
  std::vector<uint32_t> numbers;
  for (uint32_t number = 0; number < 1000; ++number) {
    if (number % 3 == 0) Store(*channel_, KeyNumber(number));
    numbers.push_back(number);
  }
  EXPECT_EQ(Pin(numbers, 60), 334u);
}

TEST_F(PinTest, APieceWithATimeToLiveIsAMissAfterwards) {
  const Key key = KeyNumber(1);
  const std::vector<std::byte> container = MakeContainer(key, {});
  v1::PublishRequest request = FirstStepOf(key, container);
  request.set_ttl_s(30);
  const auto reply =
      Ask<v1::PublishReply>(*channel_, v1::PUBLISH, request, SharedBytes::CopyOf(container));
  ASSERT_EQ(reply.outcome(), v1::PublishReply::STORED);
  v1::StatRequest stat;
  stat.set_key(std::string(key.digest.AsString()));
  clock_.Advance(seconds(29));
  EXPECT_NE(Ask<v1::StatReply>(*channel_, v1::STAT, stat).info().content_id(), "");
  clock_.Advance(seconds(1));
  EXPECT_EQ(Ask<v1::StatReply>(*channel_, v1::STAT, stat).info().content_id(), "");
}

TEST_F(PinTest, AQuotaOfADiskNeedsADisk) {
  const auto service = StoreService::Create(
      *pieces_, {.tenants = {{.name = "a", .credential = "c", .disk_quota_bytes = 1 << 30}}});
  EXPECT_EQ(service.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(service.status().message(), HasSubstr("give --disk"));
}

}  // namespace
}  // namespace reprise::store
