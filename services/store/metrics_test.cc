#include "services/store/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace reprise::store {
namespace {

using ::testing::HasSubstr;

TEST(Metrics, EverySeriesExistsFromTheStart) {
  const std::string text = StoreMetrics().Render({});
  for (const char* line : {"reprise_store_pieces 0", "reprise_store_corrupt_pieces_total 0",
                           "reprise_store_requests_total{code=\"OK\",method=\"Fetch\"} 0",
                           "reprise_store_requests_total{code=\"DATA_LOSS\",method=\"Publish\"} 0",
                           "reprise_store_bytes_out_total{carrier=\"ucx\"} 0",
                           "reprise_store_queue_seconds_count{class=\"fetch\"} 0",
                           "reprise_store_queue_seconds_count{class=\"publish\"} 0",
                           "reprise_store_published_pieces_total{result=\"rejected\"} 0"}) {
    EXPECT_THAT(text, HasSubstr(line));
  }
}

TEST(Metrics, CountsUnderTheRightLabels) {
  StoreMetrics metrics;
  metrics.CountRequest(3, absl::StatusCode::kOk, std::chrono::milliseconds(2));
  metrics.CountRequest(5, absl::StatusCode::kCancelled, std::chrono::seconds(2));
  metrics.CountRequest(60'000, absl::StatusCode::kUnimplemented, Duration::zero());
  metrics.CountLookup(7, 2);
  metrics.CountPublish(storage::CommitOutcome::kStored, 4096);
  metrics.CountPublish(storage::CommitOutcome::kAlreadyHeld, 0);
  metrics.Carrier("grpc").CountIn(17);
  LiveFigures live;
  live.usage.pieces = 3;
  live.usage.evicted_pieces = 5;
  live.sessions = 2;
  const std::string text = metrics.Render(live);
  for (const char* line :
       {"reprise_store_requests_total{code=\"OK\",method=\"Lookup\"} 1",
        "reprise_store_requests_total{code=\"CANCELLED\",method=\"Fetch\"} 1",
        "reprise_store_requests_total{code=\"UNIMPLEMENTED\",method=\"Unknown\"} 1",
        "reprise_store_request_seconds_bucket{method=\"Lookup\",le=\"0.001\"} 0",
        "reprise_store_request_seconds_bucket{method=\"Lookup\",le=\"0.003\"} 1",
        "reprise_store_lookup_pieces_total{result=\"hit\"} 7",
        "reprise_store_lookup_pieces_total{result=\"miss\"} 2",
        "reprise_store_published_pieces_total{result=\"stored\"} 1",
        "reprise_store_published_pieces_total{result=\"already_held\"} 1",
        "reprise_store_published_bytes_total 4096",
        "reprise_store_bytes_in_total{carrier=\"grpc\"} 17",
        "reprise_store_bytes_in_total{carrier=\"ucx\"} 0", "reprise_store_pieces 3",
        "reprise_store_evicted_pieces_total 5", "reprise_store_sessions 2"}) {
    EXPECT_THAT(text, HasSubstr(line));
  }
}

TEST(Metrics, ACarrierForTestsShowsOnlyWhereItIsUsed) {
  StoreMetrics metrics;
  EXPECT_EQ(metrics.Render({}).find("loopback"), std::string::npos);
  metrics.Carrier("loopback").CountIn(5);
  EXPECT_THAT(metrics.Render({}),
              HasSubstr("reprise_store_bytes_in_total{carrier=\"loopback\"} 5"));
}

TEST(Metrics, QueueDelayIsARecentMean) {
  StoreMetrics metrics;
  EXPECT_EQ(metrics.recent_queue_delay().count(), 0);
  for (int i = 0; i < 200; ++i)
    metrics.CountQueueDelay(WorkClass::kFetch, std::chrono::microseconds(800));
  EXPECT_NEAR(static_cast<double>(metrics.recent_queue_delay().count()), 800, 8);
  for (int i = 0; i < 200; ++i) metrics.CountQueueDelay(WorkClass::kFetch, Duration::zero());
  EXPECT_LE(metrics.recent_queue_delay().count(), 8);
  metrics.CountQueueDelay(WorkClass::kFetch, std::chrono::hours(24 * 365 * 100));
  EXPECT_GT(metrics.recent_queue_delay().count(), 1'000'000);
}

TEST(Metrics, PublishesThatWaitSayNothingAboutLookups) {
  StoreMetrics metrics;
  for (int i = 0; i < 200; ++i) {
    metrics.CountQueueDelay(WorkClass::kPublish, std::chrono::seconds(5));
    metrics.CountQueueDelay(WorkClass::kFetch, std::chrono::microseconds(100));
  }
  EXPECT_LE(metrics.recent_queue_delay().count(), 100);
  const std::string text = metrics.Render({});
  EXPECT_THAT(text, HasSubstr("reprise_store_queue_seconds_bucket{class=\"fetch\",le=\"1\"} 200"));
  EXPECT_THAT(text, HasSubstr("reprise_store_queue_seconds_bucket{class=\"publish\",le=\"1\"} 0"));
}

}  // namespace
}  // namespace reprise::store
