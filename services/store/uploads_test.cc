#include "services/store/uploads.h"

#include <vector>

#include <gtest/gtest.h>

namespace reprise::store {
namespace {

using std::chrono::seconds;

// Counts the uploads alive, and remembers nothing but how much it was given.
class FakeUpload final : public storage::Upload {
 public:
  FakeUpload(uint64_t total, int& alive) : total_(total), alive_(alive) { ++alive_; }
  ~FakeUpload() override { --alive_; }
  uint64_t total_bytes() const override { return total_; }
  uint64_t from_offset() const override { return 0; }
  absl::StatusOr<bool> Write(uint64_t /*offset*/, ByteSpan bytes) override {
    return bytes.size() == total_;
  }
  absl::StatusOr<storage::CommitOutcome> Commit() override {
    return storage::CommitOutcome::kStored;
  }

 private:
  const uint64_t total_;
  int& alive_;
};

class UploadsTest : public ::testing::Test {
 protected:
  absl::StatusOr<UploadTable::Started> Begin(UploadTable& table, uint64_t bytes,
                                             TimePoint now = TimePoint{}) {
    return table.Begin({}, bytes, now, [&]() -> absl::StatusOr<std::unique_ptr<storage::Upload>> {
      return std::make_unique<FakeUpload>(bytes, alive_);
    });
  }

  int alive_ = 0;
};

TEST_F(UploadsTest, NumberAndBytesAreBounded) {
  UploadTable table({.max_uploads = 2, .max_bytes = 100});
  const uint64_t first = Begin(table, 60).value().id;
  EXPECT_EQ(Begin(table, 41).status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE(Begin(table, 40).ok());
  EXPECT_EQ(Begin(table, 0).status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(alive_, 2);
  table.Erase(first);
  EXPECT_EQ(alive_, 1);
  EXPECT_TRUE(Begin(table, 60).ok());
}

TEST_F(UploadsTest, ARefusedBeginLeavesNoReservation) {
  UploadTable table({.max_uploads = 1, .max_bytes = 100});
  for (int i = 0; i < 3; ++i) {
    const auto refused = table.Begin({}, 100, TimePoint{}, [] {
      return absl::StatusOr<std::unique_ptr<storage::Upload>>(absl::ResourceExhaustedError("full"));
    });
    EXPECT_EQ(refused.status().message(), "full");
  }
  EXPECT_TRUE(Begin(table, 100).ok());
}

TEST_F(UploadsTest, IdleUploadsAreDroppedAndBusyOnesKept) {
  UploadTable table({.idle = seconds(30)});
  const TimePoint start{};
  const uint64_t idle = Begin(table, 10, start).value().id;
  const uint64_t busy = Begin(table, 10, start).value().id;
  EXPECT_NE(table.Find(busy, start + seconds(20)), nullptr);
  EXPECT_EQ(table.DropIdle(start + seconds(29)), 0u);
  EXPECT_EQ(table.DropIdle(start + seconds(30)), 1u);
  EXPECT_EQ(alive_, 1);
  EXPECT_EQ(table.Find(idle, start + seconds(30)), nullptr);
  EXPECT_NE(table.Find(busy, start + seconds(30)), nullptr);
}

TEST_F(UploadsTest, CloseDropsEverythingButStepsUnderWay) {
  UploadTable table({});
  const auto started = Begin(table, 10).value();
  ASSERT_TRUE(Begin(table, 10).ok());
  table.Close();
  EXPECT_EQ(alive_, 1);
  EXPECT_EQ(started.upload->Write(0, std::vector<std::byte>(10)).value(), true);
  EXPECT_EQ(Begin(table, 10).status().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(alive_, 1);
}

}  // namespace
}  // namespace reprise::store
