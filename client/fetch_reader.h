// Turns the parts of one Fetch into verified segments, or into the first reason why not.
//
// Everything that arrives is hostile. A piece's header and directory are checked against what was
// asked (key, content id, namespace, level) before its first segment is looked at, and a segment
// reaches the sink only after its checksum matched; the parts must hold exactly the segments that
// the level needs, in order. No threads, no transport: feed it from one thread at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "chunk/container.h"
#include "chunk/keys.h"
#include "client/reprise.h"
#include "common/bytes.h"
#include "common/status.h"

namespace reprise::v1 {
class FetchPart;
class PieceOpening;
class PieceSegments;
}  // namespace reprise::v1

namespace reprise::client {

struct ExpectedPiece {
  Key key;
  std::optional<ContentId> content_id;  // nullopt: whatever is held
  std::optional<Digest> fingerprint;    // nullopt: any namespace
  std::optional<PieceSlot> slot;        // nullopt: any
  std::optional<uint64_t> token_begin;  // nullopt: any
  uint32_t level = kMaxPlanes - 1;
};

// What becomes of verified bytes. Called by FetchReader, in order, on its thread.
class PieceSink {
 public:
  virtual ~PieceSink() = default;
  // `meta` (parsed from `meta_bytes`) is what was asked for, and its segments up to `level` follow.
  // An error refuses the piece: INVALID_ARGUMENT when it does not fit its destination,
  // UNIMPLEMENTED when its codec is unknown.
  virtual absl::Status TakeMeta(uint32_t piece, const PieceMeta& meta, ByteSpan meta_bytes,
                                uint32_t level) = 0;
  // One verified segment. An error refuses the piece: DATA_LOSS when it does not decode.
  virtual absl::Status TakeSegment(uint32_t piece, const PieceMeta& meta, uint32_t index,
                                   ByteSpan bytes) = 0;
  // Every segment has come.
  virtual void TakeEnd(uint32_t piece, const PieceMeta& meta, uint32_t level) = 0;
};

class FetchReader {
 public:
  struct Failure {
    uint32_t piece = 0;
    MissReason reason = MissReason::kAbsent;
    std::string detail;
  };

  // For a call that asked for pieces [first, end) of `pieces`; all indices here are into `pieces`,
  // those on the wire count from `first`. Borrows `pieces` and `sink` for its own life.
  FetchReader(std::span<const ExpectedPiece> pieces, uint32_t first, uint32_t end, PieceSink& sink);
  ~FetchReader();

  // One part. nullopt: go on. A failure ends the reader: it must not be fed again.
  std::optional<Failure> Consume(std::string_view message, ByteSpan bulk);

  // The call ended with `status`. nullopt when every piece asked for is complete.
  std::optional<Failure> Finish(const absl::Status& status) const;

  // The piece in hand: those before it are complete.
  uint32_t complete() const { return complete_; }

 private:
  Failure Fail(MissReason reason, std::string detail) const;
  Failure FailWith(const absl::Status& status) const;
  std::optional<Failure> Open(const v1::PieceOpening& opening);
  std::optional<Failure> CheckIdentity(const v1::PieceOpening& opening) const;
  std::optional<Failure> Segments(const v1::PieceSegments& segments, ByteSpan bulk);
  std::optional<Failure> Run(const SegmentRun& run, ByteSpan bulk);
  void EndPieceIfComplete();

  const std::span<const ExpectedPiece> pieces_;
  const uint32_t first_;
  const uint32_t end_;
  PieceSink& sink_;
  const std::unique_ptr<v1::FetchPart> part_;  // kept for its memory

  uint32_t complete_;
  // Of the piece in hand; nullopt before its opening.
  std::optional<PieceMeta> meta_;
  uint32_t level_ = 0;
  std::vector<SegmentRun> due_;  // what its level needs
  size_t due_run_ = 0;           // of due_, the run in hand
  uint32_t due_segments_ = 0;    // of that run, how many have come
};

}  // namespace reprise::client
