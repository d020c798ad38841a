// Which segments there are, how much lives in each, and where the next run goes: the bookkeeping of
// the nvme tier's segments, without the files.
//
// A segment is absent (no file yet), empty, open (runs are appended), closed, or drained: closed,
// with nothing in it that can be found and nobody who reads or writes it. A drained segment is
// empty again once the catalog has forgotten all of it for good, which the owner says by AddEmpty.
//
// There are streams, each with an open segment of its own: base runs and refinement runs, which die
// at different times, and apart from what is new, what was moved, because that has proved to live
// long. With fewer than kSegmentsForStreams segments that would leave too little, so base and
// refinement share one. There are no size classes beyond: pieces of one namespace are of one size,
// runs are never split, and what the end of a segment loses is less than one run.
//
// Pure: no I/O, no clock. Not thread-safe: the tier calls it under its lock. Every Allocate pins
// its segment and counts as not findable yet until Publish or Discard.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "storage/index/piece_record.h"

namespace reprise::storage {

enum class RunKind : uint8_t { kBase = 0, kRefinement = 1 };

class SegmentSpace {
 public:
  // In every segment, before its first run.
  static constexpr uint64_t kHeaderBytes = kPageBytes;
  static constexpr uint32_t kMinSegments = 4;
  static constexpr uint32_t kSegmentsForStreams = 16;

  // `max_segments` is at least kMinSegments, `segment_bytes` a multiple of kPageBytes.
  SegmentSpace(uint64_t segment_bytes, uint32_t max_segments);

  uint64_t segment_bytes() const { return segment_bytes_; }
  uint32_t max_segments() const { return static_cast<uint32_t>(segments_.size()); }
  uint32_t files() const { return files_; }
  // The most a run can have.
  uint64_t usable_bytes() const { return segment_bytes_ - kHeaderBytes; }
  uint64_t live_bytes() const { return live_bytes_; }
  // What may live in all segments: 7/8 of those that are not set aside for moving, so that there is
  // always one to empty that gives room back.
  uint64_t live_limit_bytes() const;

  // Where a run of `bytes` (whole pages) goes. `moving`: a run that reclaim moves, which may use
  // the segments set aside. nullopt when no empty segment is there for it.
  std::optional<RunPlace> Allocate(RunKind kind, bool moving, uint64_t bytes);
  // The run can be found now, under `tag`.
  void Publish(const RunPlace& run, uint32_t tag);
  // The run was given up before it could be found.
  void Discard(const RunPlace& run, uint64_t bytes);
  // That much of the segment's runs can no longer be found.
  void Release(uint32_t segment, uint64_t bytes);

  // Keeps what is in the segment as it is.
  void Pin(uint32_t segment) { ++segments_[segment].pins; }
  void Unpin(uint32_t segment);

  // Nothing is appended to the segment any more: writing to it failed.
  void Abandon(uint32_t segment);

  // Whether a run of that many bytes may be there: hostile input.
  bool IsPlace(const RunPlace& run, uint64_t bytes) const;
  // When opening: a run of the catalog, at a place that may be.
  void AddFound(const RunPlace& run, uint64_t bytes, uint32_t tag);
  bool IsAbsent(uint32_t segment) const { return segments_[segment].state == State::kAbsent; }
  // The segment's file is there and holds nothing.
  void AddEmpty(uint32_t segment);

  // The segment that is worth a new file now; nullopt when there is room or all are there.
  std::optional<uint32_t> NextToCreate() const;
  // Whether a segment should be emptied now: there are few empty ones and all files are made.
  bool WantsReclaim() const;
  // Whether reclaim holds up what is to be written.
  bool Starved() const { return empty_ <= reserve_; }
  // The closed segment in which most was given up, if emptying it is worth while: what is moved
  // has to leave room behind where it goes. nullopt when there is none.
  std::optional<uint32_t> ChooseVictim() const;
  // Passed over by ChooseVictim from now on: it cannot be read.
  void SetUnreadable(uint32_t segment) { segments_[segment].unreadable = true; }
  // Tags published there since it was empty, also of runs that have gone since.
  const std::vector<uint32_t>& tags(uint32_t segment) const { return segments_[segment].tags; }

  uint64_t memory_bytes() const;

  // Segments that drained since the last call.
  std::vector<uint32_t> TakeDrained();
  bool has_drained() const { return !drained_.empty(); }
  // Whether any drained one, taken or not, is yet to be empty.
  bool awaits_empty() const { return awaited_ > 0; }

 private:
  enum class State : uint8_t { kAbsent, kEmpty, kOpen, kClosed, kDrained };
  struct Segment {
    State state = State::kAbsent;
    bool unreadable = false;
    uint32_t pins = 0;
    uint32_t unpublished = 0;
    uint64_t used_bytes = kHeaderBytes;
    uint64_t live_bytes = 0;  // at most used_bytes - kHeaderBytes
    std::vector<uint32_t> tags;
  };

  size_t StreamOf(RunKind kind, bool moving) const;
  std::optional<uint32_t> TakeEmpty(bool moving);
  void Close(uint32_t segment);
  void CheckDrained(uint32_t segment);
  uint32_t low_water() const;

  static constexpr size_t kStreams = 4;

  const uint64_t segment_bytes_;
  // Empty segments that only moved runs may use: one for each stream of them.
  const uint32_t reserve_;
  std::vector<Segment> segments_;
  std::optional<uint32_t> open_[kStreams];
  uint32_t files_ = 0;
  uint32_t empty_ = 0;
  uint64_t live_bytes_ = 0;
  std::vector<uint32_t> drained_;
  uint32_t awaited_ = 0;  // in state kDrained
};

}  // namespace reprise::storage
