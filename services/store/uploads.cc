#include "services/store/uploads.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

namespace reprise::store {

absl::StatusOr<UploadTable::Started> UploadTable::Begin(
    const UploadOrder& order, uint64_t total_bytes, TimePoint now,
    absl::FunctionRef<absl::StatusOr<std::unique_ptr<storage::Upload>>()> begin) {
  {
    MutexLock lock(mutex_);
    if (closed_) return absl::UnavailableError("the session is over");
    if (count_ >= limits_.max_uploads) {
      return absl::ResourceExhaustedError(absl::StrCat("this session has ", count_,
                                                       " uploads under way, of at most ",
                                                       limits_.max_uploads, "; finish one first"));
    }
    if (total_bytes > limits_.max_bytes - bytes_) {
      return absl::ResourceExhaustedError(
          absl::StrCat("this session has ", bytes_, " bytes of uploads under way; ", total_bytes,
                       " more would exceed its limit of ", limits_.max_bytes));
    }
    ++count_;
    bytes_ += total_bytes;
  }
  absl::StatusOr<std::unique_ptr<storage::Upload>> upload = begin();
  MutexLock lock(mutex_);
  if (!upload.ok() || closed_) {
    --count_;
    bytes_ -= total_bytes;
    if (!upload.ok()) return upload.status();
    return absl::UnavailableError("the session is over");
  }
  Started started;
  started.id = next_id_++;
  started.upload = std::make_shared<ActiveUpload>(order, *std::move(upload));
  started.upload->last_step_ = now;
  uploads_.emplace(started.id, started.upload);
  return started;
}

std::shared_ptr<ActiveUpload> UploadTable::Find(uint64_t id, TimePoint now) {
  MutexLock lock(mutex_);
  const auto found = uploads_.find(id);
  if (found == uploads_.end()) return nullptr;
  found->second->last_step_ = now;
  return found->second;
}

void UploadTable::Erase(uint64_t id) {
  std::shared_ptr<ActiveUpload> dropped;  // dies outside the lock
  MutexLock lock(mutex_);
  const auto found = uploads_.find(id);
  if (found == uploads_.end()) return;
  --count_;
  bytes_ -= found->second->total_bytes();
  dropped = std::move(found->second);
  uploads_.erase(found);
}

size_t UploadTable::DropIdle(TimePoint now) {
  std::vector<std::shared_ptr<ActiveUpload>> dropped;
  MutexLock lock(mutex_);
  for (auto entry = uploads_.begin(); entry != uploads_.end();) {
    if (now - entry->second->last_step_ < limits_.idle) {
      ++entry;
      continue;
    }
    --count_;
    bytes_ -= entry->second->total_bytes();
    dropped.push_back(std::move(entry->second));
    uploads_.erase(entry++);
  }
  return dropped.size();
}

void UploadTable::Close() {
  absl::flat_hash_map<uint64_t, std::shared_ptr<ActiveUpload>> dropped;
  MutexLock lock(mutex_);
  closed_ = true;
  dropped.swap(uploads_);
  for (const auto& [id, upload] : dropped) {
    --count_;
    bytes_ -= upload->total_bytes();
  }
}

}  // namespace reprise::store
