#include "storage/tiered_store.h"

#include <algorithm>
#include <iterator>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

#include "common/limits.h"
#include "common/log.h"

namespace reprise::storage {
namespace {

// What both tiers have of a piece. Memory's content is newer than another on the disk.
std::optional<PieceSummary> Merge(const std::optional<PieceSummary>& host,
                                  const std::optional<PieceSummary>& nvme) {
  if (!host.has_value()) return nvme;
  if (!nvme.has_value() || nvme->content_id != host->content_id ||
      nvme->planes_held <= host->planes_held) {
    return host;
  }
  PieceSummary both = *host;
  both.planes_held = nvme->planes_held;
  both.tier = nvme->tier;
  return both;
}

// A pass over a disk of 4 TB takes less than two days, at a hundredth of what it reads at.
constexpr uint64_t kScrubBytesPerSecond = 32 * kMiB;
constexpr std::chrono::minutes kFirstScrub{1};
constexpr std::chrono::hours kScrubPause{1};

// Every load and write that runs hands one task on, and demotion is one more.
constexpr size_t kQueueLimit = PieceLoader::kMaxRunning + PieceSaver::kMaxRunning + 1;

}  // namespace

// Begins, like any upload, with what memory has; tells the tiers when the piece is there.
class TieredStore::TieredUpload final : public Upload {
 public:
  TieredUpload(TieredStore& store, TenantId tenant, const UploadOffer& offer,
               std::unique_ptr<Upload> upload)
      : store_(store), tenant_(tenant), offer_(offer), upload_(std::move(upload)) {}

  uint64_t total_bytes() const override { return upload_->total_bytes(); }
  uint64_t from_offset() const override { return upload_->from_offset(); }
  absl::StatusOr<bool> Write(uint64_t offset, ByteSpan bytes) override {
    return upload_->Write(offset, bytes);
  }
  absl::StatusOr<CommitOutcome> Commit() override {
    absl::StatusOr<CommitOutcome> outcome = upload_->Commit();
    if (outcome.ok() && *outcome == CommitOutcome::kStored) store_.Published(tenant_, offer_);
    return outcome;
  }

 private:
  TieredStore& store_;
  const TenantId tenant_;
  const UploadOffer offer_;
  const std::unique_ptr<Upload> upload_;
};

absl::StatusOr<std::unique_ptr<TieredStore>> TieredStore::Create(
    const TieredStoreOptions& options) {
  REPRISE_ASSIGN_OR_RETURN(std::unique_ptr<HostStore> host, HostStore::Create(options.host));
  NvmeOptions nvme_options = options.nvme;
  nvme_options.buffers = {host->arena()};
  REPRISE_ASSIGN_OR_RETURN(std::unique_ptr<NvmeTier> nvme, NvmeTier::Open(nvme_options));
  return std::unique_ptr<TieredStore>(new TieredStore(std::move(host), std::move(nvme), options));
}

TieredStore::TieredStore(std::unique_ptr<HostStore> host, std::unique_ptr<NvmeTier> nvme,
                         const TieredStoreOptions& options)
    : clock_(*options.host.clock),
      scrub_due_(clock_.Now() + kFirstScrub),
      host_(std::move(host)),
      nvme_(std::move(nvme)),
      executor_(std::make_unique<Executor>("tiers", options.threads, kQueueLimit)),
      loader_(std::make_unique<PieceLoader>(*host_, *nvme_, *executor_,
                                            [this](uint64_t bytes) { saver_->Added(bytes); })),
      saver_(std::make_unique<PieceSaver>(*host_, *nvme_, *loader_, *executor_,
                                          *options.host.clock)) {}

TieredStore::~TieredStore() {
  loader_->Stop();
  saver_->Stop();
  executor_.reset();  // runs what is queued, which uses the tiers
  nvme_.reset();      // reads and writes the host tier's arena
}

void TieredStore::Sweep() {
  {
    MutexLock lock(scrub_mutex_);
    if (scrubbing_ || clock_.Now() < scrub_due_) return;
    scrubbing_ = true;
  }
  nvme_->Scrub(kScrubBytesPerSecond, [this](uint64_t damaged) {
    if (damaged > 0) LogWarning("the disk lost pieces; suspect it", {{"pieces", damaged}});
    MutexLock lock(scrub_mutex_);
    scrubbing_ = false;
    scrub_due_ = clock_.Now() + kScrubPause;
  });
}

absl::StatusOr<std::unique_ptr<Upload>> TieredStore::BeginUpload(TenantId tenant,
                                                                 const UploadOffer& offer) {
  REPRISE_ASSIGN_OR_RETURN(std::unique_ptr<Upload> upload, host_->BeginUpload(tenant, offer));
  return std::make_unique<TieredUpload>(*this, tenant, offer, std::move(upload));
}

void TieredStore::Published(TenantId tenant, const UploadOffer& offer) {
  saver_->Added(offer.total_bytes);
  const std::optional<PieceSummary> below = nvme_->Describe(tenant, offer.key);
  if (!below.has_value() || below->content_id == offer.quality.content_id) return;
  // What it replaces may have been durable. Should this fail, that one stays.
  saver_->Persist(tenant, offer.key, offer.quality.content_id, [](const absl::Status&) {});
}

std::optional<PieceSummary> TieredStore::Describe(TenantId tenant, const Key& key) const {
  const std::optional<PieceSummary> held = host_->Describe(tenant, key);
  if (held.has_value() && held->planes_held == held->level_count) return held;
  if (saver_->Hides(tenant, key)) return held;
  return Merge(held, nvme_->Describe(tenant, key));
}

PieceRef TieredStore::Find(TenantId tenant, const Key& key) {
  PieceRef piece = host_->Find(tenant, key);
  if (piece != nullptr) nvme_->Use(tenant, key);
  return piece;
}

PieceRef TieredStore::Peek(TenantId tenant, const Key& key) const {
  return host_->Peek(tenant, key);
}

void TieredStore::Open(TenantId tenant, const Key& key, uint32_t level, Opened opened) {
  if (saver_->Hides(tenant, key)) return std::move(opened)(Find(tenant, key));
  loader_->Open(tenant, key, level, PieceLoader::Wanted::kNow, std::move(opened));
}

void TieredStore::Warm(TenantId tenant, const Key& key, uint32_t level, Opened opened) {
  if (saver_->Hides(tenant, key)) return std::move(opened)(Find(tenant, key));
  loader_->Open(tenant, key, level, PieceLoader::Wanted::kLater, std::move(opened));
}

void TieredStore::Persist(TenantId tenant, const Key& key, const ContentId& content,
                          Persisted done) {
  saver_->Persist(tenant, key, content, std::move(done));
}

absl::StatusOr<TenantId> TieredStore::TenantFor(std::string_view name) {
  return nvme_->TenantFor(name);
}

bool TieredStore::Hold(TenantId tenant, const Key& key, uint32_t level, Deadline until) {
  if (host_->Hold(tenant, key, level, until)) return true;
  return !saver_->Hides(tenant, key) && nvme_->Hold(tenant, key, level, until);
}

void TieredStore::Pin(TenantId tenant, const Key& key, Deadline until, Pinned done) {
  const std::optional<PieceSummary> piece = Describe(tenant, key);
  if (!piece.has_value()) {
    return std::move(done)(
        absl::NotFoundError(absl::StrCat("piece ", key.digest.Hex(), " is not held")));
  }
  const std::optional<PieceSummary> below = nvme_->Describe(tenant, key);
  if (below.has_value() && below->content_id == piece->content_id &&
      below->planes_held >= piece->planes_held && !saver_->Hides(tenant, key)) {
    return std::move(done)(nvme_->Pin(tenant, key, until));
  }
  saver_->Persist(tenant, key, piece->content_id,
                  [this, tenant, key, until, done = std::move(done)](absl::Status status) mutable {
                    if (status.ok()) status = nvme_->Pin(tenant, key, until);
                    std::move(done)(std::move(status));
                  });
}

bool TieredStore::Unpin(TenantId tenant, const Key& key) { return nvme_->Unpin(tenant, key); }

void TieredStore::SetQuota(TenantId tenant, const TenantQuota& quota) {
  host_->SetQuota(tenant, quota);
  nvme_->SetQuota(tenant, quota.disk_bytes);
  saver_->LookAheadWithin(quota.memory_bytes);
}

bool TieredStore::Remove(TenantId tenant, const Key& key, const HeldPiece* expected) {
  if (expected != nullptr) return host_->Remove(tenant, key, expected);
  const bool hidden = saver_->Hides(tenant, key);
  // The order matters: what is loaded meanwhile is in memory before that is looked at, or never;
  // and what is written from memory meanwhile is known to the saver, or never begins.
  loader_->Cancel(tenant, key);
  const bool was_in_memory = host_->Remove(tenant, key, nullptr);
  saver_->Cancel(tenant, key);
  const bool was_on_disk = nvme_->Remove(tenant, key, nullptr);
  return was_in_memory || (was_on_disk && !hidden);
}

uint64_t TieredStore::RemoveNamespace(TenantId tenant, const Digest& fingerprint) {
  // Pieces may be in both tiers, so they are counted first.
  uint64_t count = 0;
  std::optional<Key> after;
  for (bool more = true; more;) {
    const ListPage page = List(tenant, after.has_value() ? &*after : nullptr,
                               static_cast<uint32_t>(kMaxKeysPerList), &fingerprint);
    count += page.pieces.size();
    more = page.more && !page.pieces.empty();
    if (more) after = page.pieces.back().key;
  }
  loader_->CancelNamespace(tenant, fingerprint);
  host_->RemoveNamespace(tenant, fingerprint);
  saver_->CancelNamespace(tenant, fingerprint);
  nvme_->RemoveNamespace(tenant, fingerprint);
  return count;
}

ListPage TieredStore::ListDisk(TenantId tenant, const Key* after, uint32_t limit,
                               const Digest* fingerprint) const {
  // Taken first: what was removed before this call is among them, or gone from the disk too.
  const std::vector<Key> removed = saver_->Hidden(tenant);
  const auto hidden = [&](const ListPage::Entry& entry) {
    return std::ranges::binary_search(removed, entry.key);
  };
  ListPage page = nvme_->List(tenant, after, limit, fingerprint);
  while (!page.pieces.empty()) {
    const Key last = page.pieces.back().key;
    std::erase_if(page.pieces, hidden);
    if (!page.more || page.pieces.size() == limit) break;
    const auto missing = static_cast<uint32_t>(limit - page.pieces.size());
    ListPage rest = nvme_->List(tenant, &last, missing, fingerprint);
    page.more = rest.more;
    if (rest.pieces.empty()) break;
    std::ranges::move(rest.pieces, std::back_inserter(page.pieces));
  }
  return page;
}

ListPage TieredStore::List(TenantId tenant, const Key* after, uint32_t limit,
                           const Digest* fingerprint) const {
  const ListPage host = host_->List(tenant, after, limit, fingerprint);
  const ListPage nvme = ListDisk(tenant, after, limit, fingerprint);
  ListPage page;
  page.more = host.more || nvme.more;
  page.pieces.reserve(limit);
  auto above = host.pieces.begin();
  auto below = nvme.pieces.begin();
  while (above != host.pieces.end() || below != nvme.pieces.end()) {
    if (page.pieces.size() == limit) {
      page.more = true;
      break;
    }
    if (below == nvme.pieces.end() || (above != host.pieces.end() && above->key < below->key)) {
      page.pieces.push_back(*above++);
    } else if (above == host.pieces.end() || below->key < above->key) {
      page.pieces.push_back(*below++);
    } else {
      page.pieces.push_back({above->key, *Merge(above->summary, below->summary)});
      ++above;
      ++below;
    }
  }
  return page;
}

StoreUsage TieredStore::usage() const {
  StoreUsage usage = host_->usage();
  const NvmeUsage nvme = nvme_->usage();
  const PieceLoader::Figures loads = loader_->figures();
  const PieceSaver::Figures writes = saver_->figures();
  usage.disk = DiskUsage{.pieces = nvme.pieces,
                         .bytes_live = nvme.bytes_live,
                         .bytes_used = nvme.bytes_on_disk,
                         .bytes_budget = nvme.bytes_budget,
                         .bytes_memory = nvme.bytes_memory,
                         .bytes_read = nvme.bytes_read,
                         .bytes_written = nvme.bytes_written,
                         .bytes_moved = nvme.bytes_moved,
                         .loaded_pieces = loads.pieces,
                         .loaded_bytes = loads.bytes,
                         .failed_loads = loads.failed,
                         .demoted_pieces = writes.demoted_pieces,
                         .demoted_bytes = writes.demoted_bytes,
                         .persisted_pieces = writes.persisted_pieces,
                         .bytes_under_pins = nvme.bytes_under_pins,
                         .evicted_pieces = nvme.evicted_pieces,
                         .shed_pieces = nvme.shed_pieces,
                         .scrubbed_bytes = nvme.scrubbed_bytes,
                         .damaged_pieces = nvme.damaged_pieces,
                         .failed_writes = nvme.failed_writes,
                         .read_only = nvme.read_only};
  return usage;
}

}  // namespace reprise::storage
