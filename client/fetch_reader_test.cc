// FetchReader fed by hand: what it takes, what it refuses and why, and that nothing unverified
// reaches the sink.

#include "client/fetch_reader.h"

#include <numeric>
#include <random>

#include <gtest/gtest.h>

#include "client/sample_tensors.h"
#include "codec/codec.h"
#include "proto/reprise.pb.h"

namespace reprise::client {
namespace {

struct Recorder final : PieceSink {
  absl::Status TakeMeta(uint32_t, const PieceMeta&, ByteSpan, uint32_t) override { return refuse; }
  absl::Status TakeSegment(uint32_t, const PieceMeta& meta, uint32_t index,
                           ByteSpan bytes) override {
    EXPECT_TRUE(meta.VerifySegment(index, bytes).ok());
    segments.push_back(index);
    return absl::OkStatus();
  }
  absl::Status TakeEnd(uint32_t piece, const PieceMeta&, uint32_t) override {
    if (refuse_end.ok()) ended.push_back(piece);
    return refuse_end;
  }
  void TakeMiss(uint32_t piece, const PieceMiss& miss) override {
    missed.push_back(piece);
    misses.push_back(miss);
  }

  absl::Status refuse;
  absl::Status refuse_end;
  std::vector<uint32_t> segments;
  std::vector<uint32_t> ended;
  std::vector<uint32_t> missed;
  std::vector<PieceMiss> misses;
};

struct SentPart {
  v1::FetchPart message;
  std::vector<std::byte> bulk;
};

class FetchReaderTest : public ::testing::Test {
 protected:
  FetchReaderTest()
      : keys_(SampleKeys(AttentionNamespace(), 1)),
        tensors_(AttentionNamespace(), 0, 1, Layout::kContiguous) {
    tensors_.Fill(1);
    for (uint32_t slot = 0; slot < 2; ++slot) {
      const PieceSlot& place = keys_.slots()[slot];
      const GroupViews views = tensors_.views()[0];
      const auto part = [&](const TensorView& view) {
        return view.Sub(place.layer_begin, place.layer_end, 0, 16, place.head_begin,
                        place.head_end);
      };
      containers_.push_back(EncodePiece(keys_.name_space(),
                                        {.key = keys_.key(0, slot),
                                         .namespace_fingerprint = keys_.fingerprint(),
                                         .slot = place,
                                         .token_begin = 0},
                                        part(views.key), part(views.value))
                                .value());
      metas_.push_back(PieceMeta::Parse(containers_.back()).value());
      expected_.push_back({.key = keys_.key(0, slot),
                           .content_id = metas_.back().header().content_id,
                           .fingerprint = keys_.fingerprint(),
                           .slot = place,
                           .token_begin = 0});
      AddParts(slot);
    }
  }

  // An opening, then the piece's segments in two parts.
  void AddParts(uint32_t piece) {
    const uint32_t count = static_cast<uint32_t>(metas_[piece].segments().size());
    AddParts(piece, {SegmentRun{0, 1}, SegmentRun{1, count - 1}});
  }
  void AddParts(uint32_t piece, const std::vector<SegmentRun>& runs) {
    const PieceMeta& meta = metas_[piece];
    SentPart opening;
    opening.message.set_piece(piece);
    opening.message.mutable_opening()->set_meta(
        std::string(AsText(ByteSpan(containers_[piece]).first(meta.meta_bytes()))));
    opening.message.mutable_opening()->set_content_id(
        std::string(meta.header().content_id.digest.AsString()));
    parts_.push_back(opening);
    for (const SegmentRun& run : runs) {
      SentPart part;
      part.message.set_piece(piece);
      v1::PieceSegments::Run& announced = *part.message.mutable_segments()->add_runs();
      announced.set_first(run.first);
      announced.set_count(run.count);
      const ByteRange range = meta.RangeOf(run);
      const ByteSpan bytes =
          ByteSpan(containers_[piece]).subspan(meta.meta_bytes() + range.offset, range.length);
      part.bulk.assign(bytes.begin(), bytes.end());
      parts_.push_back(part);
    }
  }

  // Feeds parts_ and ends with `status`.
  void Feed(const absl::Status& status = absl::OkStatus(), uint32_t first = 0) {
    std::vector<uint32_t> asked(expected_.size() - first);
    std::iota(asked.begin(), asked.end(), first);
    FetchReader reader(expected_, asked, sink_);
    for (const SentPart& part : parts_) {
      reader.Take(part.message.SerializeAsString(), part.bulk);
      while (reader.Step()) {
      }
    }
    reader.End(status);
    EXPECT_TRUE(reader.done());
    EXPECT_EQ(sink_.ended.size() + sink_.missed.size(), expected_.size() - first);
  }
  // Why the first piece that missed did, of a sink that is new to it.
  MissReason FailureOf(const absl::Status& status = absl::OkStatus()) {
    Recorder fresh;
    fresh.refuse = sink_.refuse;
    fresh.refuse_end = sink_.refuse_end;
    sink_ = std::move(fresh);
    Feed(status);
    EXPECT_FALSE(sink_.misses.empty());
    return sink_.misses.empty() ? MissReason::kAbsent : sink_.misses[0].reason;
  }

  const PrefixKeys keys_;
  SampleTensors tensors_;
  std::vector<std::vector<std::byte>> containers_;
  std::vector<PieceMeta> metas_;
  std::vector<ExpectedPiece> expected_;
  std::vector<SentPart> parts_;
  Recorder sink_;
};

TEST_F(FetchReaderTest, TakesWholePiecesInOrder) {
  Feed();
  EXPECT_TRUE(sink_.misses.empty());
  EXPECT_EQ(sink_.ended, (std::vector<uint32_t>{0, 1}));
  EXPECT_EQ(sink_.segments.size(), metas_[0].segments().size() + metas_[1].segments().size());
}

TEST_F(FetchReaderTest, IndicesOnTheWireCountFromTheFirstAsked) {
  expected_.insert(expected_.begin(), ExpectedPiece{});
  Feed(absl::OkStatus(), 1);
  EXPECT_EQ(sink_.ended, (std::vector<uint32_t>{1, 2}));
}

TEST_F(FetchReaderTest, AFetchThatEndsEarlySaysWhy) {
  parts_.pop_back();
  EXPECT_EQ(FailureOf(), MissReason::kTruncated);
  EXPECT_EQ(FailureOf(absl::UnavailableError("gone")), MissReason::kPeerLost);
  EXPECT_EQ(FailureOf(absl::DeadlineExceededError("late")), MissReason::kDeadline);
  EXPECT_EQ(FailureOf(absl::InternalError("defect")), MissReason::kPeerLost);
  EXPECT_EQ(FailureOf(absl::InvalidArgumentError("refused")), MissReason::kRefused);
  EXPECT_EQ(FailureOf(absl::ResourceExhaustedError("busy")), MissReason::kRefused);
  EXPECT_EQ(sink_.ended, (std::vector<uint32_t>{0}));
}

TEST_F(FetchReaderTest, ALatePieceOfStatusAfterTheLastPartDoesNotMatter) {
  Feed(absl::UnavailableError("gone"));
  EXPECT_TRUE(sink_.misses.empty());
}

TEST_F(FetchReaderTest, MissesOfTheStoreAreNamed) {
  for (const auto& [wire, reason] :
       {std::pair(v1::ABSENT, MissReason::kAbsent),
        std::pair(v1::OTHER_CONTENT, MissReason::kOtherContent),
        std::pair(static_cast<v1::MissReason>(99), MissReason::kAbsent)}) {
    parts_.resize(4);
    parts_[3].message.set_piece(1);
    parts_[3].message.set_miss(wire);
    parts_[3].bulk.clear();
    EXPECT_EQ(FailureOf(), reason);
    EXPECT_EQ(sink_.missed, (std::vector<uint32_t>{1}));
    EXPECT_FALSE(sink_.misses[0].damaged);  // the store knows
  }
}

TEST_F(FetchReaderTest, WhatWasNotAskedForIsRefused) {
  const std::vector<ExpectedPiece> asked = expected_;
  expected_[0].key = keys_.key(0, 1);
  EXPECT_EQ(FailureOf(), MissReason::kCorrupt);
  expected_ = asked;
  expected_[0].fingerprint = Digest{};
  EXPECT_EQ(FailureOf(), MissReason::kOtherNamespace);
  expected_ = asked;
  expected_[0].content_id = ContentId{};
  EXPECT_EQ(FailureOf(), MissReason::kOtherContent);
  expected_ = asked;
  expected_[0].slot = keys_.slots()[1];
  EXPECT_EQ(FailureOf(), MissReason::kCorrupt);
  expected_ = asked;
  expected_[0].token_begin = 16;
  EXPECT_EQ(FailureOf(), MissReason::kCorrupt);
  EXPECT_EQ(sink_.segments.size(), metas_[1].segments().size());  // of the other piece
}

// Sound bytes that this build or this destination cannot take are no reason to check the store.
TEST_F(FetchReaderTest, TheSinksRefusalIsAMissAndNoDamage) {
  sink_.refuse = absl::UnimplementedError("no such codec");
  EXPECT_EQ(FailureOf(), MissReason::kUnknownFormat);
  EXPECT_FALSE(sink_.misses[0].damaged);
  sink_.refuse = absl::InvalidArgumentError("another shape");
  EXPECT_EQ(FailureOf(), MissReason::kOtherNamespace);
  EXPECT_FALSE(sink_.misses[0].damaged);
  sink_.refuse = absl::OkStatus();
  sink_.refuse_end = absl::DataLossError("does not decode");
  EXPECT_EQ(FailureOf(), MissReason::kCorrupt);
  EXPECT_FALSE(sink_.misses[0].damaged);
}

TEST_F(FetchReaderTest, AnUnknownVersionIsNoDamage) {
  std::string& meta = *parts_[0].message.mutable_opening()->mutable_meta();
  std::vector<size_t> versions;
  for (size_t at = 0; at < 16; ++at) {
    meta[at] ^= 2;
    if (FailureOf() == MissReason::kUnknownFormat) {
      versions.push_back(at);
      EXPECT_FALSE(sink_.misses[0].damaged);
    } else {
      EXPECT_TRUE(sink_.misses[0].damaged);
    }
    meta[at] ^= 2;
  }
  EXPECT_EQ(versions.size(), 2u);
}

TEST_F(FetchReaderTest, AMissOfOnePieceLeavesTheOthersAlone) {
  // Damage in the first piece's first segment; its second part, and the second piece, still come.
  parts_[1].bulk[0] ^= std::byte{1};
  EXPECT_EQ(FailureOf(), MissReason::kCorrupt);
  EXPECT_TRUE(sink_.misses[0].damaged);
  EXPECT_EQ(sink_.missed, (std::vector<uint32_t>{0}));
  EXPECT_EQ(sink_.ended, (std::vector<uint32_t>{1}));
  EXPECT_EQ(sink_.segments.size(), metas_[1].segments().size());
}

TEST_F(FetchReaderTest, OnlyTheAskedLayersAreDue) {
  for (ExpectedPiece& piece : expected_) {
    piece.layer_begin = 1;
    piece.layer_end = 2;
  }
  const std::vector<SegmentRun> due = metas_[0].Resolve(1, 2, 0).value();
  ASSERT_EQ(due.size(), 1u);
  EXPECT_EQ(FailureOf(), MissReason::kTruncated);  // all layers come, from the first on
  parts_.clear();
  for (uint32_t piece = 0; piece < 2; ++piece) AddParts(piece, due);
  sink_ = Recorder{};
  Feed();
  EXPECT_EQ(sink_.ended, (std::vector<uint32_t>{0, 1}));
  EXPECT_EQ(sink_.segments.size(), 2 * due[0].count);
}

TEST_F(FetchReaderTest, ALevelThatDoesNotExistIsRefused) {
  parts_[0].message.mutable_opening()->set_level(1);
  EXPECT_EQ(FailureOf(), MissReason::kCorrupt);
}

TEST_F(FetchReaderTest, AnotherContentIdBesideTheHeaderIsRefused) {
  parts_[0].message.mutable_opening()->set_content_id(std::string(32, 'x'));
  EXPECT_EQ(FailureOf(), MissReason::kCorrupt);
}

TEST_F(FetchReaderTest, PartsOutOfOrderAreRefused) {
  std::swap(parts_[1], parts_[2]);
  EXPECT_EQ(FailureOf(), MissReason::kTruncated);
  EXPECT_EQ(sink_.ended, (std::vector<uint32_t>{1}));
  EXPECT_EQ(sink_.segments.size(), metas_[1].segments().size());
  std::swap(parts_[1], parts_[2]);
  std::swap(parts_[0], parts_[1]);
  EXPECT_EQ(FailureOf(), MissReason::kTruncated);
  std::swap(parts_[0], parts_[1]);
  std::rotate(parts_.begin(), parts_.begin() + 3, parts_.end());
  EXPECT_EQ(FailureOf(), MissReason::kTruncated);
  EXPECT_TRUE(sink_.segments.empty());
}

TEST_F(FetchReaderTest, ARepeatedPartIsRefused) {
  parts_.insert(parts_.begin() + 1, parts_[1]);
  EXPECT_EQ(FailureOf(), MissReason::kTruncated);
  parts_.erase(parts_.begin() + 1);
  parts_.insert(parts_.begin(), parts_[0]);
  EXPECT_EQ(FailureOf(), MissReason::kCorrupt);
}

TEST_F(FetchReaderTest, BulkOfAnotherLengthIsRefused) {
  parts_[2].bulk.pop_back();
  EXPECT_EQ(FailureOf(), MissReason::kTruncated);
  parts_[2].bulk.resize(parts_[2].bulk.size() + 2);
  EXPECT_EQ(FailureOf(), MissReason::kCorrupt);
}

TEST_F(FetchReaderTest, RunsBeyondTheDirectoryAreRefused) {
  for (const auto& [first, count] :
       {std::pair(0u, 0u), std::pair(0u, 1000u), std::pair(1u, 0xFFFFFFFFu),
        std::pair(0xFFFFFFFFu, 1u), std::pair(0u, 0xFFFFFFFFu)}) {
    v1::PieceSegments::Run& run = *parts_[1].message.mutable_segments()->mutable_runs(0);
    run.set_first(first);
    run.set_count(count);
    EXPECT_EQ(FailureOf(), MissReason::kTruncated) << first << " + " << count;
  }
}

TEST_F(FetchReaderTest, GarbageEndsTheFetch) {
  const std::vector<uint32_t> asked = {0, 1};
  FetchReader reader(expected_, asked, sink_);
  reader.Take("\xff\xff\xff garbage", {});
  EXPECT_TRUE(reader.done() && reader.broken());
  ASSERT_EQ(sink_.missed, (std::vector<uint32_t>{0, 1}));
  EXPECT_EQ(sink_.misses[0].reason, MissReason::kCorrupt);
  EXPECT_FALSE(sink_.misses[0].damaged);  // on the way, or the store has lost its mind
}

TEST_F(FetchReaderTest, AnyFlippedBitOfAPieceEndsItBeforeItIsComplete) {
  std::mt19937 random(3);
  const std::vector<SentPart> sent = parts_;
  for (int i = 0; i < 5'000; ++i) {
    parts_ = sent;
    SentPart& part = parts_[random() % parts_.size()];
    if (part.bulk.empty()) {
      std::string& meta = *part.message.mutable_opening()->mutable_meta();
      meta[random() % meta.size()] ^= static_cast<char>(1 << (random() % 8));
    } else {
      part.bulk[random() % part.bulk.size()] ^= std::byte{1} << (random() % 8);
    }
    const MissReason reason = FailureOf();
    ASSERT_TRUE(reason == MissReason::kCorrupt || reason == MissReason::kUnknownFormat);
    ASSERT_EQ(sink_.ended.size(), 1u);
    ASSERT_EQ(sink_.misses.size(), 1u);
    ASSERT_EQ(sink_.misses[0].damaged, reason == MissReason::kCorrupt);
  }
}

}  // namespace
}  // namespace reprise::client
