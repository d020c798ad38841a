#include "storage/tiered/piece_saver.h"

#include <algorithm>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

#include "common/log.h"

namespace reprise::storage {

struct PieceSaver::Write {
  explicit Write(std::shared_ptr<const HostPiece> the_piece) : piece(std::move(the_piece)) {}

  Name name() const { return {piece->tenant(), piece->key()}; }
  uint64_t bytes() const { return piece->padded_container().size(); }

  const std::shared_ptr<const HostPiece> piece;
  PieceStore::Persisted done;  // empty for a demotion
  bool is_demotion = false;
  // Guarded by the saver's mutex.
  bool removed = false;
  std::vector<WritePtr> followers;  // of the same key, to run after this one
};

PieceSaver::PieceSaver(HostStore& host, NvmeTier& nvme, PieceLoader& loader, Executor& executor,
                       const Clock& clock)
    : host_(host),
      nvme_(nvme),
      loader_(loader),
      executor_(executor),
      clock_(clock),
      ahead_bytes_(host.arena().size() / kAheadShare),
      look_every_bytes_(ahead_bytes_ / kLooksAhead),
      max_running_bytes_(host.arena().size() / kArenaShare) {}

void PieceSaver::Persist(TenantId tenant, const Key& key, const ContentId& content,
                         PieceStore::Persisted done) {
  const auto submit = [this, key, content](const PieceRef& piece, PieceStore::Persisted persisted) {
    if (piece == nullptr || piece->meta().header().content_id != content) {
      return std::move(persisted)(
          absl::NotFoundError(absl::StrCat("piece ", key.digest.Hex(), " is no longer held")));
    }
    // Every reference that the host tier gives is to one of its pieces.
    auto write = std::make_shared<Write>(std::static_pointer_cast<const HostPiece>(piece));
    write->done = std::move(persisted);
    Submit(std::move(write));
  };
  PieceRef held = host_.Peek(tenant, key);
  const std::optional<PieceSummary> below = nvme_.Describe(tenant, key);
  const uint32_t planes_held =
      held != nullptr && held->meta().header().content_id == content ? held->level() + 1 : 0;
  if (!below.has_value() || below->content_id != content || below->planes_held <= planes_held) {
    return submit(held, std::move(done));
  }
  // It is written from memory, so that what becomes durable was verified.
  loader_.Open(tenant, key, below->planes_held - 1, PieceLoader::Wanted::kNow,
               [submit, done = std::move(done)](const PieceRef& piece) mutable {
                 submit(piece, std::move(done));
               });
}

void PieceSaver::Submit(WritePtr write) {
  absl::Status refused;
  {
    MutexLock lock(mutex_);
    if (stopping_) {
      refused = absl::UnavailableError("the store is stopping");
    } else if (!write->is_demotion && waiting_.size() >= kMaxWaiting) {
      refused = absl::ResourceExhaustedError(absl::StrCat(
          waiting_.size(), " pieces wait to be written to the disk already; try later"));
    } else {
      if (write->is_demotion) ++demotions_;
      waiting_.push_back(write);
    }
  }
  if (!refused.ok()) return Answer(*write, refused);
  StartWaiting();
}

void PieceSaver::StartWaiting() {
  while (true) {
    WritePtr write;
    {
      MutexLock lock(mutex_);
      if (waiting_.empty() || running_writes_.size() >= kMaxRunning) return;
      const uint64_t bytes = waiting_.front()->bytes();
      if (running_bytes_ > 0 && running_bytes_ + bytes > max_running_bytes_) return;
      write = std::move(waiting_.front());
      waiting_.pop_front();
      const auto [running, inserted] = running_writes_.try_emplace(write->name(), write);
      if (!inserted) {
        running->second->followers.push_back(std::move(write));
        continue;
      }
      running_bytes_ += bytes;
    }
    Start(write);
  }
}

void PieceSaver::Start(const WritePtr& write) {
  const HostPiece& piece = *write->piece;
  // Whoever removes a piece does so before it looks for writes that run.
  if (host_.Peek(piece.tenant(), piece.key()) != write->piece) return Forget(write);
  nvme_.Write({.tenant = piece.tenant(),
               .meta = &piece.meta(),
               .attributes = piece.attributes(),
               .planes = piece.level() + 1,
               .container = SharedBytes(piece.padded_container(), write->piece),
               .durable = !write->is_demotion},
              [this, write](absl::Status status) {
                if (executor_.TryRun([this, write, status] {
                      Complete(write, status);
                      StartWaiting();
                    })) {
                  return;
                }
                Complete(write, status);
                StartWaiting();
              });
}

void PieceSaver::Forget(const WritePtr& write) {
  {
    MutexLock lock(mutex_);
    Release(*write);
    ended_.notify_all();
  }
  const HostPiece& piece = *write->piece;
  if (write->is_demotion) return ScheduleDemotion();
  // It may have been replaced by the same content with more planes.
  Persist(piece.tenant(), piece.key(), piece.meta().header().content_id, std::move(write->done));
}

void PieceSaver::Release(Write& write) {
  running_writes_.erase(write.name());
  running_bytes_ -= write.bytes();
  if (write.removed) removed_.fetch_sub(1, std::memory_order_relaxed);
  if (write.is_demotion) --demotions_;
  for (WritePtr& follower : write.followers) waiting_.push_front(std::move(follower));
  write.followers.clear();
}

void PieceSaver::Complete(const WritePtr& write, const absl::Status& status) {
  const HostPiece& piece = *write->piece;
  bool removed = false;
  {
    MutexLock lock(mutex_);
    removed = write->removed;
  }
  if (removed && status.ok()) {
    nvme_.Remove(piece.tenant(), piece.key(), &piece.meta().header().content_id);
  }
  host_.EndDemotion(piece, status.ok() && !removed);
  bool demote_more = false;
  bool first_failure = false;
  {
    MutexLock lock(mutex_);
    Release(*write);
    if (!status.ok()) {
      const TimePoint now = clock_.Now();
      first_failure = now >= paused_until_;
      paused_until_ = now + kPause;
    } else if (write->is_demotion) {
      ++figures_.demoted_pieces;
      figures_.demoted_bytes += write->bytes();
    } else {
      ++figures_.persisted_pieces;
    }
    demote_more = write->is_demotion && demotions_ <= kMaxRunning / 2;
  }
  if (first_failure) {
    LogWarning("a piece could not be written to the disk",
               {{"tenant", piece.tenant()},
                {"key", piece.key().digest.Hex()},
                {"reason", std::string(status.message())}});
  }
  if (write->done) std::move(write->done)(status);
  if (demote_more) ScheduleDemotion();
  MutexLock lock(mutex_);
  ended_.notify_all();
}

void PieceSaver::Answer(Write& write, const absl::Status& status) {
  if (write.is_demotion) {
    host_.EndDemotion(*write.piece, false);
  } else {
    std::move(write.done)(status);
  }
}

void PieceSaver::Added(uint64_t bytes) {
  const uint64_t added = added_bytes_.fetch_add(bytes, std::memory_order_relaxed) + bytes;
  if (added < look_every_bytes_.load(std::memory_order_relaxed)) return;
  added_bytes_.store(0, std::memory_order_relaxed);
  ScheduleDemotion();
}

void PieceSaver::LookAheadWithin(uint64_t quota_bytes) {
  if (quota_bytes == 0) return;
  const uint64_t every = quota_bytes / kAheadShare / kLooksAhead;
  look_every_bytes_ = std::min(look_every_bytes_.load(), every);
}

void PieceSaver::ScheduleDemotion() {
  if (demotion_scheduled_.exchange(true)) return;
  if (!executor_.TryRun([this] { Demote(); })) demotion_scheduled_.store(false);
}

void PieceSaver::Demote() {
  demotion_scheduled_.store(false);
  size_t limit = 0;
  bool saving_all = false;
  {
    MutexLock lock(mutex_);
    saving_all = saving_all_;
  }
  if (saving_all) return SaveMore();
  {
    MutexLock lock(mutex_);
    if (stopping_ || clock_.Now() < paused_until_) return;
    limit = kMaxRunning - std::min(kMaxRunning, demotions_);
  }
  if (limit > 0) SubmitDemotions(host_.BeginDemotion(ahead_bytes_, limit));
}

void PieceSaver::SaveAll() {
  std::vector<std::shared_ptr<const HostPiece>> order = host_.EvictionOrder();
  {
    MutexLock lock(mutex_);
    saving_all_ = true;
    unsaved_ = std::move(order);
  }
  ScheduleDemotion();
}

bool PieceSaver::saving() const {
  MutexLock lock(mutex_);
  return !unsaved_.empty() || submitting_ > 0 || demotions_ > 0;
}

void PieceSaver::SaveMore() {
  while (true) {
    std::shared_ptr<const HostPiece> next;
    {
      MutexLock lock(mutex_);
      if (stopping_ || unsaved_.empty() || demotions_ >= kMaxRunning) return;
      next = std::move(unsaved_.back());
      unsaved_.pop_back();
      ++submitting_;
    }
    SubmitDemotions(host_.BeginDemotionOf(*next));
    MutexLock lock(mutex_);
    --submitting_;
  }
}

void PieceSaver::SubmitDemotions(std::vector<std::shared_ptr<const HostPiece>> pieces) {
  for (std::shared_ptr<const HostPiece>& piece : pieces) {
    auto write = std::make_shared<Write>(std::move(piece));
    write->is_demotion = true;
    Submit(std::move(write));
  }
}

void PieceSaver::MarkRemoved(Write& write) {
  if (write.removed) return;
  write.removed = true;
  removed_.fetch_add(1, std::memory_order_relaxed);
}

void PieceSaver::Cancel(TenantId tenant, const Key& key) {
  MutexLock lock(mutex_);
  const auto found = running_writes_.find({tenant, key});
  if (found != running_writes_.end()) MarkRemoved(*found->second);
}

void PieceSaver::CancelNamespace(TenantId tenant, const Digest& fingerprint) {
  MutexLock lock(mutex_);
  for (const auto& [name, write] : running_writes_) {
    if (name.first == tenant && write->piece->fingerprint() == fingerprint) MarkRemoved(*write);
  }
}

bool PieceSaver::Hides(TenantId tenant, const Key& key) const {
  if (removed_.load(std::memory_order_relaxed) == 0) return false;
  MutexLock lock(mutex_);
  const auto found = running_writes_.find({tenant, key});
  return found != running_writes_.end() && found->second->removed;
}

std::vector<Key> PieceSaver::Hidden(TenantId tenant) const {
  std::vector<Key> keys;
  if (removed_.load(std::memory_order_relaxed) == 0) return keys;
  MutexLock lock(mutex_);
  for (auto write = running_writes_.lower_bound({tenant, Key{}});
       write != running_writes_.end() && write->first.first == tenant; ++write) {
    if (write->second->removed) keys.push_back(write->first.second);
  }
  return keys;
}

void PieceSaver::Stop() {
  std::deque<WritePtr> waiting;
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    waiting.swap(waiting_);
  }
  for (const WritePtr& write : waiting) Answer(*write, absl::UnavailableError("the store stops"));
  MutexLock lock(mutex_);
  while (!running_writes_.empty() || !waiting_.empty()) ended_.wait(mutex_);
}

PieceSaver::Figures PieceSaver::figures() const {
  MutexLock lock(mutex_);
  return figures_;
}

}  // namespace reprise::storage
