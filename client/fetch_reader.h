// Turns the parts of one Fetch into verified segments, or into a reason why not, piece by piece.
//
// Everything that arrives is hostile. A piece's header and directory are checked against what was
// asked (key, content id, namespace, level) before its first segment is looked at, and a segment
// reaches the sink only after its checksum matched; the parts must hold exactly the segments that
// the layers and the level need, in order. What is wrong with a piece ends that piece alone; a part
// that belongs to none ends the fetch. No threads, no transport: use it from one thread at a time.
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
  // Layers within the piece, half open; both 0: all of them.
  uint32_t layer_begin = 0;
  uint32_t layer_end = 0;
};

// Why a piece did not come.
struct PieceMiss {
  MissReason reason = MissReason::kAbsent;
  std::string detail;
  // The bytes that the store sent fail their own checksums or content id, so it may hold them so.
  bool damaged = false;
};

// What becomes of verified bytes. Called by FetchReader, in order, on its thread: each piece ends
// with TakeEnd or TakeMiss.
class PieceSink {
 public:
  virtual ~PieceSink() = default;
  // `meta` (parsed from `meta_bytes`) is what was asked for, and the asked layers' segments up to
  // `level` follow. An error refuses the piece, here and below: INVALID_ARGUMENT when it does not
  // fit its destination, UNIMPLEMENTED when its codec is unknown, DATA_LOSS when it does not
  // decode.
  virtual absl::Status TakeMeta(uint32_t piece, const PieceMeta& meta, ByteSpan meta_bytes,
                                uint32_t level) = 0;
  // One verified segment.
  virtual absl::Status TakeSegment(uint32_t piece, const PieceMeta& meta, uint32_t index,
                                   ByteSpan bytes) = 0;
  // Every segment has come. After an error TakeMiss follows.
  virtual absl::Status TakeEnd(uint32_t piece, const PieceMeta& meta, uint32_t level) = 0;
  // Nothing more of the piece comes.
  virtual void TakeMiss(uint32_t piece, const PieceMiss& miss) = 0;
};

class FetchReader {
 public:
  // For a call that asked for pieces `asked` of `pieces`; the sink is told of indices into
  // `pieces`, those on the wire are into `asked`. Borrows all three for its own life.
  FetchReader(std::span<const ExpectedPiece> pieces, std::span<const uint32_t> asked,
              PieceSink& sink);
  ~FetchReader();

  // Begins one part, after the part before has been used up. Borrows `bulk` until this one is.
  void Take(std::string_view message, ByteSpan bulk);
  // Verifies the part's next segment and hands it over. False, and nothing done, when the part is
  // used up.
  bool Step();
  // The call ended with `status`: what has not come is a miss.
  void End(const absl::Status& status);

  // Every piece has come or missed.
  bool done() const { return Next() == asked_.size(); }
  // The piece that can come next; not when done.
  uint32_t next() const { return asked_[Next()]; }

  // All misses from some piece on: the call ended early, or a part did not belong to it.
  bool broken() const { return broken_; }

 private:
  size_t Next() const { return missed_ ? current_ + 1 : current_; }

  // Of the piece in hand.
  void Miss(MissReason reason, std::string detail, bool damaged = false);
  void Refuse(const absl::Status& status);
  // Of it and all after it.
  void MissRest(MissReason reason, const std::string& detail);

  void Open(const v1::PieceOpening& opening);
  std::optional<PieceMiss> CheckIdentity(const v1::PieceOpening& opening) const;
  bool NextRun();
  void TakeOne(uint32_t index);
  void EndPieceIfComplete();

  const std::span<const ExpectedPiece> pieces_;
  const std::span<const uint32_t> asked_;
  PieceSink& sink_;
  const std::unique_ptr<v1::FetchPart> part_;  // kept for its memory

  bool broken_ = false;
  size_t current_ = 0;   // in asked_, the piece in hand: those before it have ended
  bool missed_ = false;  // it has ended too, and what still comes of it is ignored

  // Of the piece in hand; nullopt before its opening.
  std::optional<PieceMeta> meta_;
  uint32_t level_ = 0;
  std::vector<SegmentRun> due_;  // what its layers and level need
  size_t due_run_ = 0;           // of due_, the run in hand
  uint32_t due_segments_ = 0;    // of that run, how many have come

  // Of the part in hand; used up when reading_ is false.
  bool reading_ = false;
  int next_run_ = 0;         // of its announced runs
  SegmentRun run_;           // what is left of the one before
  uint64_t run_offset_ = 0;  // in the body, of run_bytes_
  ByteSpan run_bytes_;       // of run_
  ByteSpan bulk_;            // of the runs after it
};

}  // namespace reprise::client
