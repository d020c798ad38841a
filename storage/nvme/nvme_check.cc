#include "storage/nvme/nvme_check.h"

#include <algorithm>
#include <map>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"

#include "chunk/container.h"
#include "common/limits.h"
#include "storage/index/piece_catalog.h"
#include "storage/nvme/segment_file.h"
#include "storage/nvme/tier_directory.h"

namespace reprise::storage {
namespace {

constexpr uint64_t kIndexMemoryBytes = 32 * kMiB;
constexpr uint64_t kProgressEvery = 256;

struct Place {
  TierIdentity identity;
  std::string segments;
  std::string index;
};

absl::StatusOr<Place> FindTier(Env& env, const std::string& directory) {
  absl::StatusOr<TierIdentity> identity = ReadIdentity(env, directory);
  if (absl::IsNotFound(identity.status())) {
    return absl::NotFoundError(absl::StrCat(
        directory, " has no file IDENTITY, so it is not what `reprise store --disk` keeps"));
  }
  REPRISE_RETURN_IF_ERROR(identity.status());
  return Place{.identity = *std::move(identity),
               .segments = SegmentDirectory(directory),
               .index = IndexDirectory(directory)};
}

absl::StatusOr<std::unique_ptr<PieceCatalog>> OpenIndex(Env& env, const Place& place,
                                                        bool read_only) {
  return PieceCatalog::Open({.directory = place.index,
                             .disk_bytes = 64 * kMiB,
                             .memory_bytes = kIndexMemoryBytes,
                             .read_only = read_only,
                             .env = &env});
}

absl::StatusOr<uint64_t> SizeOfFiles(Env& env, const std::string& directory) {
  uint64_t bytes = 0;
  REPRISE_ASSIGN_OR_RETURN(const std::vector<std::string> names, env.List(directory));
  for (const std::string& name : names) {
    const absl::StatusOr<std::unique_ptr<EnvFile>> file =
        env.Open(absl::StrCat(directory, "/", name), OpenMode::kRead, /*direct=*/false);
    if (absl::IsNotFound(file.status())) continue;  // a store is at work
    REPRISE_RETURN_IF_ERROR(file.status());
    REPRISE_ASSIGN_OR_RETURN(const uint64_t size, (*file)->SizeBytes());
    bytes += size;
  }
  return bytes;
}

class Checker {
 public:
  Checker(const NvmeCheckOptions& options, Place place)
      : options_(options), env_(*options.env), place_(std::move(place)) {}

  absl::StatusOr<NvmeCheckReport> Run() {
    REPRISE_RETURN_IF_ERROR(OpenCatalog());
    REPRISE_RETURN_IF_ERROR(OpenSegments());
    std::vector<std::pair<TenantId, Key>> damaged;
    uint64_t pieces = 0;
    const auto count = [&](TenantId, const Key&, const absl::StatusOr<PieceRecord>&) { ++pieces; };
    REPRISE_RETURN_IF_ERROR(catalog_->ForEachPiece(count));
    REPRISE_RETURN_IF_ERROR(catalog_->ForEachPiece(
        [&](TenantId tenant, const Key& key, const absl::StatusOr<PieceRecord>& record) {
          const absl::Status intact = record.ok() ? CheckPiece(key, *record) : record.status();
          if (options_.progress && report_.pieces % kProgressEvery == 0) {
            options_.progress(report_.pieces, pieces);
          }
          ++report_.pieces;
          if (intact.ok()) return;
          ++report_.damaged;
          damaged.emplace_back(tenant, key);
          Problem(absl::StrCat("piece ", key.digest.Hex(), " of tenant ", tenant, ": ",
                               intact.message()));
        }));
    if (options_.repair && !damaged.empty()) REPRISE_RETURN_IF_ERROR(Forget(damaged));
    return std::move(report_);
  }

 private:
  absl::Status OpenCatalog() {
    absl::StatusOr<std::unique_ptr<PieceCatalog>> catalog =
        OpenIndex(env_, place_, /*read_only=*/!options_.repair);
    if (!catalog.ok() && options_.repair && absl::IsDataLoss(catalog.status())) {
      Problem(absl::StrCat("the index could not be opened and was rebuilt from its files: ",
                           catalog.status().message()));
      REPRISE_RETURN_IF_ERROR(PieceCatalog::Repair({.directory = place_.index,
                                                    .disk_bytes = 64 * kMiB,
                                                    .memory_bytes = kIndexMemoryBytes,
                                                    .create = true,
                                                    .env = &env_}));
      report_.index_rebuilt = true;
      catalog = OpenIndex(env_, place_, /*read_only=*/false);
      if (catalog.ok()) {
        // Which node it was is known from the directory.
        REPRISE_RETURN_IF_ERROR((*catalog)->PutNodeId(place_.identity.node_id));
      }
    }
    if (absl::IsDataLoss(catalog.status())) {
      return absl::DataLossError(absl::StrCat(
          catalog.status().message(), "; reprise fsck --repair makes a new index of what is left"));
    }
    if (!catalog.ok()) return catalog.status();
    catalog_ = *std::move(catalog);
    REPRISE_ASSIGN_OR_RETURN(const std::optional<std::string> node, catalog_->NodeId());
    if (node.has_value() && *node != place_.identity.node_id) {
      return absl::InvalidArgumentError(
          absl::StrCat(options_.directory, " is of node ", place_.identity.node_id,
                       ", but its index of node ", *node, ": they were mixed up"));
    }
    return absl::OkStatus();
  }

  absl::Status OpenSegments() {
    REPRISE_ASSIGN_OR_RETURN(const std::vector<std::string> names, env_.List(place_.segments));
    for (const std::string& name : names) {
      const std::optional<uint32_t> number = ParseSegmentFileName(name);
      if (!number.has_value()) continue;
      REPRISE_ASSIGN_OR_RETURN(std::unique_ptr<EnvFile> file,
                               env_.Open(absl::StrCat(place_.segments, "/", name), OpenMode::kRead,
                                         /*direct=*/false));
      const absl::StatusOr<std::optional<SegmentIdentity>> header = ReadSegmentHeader(*file);
      const SegmentIdentity own{place_.identity.node_id, *number};
      if (header.ok() && header->has_value() && **header != own) {
        return absl::InvalidArgumentError(absl::StrCat(
            name, " is segment ", (*header)->number, " of node ", (*header)->node_id, ", not ",
            own.number, " of ", own.node_id, ": take the file away, and check again"));
      }
      // No piece depends on a header, and a store writes a damaged one anew.
      if (!header.ok() || !header->has_value())
        Problem(absl::StrCat(name, ": its header is damaged"));
      files_.emplace(*number, std::move(file));
    }
    return absl::OkStatus();
  }

  absl::Status ReadRun(const RunPlace& place, MutableByteSpan to) {
    const auto file = files_.find(place.segment);
    if (file == files_.end()) {
      return absl::DataLossError(absl::StrCat("its segment ", place.segment, " is not there"));
    }
    report_.bytes += to.size();
    return file->second->ReadAt(place.offset(), to);
  }

  absl::Status CheckPiece(const Key& key, const PieceRecord& record) {
    const uint64_t length = record.summary.held_bytes();
    if (length > kMaxPieceMetaBytes + kMaxPieceBodyBytes) {
      return absl::DataLossError(absl::StrCat("a length of ", length, " bytes"));
    }
    container_.resize(record.run_bytes());
    const MutableByteSpan all(container_);
    REPRISE_RETURN_IF_ERROR(ReadRun(record.base, all.first(record.base_bytes())));
    if (record.has_refinement()) {
      REPRISE_RETURN_IF_ERROR(ReadRun(record.refinement, all.subspan(record.base_bytes())));
    }
    const ByteSpan container = all.first(length);
    REPRISE_ASSIGN_OR_RETURN(const PieceMeta meta, PieceMeta::Parse(container));
    if (meta.header().key != key) {
      return absl::DataLossError(
          absl::StrCat("its bytes are of piece ", meta.header().key.digest.Hex()));
    }
    if (meta.header().content_id != record.summary.content_id) {
      return absl::DataLossError("its bytes are of other content than the index says");
    }
    const uint32_t level = record.summary.planes_held - 1;
    if (level >= meta.level_count() || meta.bytes_to(level) != length) {
      return absl::DataLossError("its levels are not as long as the index says");
    }
    return meta.VerifyBody(container.subspan(meta.meta_bytes()), level);
  }

  absl::Status Forget(const std::vector<std::pair<TenantId, Key>>& damaged) {
    PieceCatalog::Batch batch;
    for (const auto& [tenant, key] : damaged) batch.Delete(tenant, key);
    REPRISE_RETURN_IF_ERROR(catalog_->Commit(std::move(batch), /*sync=*/true));
    report_.forgotten = damaged.size();
    return absl::OkStatus();
  }

  void Problem(std::string line) {
    if (report_.problems.size() < NvmeCheckReport::kMaxProblems) {
      report_.problems.push_back(std::move(line));
    }
  }

  const NvmeCheckOptions& options_;
  Env& env_;
  const Place place_;
  std::unique_ptr<PieceCatalog> catalog_;
  std::map<uint32_t, std::unique_ptr<EnvFile>> files_;
  std::vector<std::byte> container_;
  NvmeCheckReport report_;
};

}  // namespace

absl::StatusOr<NvmeContents> ReadNvmeContents(const std::string& directory, Env& env) {
  REPRISE_ASSIGN_OR_RETURN(const Place place, FindTier(env, directory));
  NvmeContents contents{.node_id = place.identity.node_id,
                        .segment_bytes = place.identity.segment_bytes};
  REPRISE_ASSIGN_OR_RETURN(const std::vector<std::string> names, env.List(place.segments));
  contents.segments = static_cast<uint64_t>(std::ranges::count_if(
      names, [](const std::string& name) { return ParseSegmentFileName(name).has_value(); }));
  REPRISE_ASSIGN_OR_RETURN(contents.bytes_in_segments, SizeOfFiles(env, place.segments));
  REPRISE_ASSIGN_OR_RETURN(contents.bytes_index, SizeOfFiles(env, place.index));
  REPRISE_ASSIGN_OR_RETURN(const std::unique_ptr<PieceCatalog> catalog,
                           OpenIndex(env, place, /*read_only=*/true));
  std::map<TenantId, std::string> tenants;
  REPRISE_ASSIGN_OR_RETURN(const std::vector<PieceCatalog::Tenant> known, catalog->Tenants());
  for (const PieceCatalog::Tenant& tenant : known) tenants[tenant.number] = tenant.name;
  std::map<std::pair<TenantId, Digest>, NvmeContents::Namespace> namespaces;
  REPRISE_RETURN_IF_ERROR(catalog->ForEachPiece(
      [&](TenantId tenant, const Key& /*key*/, const absl::StatusOr<PieceRecord>& record) {
        if (!record.ok()) {
          ++contents.bad_records;
          return;
        }
        ++contents.pieces;
        contents.bytes_live += record->run_bytes();
        const Digest& fingerprint = record->summary.namespace_fingerprint;
        NvmeContents::Namespace& name_space = namespaces[{tenant, fingerprint}];
        name_space.tenant = tenant;
        name_space.fingerprint = fingerprint;
        ++name_space.pieces;
        name_space.bytes += record->run_bytes();
      }));
  for (auto& [name, name_space] : namespaces) {
    name_space.tenant_name = tenants[name.first];
    contents.namespaces.push_back(std::move(name_space));
  }
  std::ranges::stable_sort(contents.namespaces, std::ranges::greater{},
                           &NvmeContents::Namespace::bytes);
  return contents;
}

absl::StatusOr<NvmeCheckReport> CheckNvme(const NvmeCheckOptions& options) {
  REPRISE_ASSIGN_OR_RETURN(Place place, FindTier(*options.env, options.directory));
  // No store may change what is being compared.
  REPRISE_ASSIGN_OR_RETURN(const std::unique_ptr<DirectoryLock> lock,
                           LockTier(*options.env, options.directory));
  return Checker(options, std::move(place)).Run();
}

}  // namespace reprise::storage
