#include "storage/tiered/piece_loader.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/status/status.h"

#include "common/clock.h"
#include "common/log.h"
#include "storage/host/host_upload.h"

namespace reprise::storage {

struct PieceLoader::Load {
  struct Waiter {
    uint32_t level = 0;
    Wanted wanted = Wanted::kNow;
    PieceStore::Opened opened;
  };

  Load(TenantId the_tenant, const Key& the_key, const PieceSummary& the_piece, uint32_t the_planes,
       Wanted by)
      : tenant(the_tenant), key(the_key), piece(the_piece), planes(the_planes), wanted(by) {}

  uint64_t bytes() const { return piece.all_levels[planes - 1].bytes; }
  UploadOffer offer() const {
    return {.key = key,
            .total_bytes = bytes(),
            .quality = {.content_id = piece.content_id,
                        .planes = planes,
                        .distortion = piece.all_levels[planes - 1].distortion},
            .attributes = piece.attributes};
  }

  const TenantId tenant;
  const Key key;
  const PieceSummary piece;  // as the nvme tier has it
  const uint32_t planes;     // to be in memory afterwards
  const Wanted wanted;       // by whoever asked first
  std::atomic<bool> cancelled{false};
  bool announced = false;  // to `taking`
  std::unique_ptr<HostUpload> upload;
  bool began_with_planes = false;  // that memory had
  std::vector<Waiter> waiters;     // guarded by the loader's mutex
};

PieceLoader::PieceLoader(HostStore& host, NvmeTier& nvme, Executor& executor,
                         std::function<void(uint64_t bytes)> taking)
    : host_(host),
      nvme_(nvme),
      executor_(executor),
      taking_(std::move(taking)),
      max_running_bytes_(host.arena().size() / kArenaShare),
      retrier_([this] { RetryMain(); }) {}

PieceLoader::~PieceLoader() { retrier_.join(); }

void PieceLoader::Open(TenantId tenant, const Key& key, uint32_t level, Wanted wanted,
                       PieceStore::Opened opened) {
  PieceRef held = host_.Find(tenant, key);
  if (held != nullptr && held->level() >= level) return std::move(opened)(std::move(held));
  const std::optional<PieceSummary> below = nvme_.Describe(tenant, key);
  const uint32_t planes = below.has_value() ? std::min(level + 1, below->planes_held) : 0;
  // What memory has is newer.
  const bool adds = below.has_value() &&
                    (held == nullptr || (held->meta().header().content_id == below->content_id &&
                                         held->level() + 1 < planes));
  if (!adds) return std::move(opened)(std::move(held));
  bool taken = false;
  {
    MutexLock lock(mutex_);
    const auto found = loads_.find({tenant, key});
    if (found != loads_.end()) {
      found->second->waiters.push_back({level, wanted, std::move(opened)});
      return;
    }
    // What is only to be warm leaves room for what somebody waits for.
    const size_t room = wanted == Wanted::kNow ? kMaxWaiting : kMaxWaiting / 2;
    taken = !stopping_ && waiting_.size() < room;
    if (taken) {
      auto load = std::make_shared<Load>(tenant, key, *below, planes, wanted);
      load->waiters.push_back({level, wanted, std::move(opened)});
      loads_.emplace(Name{tenant, key}, load);
      waiting_.push_back(std::move(load));
    } else {
      ++figures_.failed;
    }
  }
  if (!taken) return std::move(opened)(std::move(held));
  StartWaiting();
}

void PieceLoader::StartWaiting() {
  while (true) {
    LoadPtr load;
    {
      MutexLock lock(mutex_);
      if (waiting_.empty() || running_ == kMaxRunning) return;
      const uint64_t bytes = waiting_.front()->bytes();
      if (running_ > 0 && running_bytes_ + bytes > max_running_bytes_) return;
      load = std::move(waiting_.front());
      waiting_.pop_front();
      ++running_;
      running_bytes_ += bytes;
    }
    if (!Start(load)) return;
  }
}

bool PieceLoader::Start(const LoadPtr& load) {
  if (load->cancelled.load(std::memory_order_relaxed)) {
    Complete(load, absl::CancelledError("removed before it was loaded"));
    return true;
  }
  if (!std::exchange(load->announced, true)) taking_(load->bytes());
  const bool now = load->wanted == Wanted::kNow;
  absl::StatusOr<std::unique_ptr<HostUpload>> upload =
      host_.BeginLoad(load->tenant, load->offer(), /*fresh_too=*/now);
  if (!upload.ok()) {
    if (now && absl::IsResourceExhausted(upload.status()) && Postpone(load)) return false;
    Complete(load, upload.status());
    return true;
  }
  {
    MutexLock lock(mutex_);
    patience_.reset();
  }
  load->upload = *std::move(upload);
  load->began_with_planes = load->upload->from_offset() > 0;
  const MutableByteSpan area = load->upload->load_area();
  if (area.empty()) {
    OnRead(load, absl::OkStatus());
    return true;
  }
  nvme_.Read(load->tenant, load->key, load->piece.content_id, load->planes,
             load->upload->load_from_offset(), area,
             [this, load](absl::Status status) { OnRead(load, std::move(status)); });
  return true;
}

bool PieceLoader::Postpone(const LoadPtr& load) {
  MutexLock lock(mutex_);
  // Whatever runs besides starts what waits when it ends.
  if (running_ == 1) {
    if (!patience_.has_value()) patience_ = Deadline::After(kPatience);
    const bool could_fit = load->bytes() <= host_.arena().size();
    if (stopping_ || !could_fit || patience_->PassedAt(Clock::Steady().Now())) return false;
    retry_wanted_ = true;
    retry_.notify_one();
  }
  --running_;
  running_bytes_ -= load->bytes();
  waiting_.push_front(load);
  return true;
}

// Nobody tells when a piece in memory has been sent and could go.
void PieceLoader::RetryMain() {
  while (true) {
    {
      MutexLock lock(mutex_);
      while (!retry_wanted_ && !stopping_) retry_.wait(mutex_);
      if (stopping_ && waiting_.empty()) return;
      retry_wanted_ = false;
      retry_.wait_for(mutex_, kRetryPause);
    }
    StartWaiting();
  }
}

void PieceLoader::OnRead(const LoadPtr& load, absl::Status status) {
  if (executor_.TryRun([this, load, status] {
        Complete(load, status);
        StartWaiting();
      })) {
    return;
  }
  Complete(load, absl::ResourceExhaustedError("too much waits to be verified"));
  StartWaiting();
}

void PieceLoader::Complete(const LoadPtr& load, absl::Status status) {
  PieceRef piece;
  if (status.ok()) {
    absl::StatusOr<PieceRef> committed = load->upload->CommitLoad(load->cancelled);
    status = committed.status();
    if (committed.ok()) piece = *std::move(committed);
  }
  load->upload.reset();
  const bool loaded = status.ok();
  const bool no_room = load->wanted == Wanted::kLater &&
                       (absl::IsResourceExhausted(status) || absl::IsFailedPrecondition(status));
  if (!loaded) {
    if (!no_room) CountFailure(*load, status);
    piece = host_.Peek(load->tenant, load->key);
  }
  std::vector<Load::Waiter> waiters;
  {
    MutexLock lock(mutex_);
    waiters.swap(load->waiters);
    const auto found = loads_.find({load->tenant, load->key});
    if (found != loads_.end() && found->second == load) loads_.erase(found);
    if (loaded) {
      ++figures_.pieces;
      figures_.bytes += load->bytes();
    }
  }
  for (Load::Waiter& waiter : waiters) {
    // It joined a load of fewer planes than it wants, or one that would not make room.
    const bool again =
        loaded ? piece->level() < waiter.level : no_room && waiter.wanted == Wanted::kNow;
    if (again) {
      Open(load->tenant, load->key, waiter.level, waiter.wanted, std::move(waiter.opened));
    } else {
      std::move(waiter.opened)(piece);
    }
  }
  // Last, because Stop waits for it.
  MutexLock lock(mutex_);
  --running_;
  running_bytes_ -= load->bytes();
  ended_.notify_all();
}

void PieceLoader::CountFailure(const Load& load, const absl::Status& status) {
  // Removed or given up since it was described.
  if (absl::IsCancelled(status) || absl::IsNotFound(status)) return;
  const bool damaged = absl::IsDataLoss(status) || absl::IsUnimplemented(status);
  if (damaged && load.began_with_planes && host_.Peek(load.tenant, load.key) == nullptr) {
    // It was memory's planes, which the upload dropped; the next load brings everything.
  } else if (damaged) {
    nvme_.ReportDamage(load.tenant, load.key, load.piece.content_id);
    LogError("dropped a corrupt piece of the disk", {{"tenant", load.tenant},
                                                     {"key", load.key.digest.Hex()},
                                                     {"reason", std::string(status.message())}});
  } else {
    LogWarning("a piece could not be loaded from the disk",
               {{"tenant", load.tenant},
                {"key", load.key.digest.Hex()},
                {"reason", std::string(status.message())}});
  }
  MutexLock lock(mutex_);
  ++(damaged ? figures_.damaged : figures_.failed);
}

void PieceLoader::Cancel(TenantId tenant, const Key& key) {
  MutexLock lock(mutex_);
  const auto found = loads_.find({tenant, key});
  if (found == loads_.end()) return;
  found->second->cancelled.store(true, std::memory_order_relaxed);
  // Whoever asks from now on wants what is published from now on.
  loads_.erase(found);
}

void PieceLoader::CancelNamespace(TenantId tenant, const Digest& fingerprint) {
  MutexLock lock(mutex_);
  for (auto entry = loads_.begin(); entry != loads_.end();) {
    Load& load = *entry->second;
    if (load.tenant != tenant || load.piece.namespace_fingerprint != fingerprint) {
      ++entry;
      continue;
    }
    load.cancelled.store(true, std::memory_order_relaxed);
    entry = loads_.erase(entry);
  }
}

void PieceLoader::Stop() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    for (const LoadPtr& load : waiting_) load->cancelled.store(true, std::memory_order_relaxed);
    retry_.notify_all();
  }
  MutexLock lock(mutex_);
  while (running_ > 0 || !waiting_.empty()) ended_.wait(mutex_);
}

PieceLoader::Figures PieceLoader::figures() const {
  MutexLock lock(mutex_);
  return figures_;
}

}  // namespace reprise::storage
