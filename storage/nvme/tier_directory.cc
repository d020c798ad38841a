#include "storage/nvme/tier_directory.h"

#include <algorithm>
#include <bit>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"

#include "common/limits.h"
#include "storage/nvme/run_stream.h"
#include "storage/nvme/segment_file.h"

namespace reprise::storage {
namespace {

constexpr char kLockName[] = "LOCK";
constexpr char kIdentityName[] = "IDENTITY";
constexpr char kNewIdentityName[] = "IDENTITY.new";
constexpr char kTitle[] = "reprise nvme tier";
constexpr uint64_t kVersion = 1;
constexpr uint64_t kMaxIdentityBytes = 4 * kKiB;

// Segments chosen for a budget: small enough that one set aside is little, large enough that
// emptying one is a long sequential write.
constexpr uint64_t kSegmentShare = 32;
constexpr uint64_t kMinChosenSegmentBytes = 16 * kMiB;
constexpr uint64_t kMaxChosenSegmentBytes = 512 * kMiB;
// Of disk and memory, the index's share.
constexpr uint64_t kIndexDiskShare = 32;
constexpr uint64_t kIndexMemoryShare = 4;
constexpr uint64_t kMaxIndexMemoryBytes = 64 * kMiB;
// IDENTITY, LOCK and the folders themselves.
constexpr uint64_t kOtherDiskBytes = 64 * kKiB;
// Windows of reclaim and scrubber.
constexpr uint64_t kOtherMemoryBytes = 2 * RunStream::kWindowBytes;
constexpr size_t kMinPieces = 64;

std::string NewNodeId(Env& env) {
  return absl::StrFormat("%016x%016x", env.Random(), env.Random());
}

// Of a directory that is new.
uint64_t NewSegmentBytes(const NvmeOptions& options) {
  if (options.segment_bytes != 0) return options.segment_bytes;
  return std::clamp(std::bit_floor(options.budget_bytes / kSegmentShare), kMinChosenSegmentBytes,
                    kMaxChosenSegmentBytes);
}

absl::Status CheckSegmentBytes(uint64_t segment_bytes) {
  if (segment_bytes >= 2 * kPageBytes && segment_bytes <= kMaxSegmentBytes &&
      segment_bytes % kPageBytes == 0) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat("segments of ", segment_bytes, " bytes; they have ", 2 * kPageBytes, " to ",
                   kMaxSegmentBytes, ", whole pages of ", kPageBytes));
}

std::string ParentOf(const std::string& directory) {
  const size_t end = directory.find_last_not_of('/');
  const size_t slash = directory.rfind('/', end);
  if (slash == std::string::npos) return ".";
  return directory.substr(0, std::max<size_t>(slash, 1));
}

absl::Status WriteIdentity(Env& env, const std::string& directory, const TierIdentity& identity) {
  const std::string path = absl::StrCat(directory, "/", kNewIdentityName);
  // The directory may be new, and what is in it only as durable as its name.
  REPRISE_RETURN_IF_ERROR(env.SyncDirectory(ParentOf(directory)));
  {
    REPRISE_ASSIGN_OR_RETURN(const std::unique_ptr<EnvFile> file,
                             env.Open(path, OpenMode::kReplace, /*direct=*/false));
    REPRISE_RETURN_IF_ERROR(file->WriteAt(0, AsBytes(FormatIdentity(identity))));
    REPRISE_RETURN_IF_ERROR(file->Sync());
  }
  REPRISE_RETURN_IF_ERROR(env.Rename(path, absl::StrCat(directory, "/", kIdentityName)));
  return env.SyncDirectory(directory);
}

// Takes the lock of a directory that is ours or empty.
absl::StatusOr<std::unique_ptr<DirectoryLock>> LockDirectory(Env& env,
                                                             const std::string& directory) {
  REPRISE_ASSIGN_OR_RETURN(const bool exists, env.Exists(directory));
  if (!exists) REPRISE_RETURN_IF_ERROR(env.CreateDirectory(directory));
  REPRISE_ASSIGN_OR_RETURN(const std::vector<std::string> names, env.List(directory));
  if (std::ranges::find(names, std::string(kIdentityName)) == names.end()) {
    for (const std::string& name : names) {
      if (name == kLockName || name == kNewIdentityName) continue;
      return absl::InvalidArgumentError(absl::StrCat(
          directory, " has no file IDENTITY but has ", name,
          ", so it is no disk tier of Reprise; give an empty directory or a new name"));
    }
  }
  return LockTier(env, directory);
}

absl::StatusOr<TierIdentity> FindIdentity(const NvmeOptions& options) {
  Env& env = *options.env;
  REPRISE_ASSIGN_OR_RETURN(const bool exists,
                           env.Exists(absl::StrCat(options.directory, "/", kIdentityName)));
  if (exists) {
    REPRISE_ASSIGN_OR_RETURN(TierIdentity identity, ReadIdentity(env, options.directory));
    REPRISE_RETURN_IF_ERROR(CheckSegmentBytes(identity.segment_bytes));
    if (options.segment_bytes == 0 || options.segment_bytes == identity.segment_bytes) {
      return identity;
    }
    return absl::InvalidArgumentError(
        absl::StrCat(options.directory, " has segments of ", identity.segment_bytes, " bytes, not ",
                     options.segment_bytes, "; leave the size out, or give another directory"));
  }
  const TierIdentity identity{.node_id = NewNodeId(env), .segment_bytes = NewSegmentBytes(options)};
  REPRISE_RETURN_IF_ERROR(CheckSegmentBytes(identity.segment_bytes));
  return identity;
}

// The least that Divide takes. What the index gets is a share of that, too.
uint64_t MinimumBudgetBytes(uint64_t segment_bytes) {
  const uint64_t rest = SegmentSpace::kMinSegments * segment_bytes + kOtherDiskBytes;
  return std::max(rest + PieceCatalog::kMinDiskBytes, rest + (rest - 1) / (kIndexDiskShare - 1));
}

// How budget and memory are divided.
absl::Status Divide(const NvmeOptions& options, TierDirectory& directory) {
  TierLayout& layout = directory.layout;
  directory.index_disk_bytes =
      std::max(options.budget_bytes / kIndexDiskShare, PieceCatalog::kMinDiskBytes);
  const uint64_t beside = directory.index_disk_bytes + kOtherDiskBytes;
  const uint64_t segments =
      options.budget_bytes > beside ? (options.budget_bytes - beside) / layout.segment_bytes : 0;
  if (segments < SegmentSpace::kMinSegments) {
    return absl::InvalidArgumentError(
        absl::StrCat("a disk budget of ", options.budget_bytes, " bytes for ", options.directory,
                     " is too small for ", SegmentSpace::kMinSegments, " segments of ",
                     layout.segment_bytes, " and ", beside, " for the index; give at least ",
                     MinimumBudgetBytes(layout.segment_bytes)));
  }
  layout.max_segments = static_cast<uint32_t>(std::min<uint64_t>(segments, kMaxSegments));

  directory.index_memory_bytes = std::clamp(options.memory_bytes / kIndexMemoryShare,
                                            PieceCatalog::kMinMemoryBytes, kMaxIndexMemoryBytes);
  const uint64_t taken = directory.index_memory_bytes + kOtherMemoryBytes;
  if (options.memory_bytes > taken) {
    layout.max_pieces = std::min<uint64_t>(
        ResidentPieces::MaxPieces(options.memory_bytes - taken, options.make_policy),
        PieceCatalog::MaxPieces(directory.index_disk_bytes));
  }
  if (layout.max_pieces < kMinPieces) {
    return absl::InvalidArgumentError(absl::StrCat(
        "memory of ", options.memory_bytes, " bytes for the index of ", options.directory,
        " is enough for ", layout.max_pieces, " pieces; give it several megabytes"));
  }
  return absl::OkStatus();
}

}  // namespace

std::string FormatIdentity(const TierIdentity& identity) {
  return absl::StrCat(kTitle, "\nversion ", kVersion, "\nnode ", identity.node_id,
                      "\nsegment_bytes ", identity.segment_bytes, "\n");
}

absl::StatusOr<TierIdentity> ParseIdentity(std::string_view text) {
  const std::vector<std::string> lines = absl::StrSplit(std::string(text), '\n');
  uint64_t version = 0;
  if (lines.size() < 2 || lines[0] != kTitle || !lines[1].starts_with("version ") ||
      !absl::SimpleAtoi(lines[1].substr(8), &version)) {
    return absl::DataLossError("this is not what Reprise writes; restore it from a backup");
  }
  if (version != kVersion) {
    return absl::InvalidArgumentError(
        absl::StrCat("the directory has version ", version, " and this build reads ", kVersion,
                     "; use the build that wrote it, or another directory"));
  }
  TierIdentity identity;
  std::array<std::byte, kNodeIdBytes / 2> id_bytes;
  if (lines.size() == 5 && lines[2].starts_with("node ") &&
      lines[3].starts_with("segment_bytes ") && lines[4].empty()) {
    identity.node_id = lines[2].substr(5);
    if (FromHex(identity.node_id, id_bytes) &&
        absl::SimpleAtoi(lines[3].substr(14), &identity.segment_bytes)) {
      return identity;
    }
  }
  return absl::DataLossError(
      "it is damaged: it should name a node of 32 digits and a number of segment_bytes; restore "
      "it from a backup");
}

absl::StatusOr<TierIdentity> ReadIdentity(Env& env, const std::string& directory) {
  const std::string path = absl::StrCat(directory, "/", kIdentityName);
  REPRISE_ASSIGN_OR_RETURN(const std::unique_ptr<EnvFile> file,
                           env.Open(path, OpenMode::kRead, /*direct=*/false));
  REPRISE_ASSIGN_OR_RETURN(const uint64_t size_bytes, file->SizeBytes());
  if (size_bytes > kMaxIdentityBytes) {
    return absl::DataLossError(absl::StrCat(path, " has ", size_bytes, " bytes"));
  }
  std::string text(size_bytes, '\0');
  REPRISE_RETURN_IF_ERROR(file->ReadAt(0, std::as_writable_bytes(std::span(text))));
  absl::StatusOr<TierIdentity> identity = ParseIdentity(text);
  if (!identity.ok()) return Annotate(identity.status(), path);
  return identity;
}

std::string SegmentDirectory(const std::string& directory) {
  return absl::StrCat(directory, "/segments");
}

std::string IndexDirectory(const std::string& directory) {
  return absl::StrCat(directory, "/index");
}

absl::StatusOr<std::unique_ptr<DirectoryLock>> LockTier(Env& env, const std::string& directory) {
  return env.Lock(absl::StrCat(directory, "/", kLockName));
}

absl::StatusOr<TierDirectory> OpenTierDirectory(const NvmeOptions& options) {
  Env& env = *options.env;
  if (!options.make_policy || options.directory.empty()) {
    return absl::InvalidArgumentError("a disk tier needs a directory and a policy");
  }
  TierDirectory directory;
  const std::string identity_path = absl::StrCat(options.directory, "/", kIdentityName);
  const absl::StatusOr<bool> is_tier = env.Exists(identity_path);
  if (absl::IsInvalidArgument(is_tier.status())) {
    return absl::InvalidArgumentError(
        absl::StrCat(is_tier.status().message(), "; ", options.directory,
                     " is no directory: give one, or a name that is not taken"));
  }
  if (!is_tier.ok()) return is_tier.status();
  if (!*is_tier) {
    // What needs no directory is looked at first, so that a typing error leaves none behind.
    directory.layout.segment_bytes = NewSegmentBytes(options);
    REPRISE_RETURN_IF_ERROR(CheckSegmentBytes(directory.layout.segment_bytes));
    REPRISE_RETURN_IF_ERROR(Divide(options, directory));
  }

  REPRISE_ASSIGN_OR_RETURN(directory.lock, LockDirectory(env, options.directory));
  REPRISE_ASSIGN_OR_RETURN(const TierIdentity identity, FindIdentity(options));
  TierLayout& layout = directory.layout;
  layout.node_id = identity.node_id;
  layout.segment_bytes = identity.segment_bytes;
  layout.segment_directory = SegmentDirectory(options.directory);
  layout.index_directory = IndexDirectory(options.directory);
  REPRISE_RETURN_IF_ERROR(Divide(options, directory));

  REPRISE_ASSIGN_OR_RETURN(const bool exists, env.Exists(identity_path));
  if (!exists) REPRISE_RETURN_IF_ERROR(WriteIdentity(env, options.directory, identity));
  REPRISE_RETURN_IF_ERROR(env.CreateDirectory(layout.segment_directory));
  REPRISE_RETURN_IF_ERROR(env.CreateDirectory(layout.index_directory));
  REPRISE_RETURN_IF_ERROR(env.SyncDirectory(options.directory));
  REPRISE_ASSIGN_OR_RETURN(const std::vector<std::string> names,
                           env.List(layout.segment_directory));
  directory.index_may_be_absent = names.empty();
  return directory;
}

}  // namespace reprise::storage
