#include "services/store/open_ahead.h"

#include <algorithm>
#include <optional>
#include <utility>

namespace reprise::store {
namespace {

// A piece has no more than its last level, whatever was asked.
bool Reaches(const storage::PieceRef& piece, uint32_t level) {
  return piece != nullptr && piece->level() >= std::min(level, piece->meta().level_count() - 1);
}

}  // namespace

bool OpenAhead::Take(size_t index, storage::PieceRef& piece, absl::AnyInvocable<void() &&> ready) {
  const Wanted& wanted = wanted_[index];
  if (!HasBegun(index)) {
    piece = pieces_.Find(tenant_, wanted.key);
    if (Reaches(piece, wanted.level)) {
      BeginThose(index + 1);
      return true;
    }
    piece = nullptr;
    Begin(index, 0);
  }
  BeginThose(index + 1);
  MutexLock lock(mutex_);
  Slot& slot = SlotOf(index);
  if (!slot.opened) {
    slot.ready = std::move(ready);
    return false;
  }
  piece = std::move(slot.piece);
  bytes_ahead_ -= slot.bytes;
  slot = {};
  return true;
}

bool OpenAhead::HasBegun(size_t index) {
  MutexLock lock(mutex_);
  return SlotOf(index).begun;
}

void OpenAhead::Begin(size_t index, uint64_t bytes) {
  bytes_ahead_ += bytes;
  {
    MutexLock lock(mutex_);
    SlotOf(index).begun = true;
    SlotOf(index).bytes = bytes;
  }
  pieces_.Open(tenant_, wanted_[index].key, wanted_[index].level,
               [self = shared_from_this(), index](storage::PieceRef piece) {
                 absl::AnyInvocable<void() &&> ready;
                 {
                   MutexLock lock(self->mutex_);
                   Slot& slot = self->SlotOf(index);
                   slot.opened = true;
                   slot.piece = std::move(piece);
                   ready = std::move(slot.ready);
                   slot.ready = nullptr;
                 }
                 if (ready) std::move(ready)();
               });
}

void OpenAhead::BeginThose(size_t after) {
  const size_t end = std::min(after - 1 + kMaxPieces, wanted_.size());
  next_ = std::max(next_, after);
  for (; next_ < end && (bytes_ahead_ == 0 || bytes_ahead_ < max_bytes_); ++next_) {
    const Wanted& wanted = wanted_[next_];
    const storage::PieceRef held = pieces_.Peek(tenant_, wanted.key);
    if (Reaches(held, wanted.level)) continue;
    // What memory has all of there is costs nothing to find in its turn.
    const std::optional<storage::PieceSummary> described = pieces_.Describe(tenant_, wanted.key);
    const uint32_t planes_here = held != nullptr ? held->level() + 1 : 0;
    if (!described.has_value() || described->planes_held <= planes_here) continue;
    const uint32_t level = std::min(wanted.level, described->planes_held - 1);
    Begin(next_, described->all_levels[level].bytes);
  }
}

}  // namespace reprise::store
