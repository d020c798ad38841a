// Uploads into the host tier: what is refused, with which words, and that nothing stays behind.

#include <algorithm>
#include <atomic>
#include <chrono>
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

  std::unique_ptr<Upload> Begin(ByteSpan container) {
    auto upload = store_->BeginUpload(kTenant, OfferOf(key_, container));
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
  const auto upload = Begin(container_);
  const size_t part = 1000;
  std::vector<size_t> offsets;
  for (size_t at = 0; at < container_.size(); at += part) offsets.push_back(at);
  std::shuffle(offsets.begin(), offsets.end(), std::mt19937(3));
  for (const size_t at : offsets) {
    EXPECT_EQ(store_->Find(kTenant, key_), nullptr);
    const size_t size = std::min(part, container_.size() - at);
    const auto complete = upload->Write(at, ByteSpan(container_).subspan(at, size));
    ASSERT_TRUE(complete.ok()) << complete.status();
    EXPECT_EQ(*complete, at == offsets.back());
  }
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
  const auto upload = Begin(container_);
  constexpr size_t kThreads = 4;
  std::atomic<int> last{0};
  std::vector<std::thread> threads;
  for (size_t id = 0; id < kThreads; ++id) {
    threads.emplace_back([&, id] {
      for (size_t at = id * 1000; at < container_.size(); at += kThreads * 1000) {
        const size_t size = std::min<size_t>(1000, container_.size() - at);
        const auto complete = upload->Write(at, ByteSpan(container_).subspan(at, size));
        EXPECT_TRUE(complete.ok()) << complete.status();
        last += complete.ok() && *complete ? 1 : 0;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(last.load(), 1) << "exactly one write is the last";
  ASSERT_TRUE(upload->Commit().ok());
  EXPECT_TRUE(Matches(*store_->Find(kTenant, key_), container_));
}

TEST_F(HostUploadTest, RefusesOverlapsAndBytesOutside) {
  const auto upload = Begin(container_);
  const std::vector<std::byte> garbage(container_.size() + 1, std::byte{0x55});
  EXPECT_EQ(upload->Write(0, garbage).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(upload->Write(UINT64_MAX, ByteSpan(garbage).first(1)).status().code(),
            absl::StatusCode::kInvalidArgument);
  const absl::Status outside =
      upload->Write(container_.size(), ByteSpan(garbage).first(1)).status();
  EXPECT_THAT(outside.message(), HasSubstr(std::to_string(container_.size())));
  EXPECT_THAT(outside.message(), HasSubstr(key_.digest.Hex()));
  ASSERT_TRUE(upload->Write(0, ByteSpan(container_).first(5000)).ok());
  EXPECT_EQ(upload->Write(4999, ByteSpan(garbage).first(1)).status().code(),
            absl::StatusCode::kInvalidArgument);
  ASSERT_TRUE(upload->Write(5000, ByteSpan(container_).subspan(5000)).ok());
  ASSERT_TRUE(upload->Commit().ok());
  EXPECT_TRUE(Matches(*store_->Find(kTenant, key_), container_)) << "a refused write left bytes";
  EXPECT_EQ(upload->Write(0, ByteSpan(garbage).first(1)).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(upload->Commit().status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(HostUploadTest, GapsKeepItFromBeingCommitted) {
  {
    const auto upload = Begin(container_);
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
  const std::vector<std::byte> noise(1 * kMiB);
  for (int i = 0; i < 100; ++i) {
    const auto upload = Begin(noise);
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
  UploadOffer offer = OfferOf(key_, container_);
  const auto refusal = [&](uint64_t total_bytes) {
    offer.total_bytes = total_bytes;
    return store_->BeginUpload(kTenant, offer).status();
  };
  EXPECT_EQ(refusal(0).code(), absl::StatusCode::kInvalidArgument);
  const absl::Status above = refusal(kLargest + 1);
  EXPECT_EQ(above.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(above.message(), HasSubstr(std::to_string(kLargest)));
  const absl::Status large = refusal(kLargest);
  EXPECT_EQ(large.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(large.message(), HasSubstr(std::to_string(kLargest) + " bytes is larger than the "));
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
  const auto first = Begin(container_);
  const auto second = Begin(other);
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

TEST_F(HostUploadTest, BetterContentReplacesAndOldReadersKeepTheirs) {
  const std::vector<std::byte> low = Build({.key = key_, .seed = 4, .distortion = 0.5f});
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

TEST_F(HostUploadTest, WhatIsHeldDecidesByDistortionAcrossContents) {
  const std::vector<std::byte> lossless = Build({.key = key_, .planes = 1, .seed = 1});
  const std::vector<std::byte> lossy =
      Build({.key = key_, .planes = 4, .seed = 2, .distortion = 0.01f});
  const std::vector<std::byte> same = Build({.key = key_, .planes = 4, .seed = 3});
  ASSERT_TRUE(Put(*store_, kTenant, key_, lossy).ok());
  EXPECT_EQ(*Put(*store_, kTenant, key_, lossless), CommitOutcome::kStored) << "fewer planes";
  EXPECT_EQ(*Put(*store_, kTenant, key_, lossy), CommitOutcome::kAlreadyHeld) << "more planes";
  EXPECT_EQ(*Put(*store_, kTenant, key_, same), CommitOutcome::kAlreadyHeld) << "no better";
  EXPECT_TRUE(Matches(*store_->Find(kTenant, key_), lossless));
}

TEST_F(HostUploadTest, AContainerMayEndWithAnyLevel) {
  for (uint32_t planes = 1; planes <= 3; ++planes) {
    const ByteSpan cut = CutTo(container_, planes);
    ASSERT_TRUE(Put(*store_, kTenant, key_, cut).ok());
    const PieceRef piece = store_->Find(kTenant, key_);
    EXPECT_TRUE(Matches(*piece, cut));
    EXPECT_EQ(piece->level(), planes - 1);
    const PieceSummary summary = *store_->Describe(kTenant, key_);
    EXPECT_EQ(summary.planes_held, planes);
    EXPECT_EQ(summary.level_count, 3u);
    EXPECT_EQ(summary.held_bytes(), cut.size());
    EXPECT_EQ(summary.levels()[2].bytes, container_.size());
    ASSERT_TRUE(store_->Remove(kTenant, key_, nullptr));
  }
  const size_t end = CutTo(container_, 2).size();
  for (const size_t size : {end - 1, end + 1}) {
    EXPECT_EQ(Refused(key_, ByteSpan(container_).first(size)).code(), absl::StatusCode::kDataLoss);
  }
}

TEST_F(HostUploadTest, MissingPlanesAloneCompleteAPiece) {
  const ByteSpan base = CutTo(container_, 1);
  ASSERT_TRUE(Put(*store_, kTenant, key_, base).ok());
  const PieceRef reader = store_->Find(kTenant, key_);
  {
    const auto upload = Begin(CutTo(container_, 2));
    ASSERT_EQ(upload->from_offset(), base.size());
    // What is there already cannot be written over.
    const std::byte garbage[2] = {};
    EXPECT_EQ(upload->Write(base.size() - 1, garbage).status().code(),
              absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(upload->Commit().status().code(), absl::StatusCode::kInvalidArgument);
    const auto complete = upload->Write(base.size(), CutTo(container_, 2).subspan(base.size()));
    ASSERT_TRUE(complete.ok()) << complete.status();
    EXPECT_TRUE(*complete);
    EXPECT_EQ(upload->Commit().value(), CommitOutcome::kStored);
  }
  EXPECT_TRUE(Matches(*store_->Find(kTenant, key_), CutTo(container_, 2)));
  EXPECT_TRUE(Matches(*reader, base));
  EXPECT_EQ(*Put(*store_, kTenant, key_, container_), CommitOutcome::kStored);
  EXPECT_TRUE(Matches(*store_->Find(kTenant, key_), container_));
  EXPECT_EQ(*Put(*store_, kTenant, key_, base), CommitOutcome::kAlreadyHeld);
  EXPECT_EQ(store_->usage().pieces, 1u);
}

TEST_F(HostUploadTest, AHeldPieceIsRestoredAndStaysHeld) {
  ASSERT_TRUE(Put(*store_, kTenant, key_, CutTo(container_, 1)).ok());
  ASSERT_TRUE(store_->Hold(kTenant, key_, 0, Deadline::After(std::chrono::seconds(50))));
  EXPECT_EQ(Put(*store_, kTenant, key_, container_).value(), CommitOutcome::kStored);
  EXPECT_GT(store_->usage().bytes_held, container_.size() - 1);
}

TEST_F(HostUploadTest, AnOfferThatContradictsTheHeldDirectoryIsRefused) {
  ASSERT_TRUE(Put(*store_, kTenant, key_, CutTo(container_, 1)).ok());
  const UploadOffer honest = OfferOf(key_, container_);
  for (const auto& [planes, bytes] :
       std::vector<std::pair<uint32_t, uint64_t>>{{4, honest.total_bytes},
                                                  {16, honest.total_bytes},
                                                  {2, honest.total_bytes},
                                                  {3, honest.total_bytes - 1},
                                                  {3, CutTo(container_, 1).size()},
                                                  {3, 1},
                                                  {3, 200 * kMiB},
                                                  {UINT32_MAX, honest.total_bytes}}) {
    UploadOffer offer = honest;
    offer.quality.planes = planes;
    offer.total_bytes = bytes;
    const absl::Status status = store_->BeginUpload(kTenant, offer).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status) || absl::IsResourceExhausted(status)) << status;
  }
  EXPECT_EQ(store_->usage().uploads, 0u);
  EXPECT_TRUE(Matches(*store_->Find(kTenant, key_), CutTo(container_, 1)));
}

TEST_F(HostUploadTest, WhatComesMustBeWhatWasOffered) {
  const UploadOffer honest = OfferOf(key_, container_);
  std::vector<UploadOffer> lies(5, honest);
  lies[0].quality.planes = 2;
  lies[1].quality.distortion.key = 0.5f;
  lies[2].quality.distortion.value = 0.5f;
  lies[3].quality.content_id.digest.bytes[0] ^= std::byte{1};
  lies[4].key = TestKey("other");
  for (const UploadOffer& lie : lies) {
    const absl::Status status = Put(*store_, kTenant, lie, container_).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
  }
  EXPECT_EQ(store_->usage().pieces, 0u);
  EXPECT_EQ(store_->usage().bytes_used, 0u);
}

TEST_F(HostUploadTest, HeldBytesThatWereDamagedDoNotBlockTheKey) {
  ASSERT_TRUE(Put(*store_, kTenant, key_, CutTo(container_, 1)).ok());
  const ByteSpan body = store_->Find(kTenant, key_)->body();
  store_->arena()[static_cast<size_t>(body.data() - store_->arena().data())] ^= std::byte{1};
  EXPECT_EQ(Put(*store_, kTenant, key_, container_).status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(store_->Find(kTenant, key_), nullptr) << "it could never be completed";
  EXPECT_EQ(*Put(*store_, kTenant, key_, container_), CommitOutcome::kStored);
  EXPECT_TRUE(Matches(*store_->Find(kTenant, key_), container_));
}

TEST_F(HostUploadTest, BadMissingPlanesLeaveTheHeldOnes) {
  const ByteSpan base = CutTo(container_, 1);
  ASSERT_TRUE(Put(*store_, kTenant, key_, base).ok());
  std::vector<std::byte> damaged = container_;
  damaged.back() ^= std::byte{1};
  EXPECT_EQ(Put(*store_, kTenant, OfferOf(key_, container_), damaged).status().code(),
            absl::StatusCode::kDataLoss);
  EXPECT_TRUE(Matches(*store_->Find(kTenant, key_), base));
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
