#include "storage/nvme/nvme_tier.h"

#include <map>
#include <utility>

#include "absl/strings/str_cat.h"

#include "common/limits.h"
#include "common/log.h"
#include "storage/nvme/committer.h"
#include "storage/nvme/piece_reader.h"
#include "storage/nvme/piece_writer.h"
#include "storage/nvme/reclaimer.h"
#include "storage/nvme/recovery.h"
#include "storage/nvme/scrubber.h"
#include "storage/nvme/tier_directory.h"
#include "storage/nvme/tier_state.h"

namespace reprise::storage {
namespace {

constexpr uint32_t kReadDepth = 128;
constexpr uint32_t kWriteDepth = 64;

constexpr char kHowToMend[] = "; `reprise fsck` tells what can be saved, or give another directory";

// About what the file system says when a tier opens; the other messages say it themselves.
const char* WhatToDo(absl::StatusCode code) {
  switch (code) {
    case absl::StatusCode::kNotFound:
      return "; make what is missing, or give another directory";
    case absl::StatusCode::kPermissionDenied:
      return "; let this user write there (a mount may be read-only), or give another directory";
    case absl::StatusCode::kResourceExhausted:
      return "; make room for it, or give another directory";
    case absl::StatusCode::kInternal:
      return "; the device may be gone or ill: the kernel's log says more";
    default:
      return "";
  }
}

absl::Status CheckNode(PieceCatalog& catalog, const TierDirectory& directory) {
  REPRISE_ASSIGN_OR_RETURN(const std::optional<std::string> node_id, catalog.NodeId());
  const TierLayout& layout = directory.layout;
  if (node_id.has_value() && *node_id != layout.node_id) {
    return absl::InvalidArgumentError(absl::StrCat(
        layout.index_directory, " is the index of node ", *node_id, " and IDENTITY says ",
        layout.node_id,
        "; the two were not written together: restore either, or give another directory"));
  }
  if (node_id.has_value()) return absl::OkStatus();
  if (!directory.index_may_be_absent) {
    return absl::DataLossError(
        absl::StrCat("the index in ", layout.index_directory, " is empty", kHowToMend));
  }
  return catalog.PutNodeId(layout.node_id);
}

}  // namespace

class NvmeTier::Impl {
 public:
  static absl::StatusOr<std::unique_ptr<Impl>> Open(const NvmeOptions& options);
  Impl(const NvmeOptions& options, TierDirectory directory, std::unique_ptr<PieceCatalog> catalog)
      : lock_(std::move(directory.lock)),
        index_memory_bytes_(directory.index_memory_bytes),
        state(options, directory.layout, std::move(catalog)) {}

  ~Impl() {
    // New segments are made for what waits until it is written or refused.
    if (writer != nullptr) writer->WaitUntilIdle();
    scrubber.reset();
    reclaimer.reset();
    reader.reset();
    committer.reset();
    writer.reset();
  }

  absl::Status Start() {
    REPRISE_RETURN_IF_ERROR(OpenSegments(state));
    REPRISE_RETURN_IF_ERROR(LoadPieces(state));
    REPRISE_ASSIGN_OR_RETURN(std::vector<PieceCatalog::Tenant> tenants, state.catalog->Tenants());
    {
      MutexLock lock(tenants_mutex_);
      for (PieceCatalog::Tenant& tenant : tenants) {
        last_tenant_ = std::max(last_tenant_, tenant.number);
        tenants_.emplace(std::move(tenant.name), tenant.number);
      }
    }
    Env& env = state.env;
    REPRISE_ASSIGN_OR_RETURN(std::unique_ptr<RunStream> moves, RunStream::Create());
    REPRISE_ASSIGN_OR_RETURN(std::unique_ptr<RunStream> scrubs, RunStream::Create());
    REPRISE_ASSIGN_OR_RETURN(
        std::unique_ptr<DiskQueue> reads,
        env.CreateQueue(
            {.name = "nvme-read", .depth = kReadDepth, .buffers = state.options.buffers}));
    REPRISE_ASSIGN_OR_RETURN(
        std::unique_ptr<DiskQueue> writes,
        env.CreateQueue(
            {.name = "nvme-write", .depth = kWriteDepth, .buffers = state.options.buffers}));
    committer = std::make_unique<Committer>(state, [this] { RoomMade(); });
    writer = std::make_unique<PieceWriter>(state, *committer, std::move(writes));
    reader = std::make_unique<PieceReader>(state, std::move(reads));
    reclaimer = std::make_unique<Reclaimer>(state, *committer, *writer, std::move(moves));
    scrubber = std::make_unique<Scrubber>(state, std::move(scrubs));
    MutexLock lock(state.mutex);
    room_wanted = true;
    return absl::OkStatus();
  }

  absl::StatusOr<TenantId> TenantFor(std::string_view name) {
    if (name.empty() || name.size() > kMaxTenantNameBytes) {
      return absl::InvalidArgumentError(absl::StrCat(
          "a tenant's name of ", name.size(), " bytes; names have 1 to ", kMaxTenantNameBytes));
    }
    MutexLock lock(tenants_mutex_);
    const auto found = tenants_.find(name);
    if (found != tenants_.end()) return found->second;
    if (tenants_.size() == kMaxTenants) {
      return absl::ResourceExhaustedError(
          absl::StrCat("a store knows at most ", kMaxTenants, " tenants"));
    }
    const TenantId number = last_tenant_ + 1;
    const absl::Status written =
        state.catalog->PutTenant({.name = std::string(name), .number = number});
    if (!written.ok()) return absl::InternalError(written.message());
    last_tenant_ = number;
    tenants_.emplace(name, number);
    return number;
  }

  NvmeUsage Usage() {
    MutexLock lock(state.mutex);
    NvmeUsage usage = state.counted;
    const ResidentPieces::Counts& counts = state.pieces.counts();
    usage.pieces = state.pieces.view().size();
    usage.bytes_live = state.space.live_bytes();
    usage.bytes_on_disk =
        state.space.files() * state.layout.segment_bytes + state.catalog->DiskBytes();
    usage.bytes_budget = state.options.budget_bytes;
    usage.bytes_memory = index_memory_bytes_ + 2 * RunStream::kWindowBytes +
                         state.pieces.memory_bytes() + state.space.memory_bytes();
    usage.bytes_under_pins = state.pieces.pinned_bytes();
    usage.evicted_pieces = counts.evicted;
    usage.shed_pieces = counts.shed;
    usage.damaged_pieces = counts.damaged;
    usage.read_only = !state.MayWrite().ok();
    return usage;
  }

 private:
  // Called by the committer, which is there before the writer.
  void RoomMade() {
    {
      MutexLock lock(state.mutex);
      state.wake_reclaimer.notify_all();
      if (!room_wanted) return;
    }
    writer->DispatchWaiting();
  }

  const std::unique_ptr<DirectoryLock> lock_;
  const uint64_t index_memory_bytes_;

  Mutex tenants_mutex_;
  std::map<std::string, TenantId, std::less<>> tenants_ ABSL_GUARDED_BY(tenants_mutex_);
  TenantId last_tenant_ ABSL_GUARDED_BY(tenants_mutex_) = 0;

 public:
  TierState state;
  bool room_wanted ABSL_GUARDED_BY(state.mutex) = false;
  std::unique_ptr<Committer> committer;
  std::unique_ptr<PieceWriter> writer;
  std::unique_ptr<PieceReader> reader;
  std::unique_ptr<Reclaimer> reclaimer;
  std::unique_ptr<Scrubber> scrubber;
};

absl::StatusOr<std::unique_ptr<NvmeTier>> NvmeTier::Open(const NvmeOptions& options) {
  absl::StatusOr<std::unique_ptr<Impl>> impl = Impl::Open(options);
  if (!impl.ok()) {
    return absl::Status(impl.status().code(),
                        absl::StrCat(impl.status().message(), WhatToDo(impl.status().code())));
  }
  return std::unique_ptr<NvmeTier>(new NvmeTier(*std::move(impl)));
}

absl::StatusOr<std::unique_ptr<NvmeTier::Impl>> NvmeTier::Impl::Open(const NvmeOptions& options) {
  REPRISE_ASSIGN_OR_RETURN(TierDirectory directory, OpenTierDirectory(options));
  absl::StatusOr<std::unique_ptr<PieceCatalog>> catalog =
      PieceCatalog::Open({.directory = directory.layout.index_directory,
                          .disk_bytes = directory.index_disk_bytes,
                          .memory_bytes = directory.index_memory_bytes,
                          .create = directory.index_may_be_absent,
                          .env = options.env});
  if (absl::IsDataLoss(catalog.status())) {
    return absl::DataLossError(absl::StrCat(catalog.status().message(), kHowToMend));
  }
  if (!catalog.ok()) return catalog.status();
  REPRISE_RETURN_IF_ERROR(CheckNode(**catalog, directory));
  auto impl = std::make_unique<Impl>(options, std::move(directory), *std::move(catalog));
  if (absl::Status status = impl->Start(); !status.ok()) {
    if (absl::IsDataLoss(status)) {
      return absl::DataLossError(absl::StrCat(status.message(), kHowToMend));
    }
    return status;
  }
  return impl;
}

NvmeTier::NvmeTier(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

NvmeTier::~NvmeTier() = default;

absl::StatusOr<TenantId> NvmeTier::TenantFor(std::string_view name) {
  return impl_->TenantFor(name);
}

std::optional<PieceSummary> NvmeTier::Describe(TenantId tenant, const Key& key) const {
  MutexLock lock(impl_->state.mutex);
  const ResidentPieces& pieces = impl_->state.pieces;
  const std::optional<PieceView::Number> piece = pieces.FindLive(tenant, key);
  if (!piece.has_value()) return std::nullopt;
  return pieces.view().record(*piece).summary;
}

ListPage NvmeTier::List(TenantId tenant, const Key* after, uint32_t limit,
                        const Digest* fingerprint) const {
  MutexLock lock(impl_->state.mutex);
  return impl_->state.pieces.List(tenant, after, limit, fingerprint);
}

void NvmeTier::Write(WriteRequest request, Done done) {
  impl_->writer->Write(std::move(request), std::move(done));
}

void NvmeTier::Read(TenantId tenant, const Key& key, const ContentId& content, uint32_t planes,
                    uint64_t from_offset, MutableByteSpan to, Done done) {
  impl_->reader->Read(tenant, key, content, planes, from_offset, to, std::move(done));
}

void NvmeTier::ReportDamage(TenantId tenant, const Key& key, const ContentId& content) {
  TierState& state = impl_->state;
  MutexLock lock(state.mutex);
  const std::optional<PieceView::Number> piece = state.pieces.Find(tenant, key, content);
  if (!piece.has_value()) return;
  LogError("dropped a corrupt piece", {{"tenant", tenant}, {"key", key.digest.Hex()}});
  state.pieces.ForgetDamaged(*piece);
  state.WakeCommitterIfNeeded();
}

bool NvmeTier::Hold(TenantId tenant, const Key& key, uint32_t level, Deadline until) {
  MutexLock lock(impl_->state.mutex);
  return impl_->state.pieces.Hold(tenant, key, level, until);
}

absl::Status NvmeTier::Pin(TenantId tenant, const Key& key, Deadline until) {
  MutexLock lock(impl_->state.mutex);
  return impl_->state.pieces.Pin(tenant, key, until);
}

bool NvmeTier::Unpin(TenantId tenant, const Key& key) {
  MutexLock lock(impl_->state.mutex);
  return impl_->state.pieces.Unpin(tenant, key);
}

void NvmeTier::SetQuota(TenantId tenant, uint64_t quota_bytes) {
  TierState& state = impl_->state;
  MutexLock lock(state.mutex);
  state.pieces.SetQuota(tenant, quota_bytes);
  state.WakeCommitterIfNeeded();
}

bool NvmeTier::Remove(TenantId tenant, const Key& key, const ContentId* expected) {
  TierState& state = impl_->state;
  MutexLock lock(state.mutex);
  const std::optional<PieceView::Number> piece = expected == nullptr
                                                     ? state.pieces.Find(tenant, key)
                                                     : state.pieces.Find(tenant, key, *expected);
  if (!piece.has_value()) return false;
  state.pieces.Forget(*piece);
  state.WakeCommitterIfNeeded();
  return true;
}

uint64_t NvmeTier::RemoveNamespace(TenantId tenant, const Digest& fingerprint) {
  TierState& state = impl_->state;
  uint64_t removed = 0;
  std::optional<Key> after;
  for (bool more = true; more;) {
    // In batches, so that others get the lock in between.
    MutexLock lock(state.mutex);
    removed += state.pieces.ForgetNamespace(tenant, fingerprint, after, more);
    state.WakeCommitterIfNeeded();
  }
  return removed;
}

void NvmeTier::Use(TenantId tenant, const Key& key) {
  MutexLock lock(impl_->state.mutex);
  const std::optional<PieceView::Number> piece = impl_->state.pieces.Find(tenant, key);
  if (piece.has_value()) impl_->state.pieces.Use(*piece);
}

void NvmeTier::Scrub(uint64_t bytes_per_second, absl::AnyInvocable<void(uint64_t) &&> done) {
  impl_->scrubber->Scrub(bytes_per_second, std::move(done));
}

NvmeUsage NvmeTier::usage() const { return impl_->Usage(); }

}  // namespace reprise::storage
