#include "client/fetch_reader.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

#include "proto/reprise.pb.h"

namespace reprise::client {
namespace {

// What a status of the store, the container parser or the codec means for a piece that was asked
// for.
MissReason ReasonOf(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kDeadlineExceeded:
      return MissReason::kDeadline;
    case absl::StatusCode::kDataLoss:
    case absl::StatusCode::kInvalidArgument:
      return MissReason::kCorrupt;
    case absl::StatusCode::kUnimplemented:
      return MissReason::kUnknownFormat;
    default:
      return MissReason::kPeerLost;
  }
}

}  // namespace

FetchReader::FetchReader(std::span<const ExpectedPiece> pieces, uint32_t first, uint32_t end,
                         PieceSink& sink)
    : pieces_(pieces),
      first_(first),
      end_(end),
      sink_(sink),
      part_(std::make_unique<v1::FetchPart>()),
      complete_(first) {}

FetchReader::~FetchReader() = default;

FetchReader::Failure FetchReader::Fail(MissReason reason, std::string detail) const {
  return {.piece = complete_, .reason = reason, .detail = std::move(detail)};
}

FetchReader::Failure FetchReader::FailWith(const absl::Status& status) const {
  return Fail(ReasonOf(status), std::string(status.message()));
}

std::optional<FetchReader::Failure> FetchReader::Consume(std::string_view message, ByteSpan bulk) {
  if (complete_ == end_)
    return std::nullopt;  // nothing more was asked for, so nothing more is read
  if (!part_->ParseFromArray(message.data(), static_cast<int>(message.size()))) {
    return Fail(MissReason::kCorrupt,
                absl::StrCat("a part of ", message.size(), " bytes cannot be parsed"));
  }
  if (part_->piece() != complete_ - first_) {
    return Fail(MissReason::kTruncated,
                absl::StrCat("piece ", part_->piece(), " of the fetch came before piece ",
                             complete_ - first_, " was complete"));
  }
  switch (part_->body_case()) {
    case v1::FetchPart::kOpening:
      return Open(part_->opening());
    case v1::FetchPart::kSegments:
      return Segments(part_->segments(), bulk);
    case v1::FetchPart::kMiss:
      break;
    case v1::FetchPart::BODY_NOT_SET:
      return Fail(MissReason::kCorrupt, "a part says neither opening, segments nor miss");
  }
  switch (part_->miss()) {
    case v1::ABSENT:
      return Fail(MissReason::kAbsent, "the store does not hold the key");
    case v1::OTHER_CONTENT:
      return Fail(MissReason::kOtherContent, "the store holds other content than was asked for");
    default:
      return Fail(
          MissReason::kAbsent,
          absl::StrCat("the store does not give the piece, for reason ",
                       static_cast<int>(part_->miss()), ", which this client does not know"));
  }
}

std::optional<FetchReader::Failure> FetchReader::Open(const v1::PieceOpening& opening) {
  if (meta_.has_value()) return Fail(MissReason::kCorrupt, "a second opening of the same piece");
  const ByteSpan meta_bytes = AsBytes(opening.meta());
  auto meta = PieceMeta::Parse(meta_bytes);
  if (!meta.ok()) return FailWith(meta.status());
  meta_ = *std::move(meta);
  if (auto failure = CheckIdentity(opening)) return failure;
  level_ = opening.level();
  auto due = meta_->Resolve(0, meta_->layer_count(), level_);
  if (!due.ok()) return FailWith(due.status());
  due_ = *std::move(due);
  due_run_ = 0;
  due_segments_ = 0;
  if (absl::Status fits =
          sink_.TakeMeta(complete_, *meta_, meta_bytes.first(meta_->meta_bytes()), level_);
      !fits.ok()) {
    return FailWith(fits);
  }
  EndPieceIfComplete();
  return std::nullopt;
}

std::optional<FetchReader::Failure> FetchReader::CheckIdentity(
    const v1::PieceOpening& opening) const {
  const ExpectedPiece& expected = pieces_[complete_];
  const PieceHeader& header = meta_->header();
  if (header.key != expected.key) {
    return Fail(MissReason::kCorrupt,
                absl::StrCat("the piece's header names key ", header.key.digest.Hex(),
                             ", asked was ", expected.key.digest.Hex()));
  }
  if (expected.fingerprint && header.namespace_fingerprint != *expected.fingerprint) {
    return Fail(MissReason::kOtherNamespace,
                absl::StrCat("the piece belongs to namespace ", header.namespace_fingerprint.Hex(),
                             ", asked was ", expected.fingerprint->Hex()));
  }
  if (opening.content_id() != header.content_id.digest.AsString()) {
    return Fail(MissReason::kCorrupt, "the store names another content id than the piece's header");
  }
  if (expected.content_id && header.content_id != *expected.content_id) {
    return Fail(MissReason::kOtherContent,
                absl::StrCat("the piece's content is ", header.content_id.digest.Hex(),
                             ", asked was ", expected.content_id->digest.Hex()));
  }
  if (expected.slot && header.slot != *expected.slot) {
    return Fail(MissReason::kCorrupt, "the piece's header names another slot than its key");
  }
  if (expected.token_begin && header.token_begin != *expected.token_begin) {
    return Fail(MissReason::kCorrupt, absl::StrCat("the piece begins at token ", header.token_begin,
                                                   ", asked was ", *expected.token_begin));
  }
  if (opening.level() > expected.level || opening.level() >= meta_->level_count()) {
    return Fail(MissReason::kCorrupt,
                absl::StrCat("the store announces level ", opening.level(), "; asked was at most ",
                             expected.level, " of ", meta_->level_count(), " levels"));
  }
  return std::nullopt;
}

std::optional<FetchReader::Failure> FetchReader::Segments(const v1::PieceSegments& segments,
                                                          ByteSpan bulk) {
  if (!meta_.has_value())
    return Fail(MissReason::kTruncated, "segments came before the piece's opening");
  for (const v1::PieceSegments::Run& announced : segments.runs()) {
    const SegmentRun run{.first = announced.first(), .count = announced.count()};
    if (due_run_ == due_.size())
      return Fail(MissReason::kCorrupt, "more segments came than the level needs");
    const SegmentRun& due = due_[due_run_];
    const uint32_t due_first = due.first + due_segments_;
    if (run.first != due_first || run.count == 0 || run.count > due.count - due_segments_) {
      return Fail(MissReason::kTruncated,
                  absl::StrCat("segments ", run.first, " + ", run.count, " came, due were ",
                               due_first, " + ", due.count - due_segments_));
    }
    const uint64_t length = meta_->RangeOf(run).length;
    if (length > bulk.size()) {
      return Fail(MissReason::kTruncated,
                  absl::StrCat("segments ", run.first, " + ", run.count, " need ", length,
                               " bytes, the part has ", bulk.size()));
    }
    if (auto failure = Run(run, bulk.first(length))) return failure;
    bulk = bulk.subspan(length);
    due_segments_ += run.count;
    if (due_segments_ == due.count) {
      ++due_run_;
      due_segments_ = 0;
    }
  }
  if (!bulk.empty()) {
    return Fail(MissReason::kCorrupt,
                absl::StrCat(bulk.size(), " bytes follow the part's last segment"));
  }
  EndPieceIfComplete();
  return std::nullopt;
}

std::optional<FetchReader::Failure> FetchReader::Run(const SegmentRun& run, ByteSpan bulk) {
  const uint64_t base = meta_->RangeOf(run).offset;
  uint64_t position = 0;
  for (uint32_t index = run.first; index < run.first + run.count; ++index) {
    const Segment& segment = meta_->segments()[index];
    const uint64_t begin = segment.offset - base;
    const ByteSpan gap = bulk.subspan(position, begin - position);
    if (std::any_of(gap.begin(), gap.end(), [](std::byte byte) { return byte != std::byte{0}; })) {
      return Fail(MissReason::kCorrupt,
                  absl::StrCat("the gap before segment ", index, " is not zero"));
    }
    const ByteSpan bytes = bulk.subspan(begin, segment.length);
    if (absl::Status intact = meta_->VerifySegment(index, bytes); !intact.ok())
      return FailWith(intact);
    if (absl::Status taken = sink_.TakeSegment(complete_, *meta_, index, bytes); !taken.ok())
      return FailWith(taken);
    position = begin + segment.length;
  }
  return std::nullopt;
}

void FetchReader::EndPieceIfComplete() {
  if (due_run_ < due_.size()) return;
  sink_.TakeEnd(complete_, *meta_, level_);
  meta_.reset();
  due_.clear();
  ++complete_;
}

std::optional<FetchReader::Failure> FetchReader::Finish(const absl::Status& status) const {
  if (complete_ == end_) return std::nullopt;
  if (!status.ok()) {
    Failure failure = FailWith(status);
    // The store refusing what we asked says nothing about the piece's bytes.
    if (absl::IsInvalidArgument(status)) failure.reason = MissReason::kPeerLost;
    return failure;
  }
  return Fail(MissReason::kTruncated, absl::StrCat("the fetch ended after ", complete_ - first_,
                                                   " of ", end_ - first_, " pieces"));
}

}  // namespace reprise::client
