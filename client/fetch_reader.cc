#include "client/fetch_reader.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

#include "client/miss_reason.h"
#include "proto/reprise.pb.h"

namespace reprise::client {
namespace {

// What a refusal of the parser, the codec or the destination means for a piece that was asked for.
MissReason ReasonOfRefusal(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kUnimplemented:
      return MissReason::kUnknownFormat;
    case absl::StatusCode::kInvalidArgument:
      return MissReason::kOtherNamespace;
    default:
      return MissReason::kCorrupt;
  }
}

}  // namespace

FetchReader::FetchReader(std::span<const ExpectedPiece> pieces, std::span<const uint32_t> asked,
                         PieceSink& sink)
    : pieces_(pieces), asked_(asked), sink_(sink), part_(std::make_unique<v1::FetchPart>()) {}

FetchReader::~FetchReader() = default;

void FetchReader::Miss(MissReason reason, std::string detail, bool damaged) {
  missed_ = true;
  reading_ = false;
  meta_.reset();
  sink_.TakeMiss(asked_[current_],
                 {.reason = reason, .detail = std::move(detail), .damaged = damaged});
}

void FetchReader::Refuse(const absl::Status& status) {
  Miss(ReasonOfRefusal(status), std::string(status.message()));
}

void FetchReader::MissRest(MissReason reason, const std::string& detail) {
  broken_ = true;
  if (!missed_) Miss(reason, detail);
  while (++current_ < asked_.size()) Miss(reason, detail);
  missed_ = false;
}

void FetchReader::Take(std::string_view message, ByteSpan bulk) {
  reading_ = false;
  if (done()) return;  // nothing more was asked for, so nothing more is read
  if (!part_->ParseFromArray(message.data(), static_cast<int>(message.size()))) {
    return MissRest(MissReason::kCorrupt,
                    absl::StrCat("a part of ", message.size(), " bytes cannot be parsed"));
  }
  if (missed_ && part_->piece() == current_ + 1) {
    missed_ = false;
    ++current_;
  }
  if (part_->piece() != current_) {
    return MissRest(MissReason::kTruncated,
                    absl::StrCat("a part of piece ", part_->piece(), " of the fetch came where ",
                                 current_, " was due"));
  }
  if (missed_) return;
  switch (part_->body_case()) {
    case v1::FetchPart::kOpening:
      return Open(part_->opening());
    case v1::FetchPart::kSegments:
      if (!meta_.has_value()) {
        return Miss(MissReason::kTruncated, "segments came before the piece's opening");
      }
      reading_ = true;
      next_run_ = 0;
      run_ = {};
      bulk_ = bulk;
      return;
    case v1::FetchPart::kMiss:
      break;
    case v1::FetchPart::BODY_NOT_SET:
      return Miss(MissReason::kCorrupt, "a part says neither opening, segments nor miss");
  }
  switch (part_->miss()) {
    case v1::ABSENT:
      return Miss(MissReason::kAbsent, "the store does not hold the key");
    case v1::OTHER_CONTENT:
      return Miss(MissReason::kOtherContent, "the store holds other content than was asked for");
    default:
      return Miss(
          MissReason::kAbsent,
          absl::StrCat("the store does not give the piece, for reason ",
                       static_cast<int>(part_->miss()), ", which this client does not know"));
  }
}

void FetchReader::Open(const v1::PieceOpening& opening) {
  if (meta_.has_value()) return Miss(MissReason::kCorrupt, "a second opening of the same piece");
  const ByteSpan meta_bytes = AsBytes(opening.meta());
  auto meta = PieceMeta::Parse(meta_bytes);
  if (!meta.ok()) {
    // Another version of the format is no damage, and the store would look for it in vain.
    const bool damaged = absl::IsDataLoss(meta.status());
    return Miss(ReasonOfRefusal(meta.status()), std::string(meta.status().message()), damaged);
  }
  meta_ = *std::move(meta);
  if (auto miss = CheckIdentity(opening)) return Miss(miss->reason, std::move(miss->detail));
  level_ = opening.level();
  const ExpectedPiece& expected = pieces_[asked_[current_]];
  const bool all_layers = expected.layer_begin == 0 && expected.layer_end == 0;
  auto due = meta_->Resolve(expected.layer_begin,
                            all_layers ? meta_->layer_count() : expected.layer_end, level_);
  if (!due.ok()) return Refuse(due.status());
  due_ = *std::move(due);
  due_run_ = 0;
  due_segments_ = 0;
  if (absl::Status fits =
          sink_.TakeMeta(asked_[current_], *meta_, meta_bytes.first(meta_->meta_bytes()), level_);
      !fits.ok()) {
    return Refuse(fits);
  }
  EndPieceIfComplete();
}

std::optional<PieceMiss> FetchReader::CheckIdentity(const v1::PieceOpening& opening) const {
  const auto miss = [](MissReason reason, std::string detail) {
    return PieceMiss{.reason = reason, .detail = std::move(detail)};
  };
  const ExpectedPiece& expected = pieces_[asked_[current_]];
  const PieceHeader& header = meta_->header();
  if (header.key != expected.key) {
    return miss(MissReason::kCorrupt,
                absl::StrCat("the piece's header names key ", header.key.digest.Hex(),
                             ", asked was ", expected.key.digest.Hex()));
  }
  if (expected.fingerprint && header.namespace_fingerprint != *expected.fingerprint) {
    return miss(MissReason::kOtherNamespace,
                absl::StrCat("the piece belongs to namespace ", header.namespace_fingerprint.Hex(),
                             ", asked was ", expected.fingerprint->Hex()));
  }
  if (opening.content_id() != header.content_id.digest.AsString()) {
    return miss(MissReason::kCorrupt, "the store names another content id than the piece's header");
  }
  if (expected.content_id && header.content_id != *expected.content_id) {
    return miss(MissReason::kOtherContent,
                absl::StrCat("the piece's content is ", header.content_id.digest.Hex(),
                             ", asked was ", expected.content_id->digest.Hex()));
  }
  if (expected.slot && header.slot != *expected.slot) {
    return miss(MissReason::kCorrupt, "the piece's header names another slot than its key");
  }
  if (expected.token_begin && header.token_begin != *expected.token_begin) {
    return miss(MissReason::kCorrupt, absl::StrCat("the piece begins at token ", header.token_begin,
                                                   ", asked was ", *expected.token_begin));
  }
  if (opening.level() > expected.level || opening.level() >= meta_->level_count()) {
    return miss(MissReason::kCorrupt,
                absl::StrCat("the store announces level ", opening.level(), "; asked was at most ",
                             expected.level, " of ", meta_->level_count(), " levels"));
  }
  return std::nullopt;
}

bool FetchReader::NextRun() {
  if (next_run_ == part_->segments().runs_size()) {
    if (bulk_.empty()) {
      EndPieceIfComplete();
    } else {
      Miss(MissReason::kCorrupt,
           absl::StrCat(bulk_.size(), " bytes follow the part's last segment"));
    }
    return false;
  }
  const v1::PieceSegments::Run& announced = part_->segments().runs(next_run_++);
  run_ = {.first = announced.first(), .count = announced.count()};
  if (due_run_ == due_.size()) {
    Miss(MissReason::kCorrupt, "more segments came than the level needs");
    return false;
  }
  const SegmentRun& due = due_[due_run_];
  const uint32_t due_first = due.first + due_segments_;
  if (run_.first != due_first || run_.count == 0 || run_.count > due.count - due_segments_) {
    Miss(MissReason::kTruncated,
         absl::StrCat("segments ", run_.first, " + ", run_.count, " came, due were ", due_first,
                      " + ", due.count - due_segments_));
    return false;
  }
  const ByteRange range = meta_->RangeOf(run_);
  if (range.length > bulk_.size()) {
    Miss(MissReason::kTruncated, absl::StrCat("segments ", run_.first, " + ", run_.count, " need ",
                                              range.length, " bytes, the part has ", bulk_.size()));
    return false;
  }
  run_offset_ = range.offset;
  run_bytes_ = bulk_.first(range.length);
  bulk_ = bulk_.subspan(range.length);
  due_segments_ += run_.count;
  if (due_segments_ == due.count) {
    ++due_run_;
    due_segments_ = 0;
  }
  return true;
}

bool FetchReader::Step() {
  if (!reading_) return false;
  if (run_.count == 0 && !NextRun()) {
    reading_ = false;
    return false;
  }
  --run_.count;
  TakeOne(run_.first++);
  return true;
}

void FetchReader::TakeOne(uint32_t index) {
  const Segment& segment = meta_->segments()[index];
  const ByteSpan gap = run_bytes_.first(segment.offset - run_offset_);
  if (std::any_of(gap.begin(), gap.end(), [](std::byte byte) { return byte != std::byte{0}; })) {
    return Miss(MissReason::kCorrupt,
                absl::StrCat("the gap before segment ", index, " is not zero"),
                /*damaged=*/true);
  }
  const ByteSpan bytes = run_bytes_.subspan(gap.size(), segment.length);
  run_bytes_ = run_bytes_.subspan(gap.size() + segment.length);
  run_offset_ = segment.offset + segment.length;
  if (absl::Status intact = meta_->VerifySegment(index, bytes); !intact.ok()) {
    return Miss(MissReason::kCorrupt, std::string(intact.message()), /*damaged=*/true);
  }
  if (absl::Status taken = sink_.TakeSegment(asked_[current_], *meta_, index, bytes); !taken.ok()) {
    return Refuse(taken);
  }
}

void FetchReader::EndPieceIfComplete() {
  if (due_run_ < due_.size()) return;
  if (absl::Status taken = sink_.TakeEnd(asked_[current_], *meta_, level_); !taken.ok()) {
    return Refuse(taken);
  }
  meta_.reset();
  due_.clear();
  ++current_;
}

void FetchReader::End(const absl::Status& status) {
  reading_ = false;
  if (done()) return;
  if (!status.ok()) return MissRest(ReasonOfCall(status), std::string(status.message()));
  MissRest(MissReason::kTruncated,
           absl::StrCat("the fetch ended after ", current_, " of ", asked_.size(), " pieces"));
}

}  // namespace reprise::client
