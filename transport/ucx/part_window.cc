#include "transport/ucx/part_window.h"

#include <utility>

#include "absl/strings/str_cat.h"

#include "common/limits.h"
#include "transport/ucx/frame.h"

namespace reprise::transport {
namespace {

constexpr size_t kMaxEntries = 2 * size_t{kMaxPartsAhead};
constexpr size_t kMaxHeldBytes = 2 * kMaxBytesAhead + kMaxMessageBytes;

}  // namespace

absl::Status PartWindow::Announce(uint32_t sequence, size_t message_bytes) {
  if (sequence < next_) {
    return absl::InvalidArgumentError(absl::StrCat("part ", sequence, " came twice"));
  }
  if (end_.has_value() && sequence >= *end_) {
    return absl::InvalidArgumentError(
        absl::StrCat("part ", sequence, " of a call of ", *end_, " parts"));
  }
  const size_t index = sequence - next_;
  if (index >= kMaxEntries || held_bytes_ + message_bytes > kMaxHeldBytes) {
    return absl::InvalidArgumentError(absl::StrCat("part ", sequence, " came before part ", next_,
                                                   ", too far ahead (", held_bytes_,
                                                   " bytes held)"));
  }
  while (entries_.size() <= index) entries_.push_back(Entry());
  Entry& entry = entries_[index];
  if (entry.state != State::kUnknown) {
    return absl::InvalidArgumentError(absl::StrCat("part ", sequence, " came twice"));
  }
  entry.state = State::kAnnounced;
  entry.message_bytes = message_bytes;
  held_bytes_ += message_bytes;
  return absl::OkStatus();
}

void PartWindow::Arrive(uint32_t sequence, Part part) {
  Entry& entry = entries_[sequence - next_];
  entry.state = State::kArrived;
  entry.part = std::move(part);
}

absl::Status PartWindow::End(uint32_t parts) {
  if (end_.has_value()) return absl::InvalidArgumentError("a call ended twice");
  if (parts < next_ + entries_.size()) {
    return absl::InvalidArgumentError(absl::StrCat("a call ended after ", parts, " parts, but ",
                                                   next_ + entries_.size(), " were sent"));
  }
  end_ = parts;
  return absl::OkStatus();
}

std::optional<Part> PartWindow::TakeNext() {
  if (entries_.empty() || entries_.front().state != State::kArrived) return std::nullopt;
  Entry entry = entries_.pop_front();
  ++next_;
  held_bytes_ -= entry.message_bytes;
  return std::move(entry.part);
}

}  // namespace reprise::transport
