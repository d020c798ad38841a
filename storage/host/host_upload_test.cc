// Uploads into the host tier: what is refused, with which words, and that nothing stays behind.

#include <algorithm>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/limits.h"
#include "storage/host/host_store.h"
#include "storage/host/written_ranges.h"
#include "storage/testing/test_piece.h"

namespace reprise::storage {
namespace {

using ::testing::HasSubstr;

constexpr TenantId kTenant = 1;

class HostUploadTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto store = HostStore::Create({.budget_bytes = 8 * kMiB});
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = *std::move(store);
  }

  std::unique_ptr<Upload> Begin(const Key& key, uint64_t total_bytes) {
    auto upload = store_->BeginUpload(kTenant, key, total_bytes, {});
    EXPECT_TRUE(upload.ok()) << upload.status();
    return upload.ok() ? *std::move(upload) : nullptr;
  }

  // Uploads `container` as `key`; it must be refused, and leave nothing.
  absl::Status Refused(const Key& key, ByteSpan container) {
    const absl::StatusOr<CommitOutcome> outcome = Put(*store_, kTenant, key, container);
    EXPECT_FALSE(outcome.ok());
    EXPECT_EQ(store_->Find(kTenant, key), nullptr);
    EXPECT_EQ(store_->usage().bytes_used, 0u);
    return outcome.status();
  }

  std::unique_ptr<HostStore> store_;
  const Key key_ = TestKey("piece");
  const std::vector<std::byte> container_ =
      Build({.key = key_, .plane_bytes = 20'000, .planes = 3, .layers = 2});
};

TEST_F(HostUploadTest, PartsInAnyOrderMakeThePiece) {
  const auto upload = Begin(key_, container_.size());
  const size_t part = 1000;
  std::vector<size_t> offsets;
  for (size_t at = 0; at < container_.size(); at += part) offsets.push_back(at);
  std::shuffle(offsets.begin(), offsets.end(), std::mt19937(3));
  for (const size_t at : offsets) {
    EXPECT_FALSE(upload->complete());
    EXPECT_EQ(store_->Find(kTenant, key_), nullptr);
    const size_t size = std::min(part, container_.size() - at);
    ASSERT_TRUE(upload->Write(at, ByteSpan(container_).subspan(at, size)).ok());
  }
  EXPECT_TRUE(upload->complete());
  EXPECT_EQ(store_->Find(kTenant, key_), nullptr) << "visible before it was verified";
  const auto outcome = upload->Commit();
  ASSERT_TRUE(outcome.ok()) << outcome.status();
  EXPECT_EQ(*outcome, CommitOutcome::kStored);
  const PieceRef piece = store_->Find(kTenant, key_);
  ASSERT_NE(piece, nullptr);
  EXPECT_TRUE(Matches(*piece, container_));
  EXPECT_EQ(piece->level(), 2u);
  EXPECT_EQ(piece->tier(), Tier::kHost);
}

TEST_F(HostUploadTest, WritersMayWorkSideBySide) {
  const auto upload = Begin(key_, container_.size());
  constexpr size_t kThreads = 4;
  std::vector<std::thread> threads;
  for (size_t id = 0; id < kThreads; ++id) {
    threads.emplace_back([&, id] {
      for (size_t at = id * 1000; at < container_.size(); at += kThreads * 1000) {
        const size_t size = std::min<size_t>(1000, container_.size() - at);
        EXPECT_TRUE(upload->Write(at, ByteSpan(container_).subspan(at, size)).ok());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  ASSERT_TRUE(upload->Commit().ok());
  EXPECT_TRUE(Matches(*store_->Find(kTenant, key_), container_));
}

TEST_F(HostUploadTest, RefusesOverlapsAndBytesOutside) {
  const auto upload = Begin(key_, container_.size());
  const std::vector<std::byte> garbage(container_.size() + 1, std::byte{0x55});
  EXPECT_EQ(upload->Write(0, garbage).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(upload->Write(UINT64_MAX, ByteSpan(garbage).first(1)).code(),
            absl::StatusCode::kInvalidArgument);
  const absl::Status outside = upload->Write(container_.size(), ByteSpan(garbage).first(1));
  EXPECT_THAT(outside.message(), HasSubstr(std::to_string(container_.size())));
  EXPECT_THAT(outside.message(), HasSubstr(key_.digest.Hex()));
  ASSERT_TRUE(upload->Write(0, ByteSpan(container_).first(5000)).ok());
  EXPECT_EQ(upload->Write(4999, ByteSpan(garbage).first(1)).code(),
            absl::StatusCode::kInvalidArgument);
  ASSERT_TRUE(upload->Write(5000, ByteSpan(container_).subspan(5000)).ok());
  ASSERT_TRUE(upload->Commit().ok());
  EXPECT_TRUE(Matches(*store_->Find(kTenant, key_), container_)) << "a refused write left bytes";
  EXPECT_EQ(upload->Write(0, ByteSpan(garbage).first(1)).code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(upload->Commit().status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(HostUploadTest, GapsKeepItFromBeingCommitted) {
  {
    const auto upload = Begin(key_, container_.size());
    ASSERT_TRUE(upload->Write(1, ByteSpan(container_).subspan(1)).ok());
    const absl::Status status = upload->Commit().status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(status.message(), HasSubstr(std::to_string(container_.size() - 1)));
    EXPECT_EQ(store_->Find(kTenant, key_), nullptr);
    // The gap may still be filled.
    ASSERT_TRUE(upload->Write(0, ByteSpan(container_).first(1)).ok());
    EXPECT_TRUE(upload->Commit().ok());
  }
  EXPECT_NE(store_->Find(kTenant, key_), nullptr);
}

TEST_F(HostUploadTest, AbandonedUploadsFreeTheirMemory) {
  for (int i = 0; i < 100; ++i) {
    const auto upload = Begin(key_, 1 * kMiB);
    ASSERT_NE(upload, nullptr);
    EXPECT_EQ(store_->usage().uploads, 1u);
    EXPECT_GE(store_->usage().bytes_used, 1 * kMiB);
    ASSERT_TRUE(upload->Write(17, ByteSpan(container_)).ok());
  }
  EXPECT_EQ(store_->usage().uploads, 0u);
  EXPECT_EQ(store_->usage().bytes_used, 0u);
}

TEST_F(HostUploadTest, RefusesSizesWithNumbers) {
  constexpr uint64_t kLargest = 260 * kMiB;  // 256 MiB of body, 4 MiB of header and directory
  EXPECT_EQ(store_->BeginUpload(kTenant, key_, 0, {}).status().code(),
            absl::StatusCode::kInvalidArgument);
  const absl::Status above = store_->BeginUpload(kTenant, key_, kLargest + 1, {}).status();
  EXPECT_EQ(above.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(above.message(), HasSubstr(std::to_string(kLargest)));
  const absl::Status large = store_->BeginUpload(kTenant, key_, kLargest, {}).status();
  EXPECT_EQ(large.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(large.message(), HasSubstr("budget of 8388608"));
  EXPECT_EQ(store_->usage().bytes_used, 0u);
  EXPECT_EQ(store_->usage().refused_uploads, 1u);
}

TEST_F(HostUploadTest, RefusesAContainerUnderAnotherKey) {
  const absl::Status status = Refused(TestKey("other"), container_);
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(status.message(), HasSubstr(key_.digest.Hex()));
}

TEST_F(HostUploadTest, RefusesEveryDamagedByte) {
  std::vector<std::byte> damaged = container_;
  std::mt19937 random(7);
  // All of the header, then some of the rest.
  for (size_t i = 0; i < 4000; ++i) {
    const size_t at = i < 1000 ? i : random() % damaged.size();
    const std::byte bit = std::byte{1} << (random() % 8);
    damaged[at] ^= bit;
    const absl::StatusCode code = Refused(key_, damaged).code();
    EXPECT_TRUE(code == absl::StatusCode::kDataLoss || code == absl::StatusCode::kUnimplemented)
        << at;
    damaged[at] ^= bit;
  }
}

TEST_F(HostUploadTest, RefusesEveryTruncationAndExtension) {
  for (const size_t size : {size_t{1}, size_t{15}, size_t{16}, size_t{4095}, size_t{4096},
                            size_t{4097}, container_.size() - 1}) {
    EXPECT_EQ(Refused(key_, ByteSpan(container_).first(size)).code(), absl::StatusCode::kDataLoss)
        << size;
  }
  std::vector<std::byte> longer = container_;
  longer.push_back(std::byte{0});
  EXPECT_EQ(Refused(key_, longer).code(), absl::StatusCode::kDataLoss);
  std::vector<std::byte> noise(10'000);
  std::mt19937 random(9);
  for (std::byte& byte : noise) byte = static_cast<std::byte>(random());
  EXPECT_EQ(Refused(key_, noise).code(), absl::StatusCode::kDataLoss);
}

TEST_F(HostUploadTest, TheFirstOfTwoUploadsOfAKeyWins) {
  const std::vector<std::byte> other =
      Build({.key = key_, .plane_bytes = 20'000, .planes = 3, .layers = 2, .seed = 2});
  const auto first = Begin(key_, container_.size());
  const auto second = Begin(key_, other.size());
  // Part by part in turn: the two never mix.
  for (size_t at = 0; at < container_.size(); at += 5000) {
    const size_t size = std::min<size_t>(5000, container_.size() - at);
    ASSERT_TRUE(first->Write(at, ByteSpan(container_).subspan(at, size)).ok());
    ASSERT_TRUE(second->Write(at, ByteSpan(other).subspan(at, size)).ok());
  }
  const auto second_outcome = second->Commit();
  const auto first_outcome = first->Commit();
  ASSERT_TRUE(first_outcome.ok() && second_outcome.ok());
  EXPECT_EQ(*second_outcome, CommitOutcome::kStored);
  EXPECT_EQ(*first_outcome, CommitOutcome::kAlreadyHeld);
  EXPECT_TRUE(Matches(*store_->Find(kTenant, key_), other));
}

TEST_F(HostUploadTest, HigherLevelsReplaceAndOldReadersKeepTheirs) {
  const std::vector<std::byte> low = Build({.key = key_, .planes = 1, .seed = 4});
  ASSERT_TRUE(Put(*store_, kTenant, key_, low).ok());
  PieceRef reader = store_->Find(kTenant, key_);
  const auto raised = Put(*store_, kTenant, key_, container_);
  ASSERT_TRUE(raised.ok());
  EXPECT_EQ(*raised, CommitOutcome::kStored);
  EXPECT_TRUE(Matches(*reader, low));
  EXPECT_TRUE(Matches(*store_->Find(kTenant, key_), container_));
  const StoreUsage during = store_->usage();
  EXPECT_EQ(during.pieces, 1u);
  EXPECT_GE(during.bytes_pinned, 2 * 4096u);
  reader.reset();
  EXPECT_EQ(store_->usage().bytes_pinned, 0u);
  EXPECT_EQ(store_->usage().bytes_used, during.bytes_used - during.bytes_pinned);
  const auto lowered = Put(*store_, kTenant, key_, low);
  ASSERT_TRUE(lowered.ok());
  EXPECT_EQ(*lowered, CommitOutcome::kAlreadyHeld);
  EXPECT_TRUE(Matches(*store_->Find(kTenant, key_), container_));
}

TEST_F(HostUploadTest, ADirectoryLargerThanItsShareOfTheBudgetIsRefused) {
  // 20,000 segments: a directory of 640 KB, where 8 MiB leave 256 KiB for all.
  const std::vector<std::byte> wide =
      Build({.key = key_, .plane_bytes = 20'000, .segment_bytes = 1});
  const absl::Status status = Refused(key_, wide);
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(status.message(), HasSubstr("header and directory"));
}

}  // namespace
}  // namespace reprise::storage
