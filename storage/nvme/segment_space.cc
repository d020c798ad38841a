#include "storage/nvme/segment_space.h"

#include <algorithm>
#include <utility>

namespace reprise::storage {
namespace {

// Of all segments, how much may live.
constexpr uint64_t kLiveEighths = 7;
// Of what was appended to a segment, how much must have been given up for emptying it to be worth
// while: half when nothing waits for it, because it may drain by itself; less when writes wait, but
// so much that a byte written never moves more than three. What its end is short of a run does not
// count: it would be lost again where the runs go.
constexpr uint64_t kIdleDeadEighths = 4;
constexpr uint64_t kStarvedDeadEighths = 2;
// Emptying begins when fewer than this share of all segments are empty, so that writes seldom wait.
constexpr uint32_t kLowWaterShare = 64;

}  // namespace

SegmentSpace::SegmentSpace(uint64_t segment_bytes, uint32_t max_segments)
    : segment_bytes_(segment_bytes),
      reserve_(max_segments < kSegmentsForStreams ? 1 : 2),
      segments_(max_segments) {}

uint64_t SegmentSpace::live_limit_bytes() const {
  // The reserve, and one that is open for moved runs.
  return (max_segments() - reserve_ - 1) * usable_bytes() / 8 * kLiveEighths;
}

size_t SegmentSpace::StreamOf(RunKind kind, bool moving) const {
  const bool apart = kind == RunKind::kRefinement && max_segments() >= kSegmentsForStreams;
  return (moving ? 2 : 0) + (apart ? 1 : 0);
}

std::optional<uint32_t> SegmentSpace::TakeEmpty(bool moving) {
  if (empty_ <= (moving ? 0 : reserve_)) return std::nullopt;
  for (uint32_t i = 0; i < max_segments(); ++i) {
    if (segments_[i].state != State::kEmpty) continue;
    segments_[i].state = State::kOpen;
    --empty_;
    return i;
  }
  return std::nullopt;
}

std::optional<RunPlace> SegmentSpace::Allocate(RunKind kind, bool moving, uint64_t bytes) {
  if (bytes > usable_bytes()) return std::nullopt;
  std::optional<uint32_t>& open = open_[StreamOf(kind, moving)];
  if (!open.has_value() || segments_[*open].used_bytes + bytes > segment_bytes_) {
    const std::optional<uint32_t> next = TakeEmpty(moving);
    if (!next.has_value()) return std::nullopt;
    if (open.has_value()) Close(*open);
    open = next;
  }
  Segment& segment = segments_[*open];
  const RunPlace place{.segment = *open,
                       .page = static_cast<uint32_t>(segment.used_bytes / kPageBytes)};
  segment.used_bytes += bytes;
  segment.live_bytes += bytes;
  live_bytes_ += bytes;
  ++segment.pins;
  ++segment.unpublished;
  return place;
}

void SegmentSpace::Publish(const RunPlace& run, uint32_t tag) {
  Segment& segment = segments_[run.segment];
  segment.tags.push_back(tag);
  --segment.unpublished;
  Unpin(run.segment);
}

void SegmentSpace::Discard(const RunPlace& run, uint64_t bytes) {
  --segments_[run.segment].unpublished;
  Release(run.segment, bytes);
  Unpin(run.segment);
}

void SegmentSpace::Release(uint32_t segment, uint64_t bytes) {
  segments_[segment].live_bytes -= bytes;
  live_bytes_ -= bytes;
  CheckDrained(segment);
}

void SegmentSpace::Unpin(uint32_t segment) {
  --segments_[segment].pins;
  CheckDrained(segment);
}

void SegmentSpace::Abandon(uint32_t segment) {
  if (segments_[segment].state != State::kOpen) return;
  // Its end is given up, too, so that it is soon emptied.
  segments_[segment].used_bytes = segment_bytes_;
  Close(segment);
}

void SegmentSpace::Close(uint32_t segment) {
  if (segments_[segment].state != State::kOpen) return;
  for (std::optional<uint32_t>& open : open_) {
    if (open == segment) open.reset();
  }
  segments_[segment].state = State::kClosed;
  CheckDrained(segment);
}

void SegmentSpace::CheckDrained(uint32_t segment) {
  Segment& at = segments_[segment];
  if (at.state != State::kClosed || at.live_bytes != 0 || at.pins != 0) return;
  at.state = State::kDrained;
  at.tags = {};
  drained_.push_back(segment);
  ++awaited_;
}

bool SegmentSpace::IsPlace(const RunPlace& run, uint64_t bytes) const {
  return run.segment < max_segments() && run.offset() >= kHeaderBytes && bytes > 0 &&
         bytes <= usable_bytes() && run.offset() <= segment_bytes_ - bytes;
}

void SegmentSpace::AddFound(const RunPlace& run, uint64_t bytes, uint32_t tag) {
  Segment& segment = segments_[run.segment];
  if (segment.state == State::kAbsent) {
    // How far it was appended to is not known; nothing more is.
    segment.state = State::kClosed;
    segment.used_bytes = segment_bytes_;
    ++files_;
  }
  segment.live_bytes += bytes;
  live_bytes_ += bytes;
  segment.tags.push_back(tag);
}

void SegmentSpace::AddEmpty(uint32_t segment) {
  Segment& at = segments_[segment];
  if (at.state == State::kAbsent) ++files_;
  if (at.state == State::kDrained) --awaited_;
  at.state = State::kEmpty;
  at.unreadable = false;
  at.used_bytes = kHeaderBytes;
  ++empty_;
}

uint32_t SegmentSpace::low_water() const {
  return reserve_ + std::max<uint32_t>(1, max_segments() / kLowWaterShare);
}

std::optional<uint32_t> SegmentSpace::NextToCreate() const {
  if (files_ == max_segments() || empty_ >= low_water()) return std::nullopt;
  for (uint32_t i = 0; i < max_segments(); ++i) {
    if (segments_[i].state == State::kAbsent) return i;
  }
  return std::nullopt;
}

bool SegmentSpace::WantsReclaim() const { return files_ == max_segments() && empty_ < low_water(); }

std::optional<uint32_t> SegmentSpace::ChooseVictim() const {
  const uint64_t eighths = Starved() ? kStarvedDeadEighths : kIdleDeadEighths;
  std::optional<uint32_t> best;
  uint64_t most = 0;
  for (uint32_t i = 0; i < max_segments(); ++i) {
    const Segment& segment = segments_[i];
    if (segment.state != State::kClosed || segment.unreadable || segment.unpublished > 0 ||
        segment.live_bytes == 0) {
      continue;
    }
    const uint64_t appended = segment.used_bytes - kHeaderBytes;
    const uint64_t dead = appended - std::min(appended, segment.live_bytes);
    if (dead <= most || dead < appended / 8 * eighths) continue;
    most = dead;
    best = i;
  }
  return best;
}

uint64_t SegmentSpace::memory_bytes() const {
  uint64_t bytes = segments_.capacity() * sizeof(Segment);
  for (const Segment& segment : segments_) bytes += segment.tags.capacity() * sizeof(uint32_t);
  return bytes;
}

std::vector<uint32_t> SegmentSpace::TakeDrained() { return std::exchange(drained_, {}); }

}  // namespace reprise::storage
