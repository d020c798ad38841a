// Makes findable what was written, and the catalog forget what is gone: group commit.
//
// One thread takes everything that has gathered while the last batch was on its way. Of a batch it
// first syncs the segments whose runs have to survive power loss, then writes one batch to the
// catalog (synced when anything in it has to survive), and only then changes the view. A segment
// that drained is empty again only once the catalog was synced: no record that could come back
// after power loss ever names bytes that were overwritten. Writes that need no sync themselves are
// told of their end before that. Thread-safe.
#pragma once

#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/any_invocable.h"

#include "storage/nvme/tier_state.h"

namespace reprise::storage {

// A piece whose runs are in their segments, or one that is only to become durable.
struct WrittenPiece {
  TenantId tenant = 0;
  Key key;
  PieceRecord record{};    // its places were allocated, unless it is held already
  bool is_written = true;  // false: the same content was held when it came
  NvmeTier::Done done;
};

// A copy of a piece's runs elsewhere. Places that stay are not there.
struct MovedPiece {
  struct Run {
    RunPlace from;
    RunPlace to;
    uint64_t bytes = 0;
  };
  TenantId tenant = 0;
  Key key;
  ContentId content{};
  std::optional<Run> runs[2];  // by RunKind
};

class Committer {
 public:
  // `room_made` is called, without the lock, when segments became empty.
  Committer(TierState& state, absl::AnyInvocable<void()> room_made);
  // Commits what was added; afterwards nothing may be.
  ~Committer();

  // Under the lock of the state, which clang does not see to be the caller's.
  void Add(std::unique_ptr<WrittenPiece> piece);

  // Durably; blocks until done. Runs of pieces that changed meanwhile are given up.
  absl::Status Move(std::vector<MovedPiece> moves) ABSL_LOCKS_EXCLUDED(state_.mutex);

 private:
  struct MoveCall;
  struct Batch;
  using Number = ResidentPieces::Number;

  void ThreadMain();
  bool HasWork() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(state_.mutex);
  void Collect(Batch& batch) ABSL_EXCLUSIVE_LOCKS_REQUIRED(state_.mutex);
  void SyncSegments(Batch& batch) ABSL_LOCKS_EXCLUDED(state_.mutex);
  void Judge(Batch& batch) ABSL_EXCLUSIVE_LOCKS_REQUIRED(state_.mutex);
  void JudgeWrite(Batch& batch, size_t index) ABSL_EXCLUSIVE_LOCKS_REQUIRED(state_.mutex);
  PieceRecord& Changed(Batch& batch, Number piece) ABSL_EXCLUSIVE_LOCKS_REQUIRED(state_.mutex);
  absl::Status WriteCatalog(Batch& batch) ABSL_LOCKS_EXCLUDED(state_.mutex);
  // Of a batch that was written without a sync.
  void SyncDrained(Batch& batch) ABSL_LOCKS_EXCLUDED(state_.mutex);
  void Install(Batch& batch) ABSL_EXCLUSIVE_LOCKS_REQUIRED(state_.mutex);
  void InstallMove(const MovedPiece& move) ABSL_EXCLUSIVE_LOCKS_REQUIRED(state_.mutex);
  void GiveUp(Batch& batch, const absl::Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(state_.mutex);
  void Discard(const PieceRecord& record) ABSL_EXCLUSIVE_LOCKS_REQUIRED(state_.mutex);

  TierState& state_;
  absl::AnyInvocable<void()> room_made_;
  std::vector<std::unique_ptr<WrittenPiece>> written_ ABSL_GUARDED_BY(state_.mutex);
  std::vector<MoveCall*> moves_ ABSL_GUARDED_BY(state_.mutex);
  // Drained before a batch or a sync that failed.
  std::vector<uint32_t> drained_ ABSL_GUARDED_BY(state_.mutex);
  CondVar moved_;
  bool stopping_ ABSL_GUARDED_BY(state_.mutex) = false;
  bool catalog_failed_ = false;  // of the thread alone
  std::thread thread_;
};

}  // namespace reprise::storage
