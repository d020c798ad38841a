// What a disk holds, in memory: files and directories as they are now, and as they would be found
// after a power loss. A value: a copy shares every page that neither side writes to afterwards, so
// that a test can keep one for each of thousands of moments. Not thread-safe.
//
// Durable are the bytes and the size of a file as of its last Sync and the names in a directory as
// of its last SyncDirectory, nothing else: a synced file has no name before its directory is
// synced. Each 4 KiB page of a file, its size, and each change of names may survive a power loss
// alone.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "common/bytes.h"
#include "common/status.h"

namespace reprise::storage {

// What was not made durable when power is lost: all of it is gone; a random part of it survives, of
// each page and name in any version it had since; and that, with pages mixed of the 512-byte
// sectors of several versions.
enum class PowerLossMode : uint8_t { kDrop, kSubset, kTorn };

class DiskImage {
 public:
  using Node = uint64_t;  // a file or a directory, whatever its name is

  DiskImage();

  // NOT_FOUND, and INVALID_ARGUMENT where a file is taken for a directory.
  absl::StatusOr<Node> Find(const std::string& path) const;
  absl::StatusOr<Node> CreateFile(const std::string& path);
  absl::Status CreateDirectory(const std::string& path);
  absl::StatusOr<std::vector<std::string>> List(const std::string& directory) const;
  absl::Status Delete(const std::string& file);
  absl::Status DeleteDirectory(const std::string& path);
  absl::Status Rename(const std::string& from, const std::string& to);
  absl::Status SyncDirectory(const std::string& path);

  bool IsDirectory(Node node) const { return now_.contains(node); }
  uint64_t SizeBytes(Node file) const { return files_.at(file)->size_bytes; }
  // The number of bytes that the file has there, which are copied to `to`.
  size_t Read(Node file, uint64_t offset, MutableByteSpan to) const;
  void Write(Node file, uint64_t offset, ByteSpan bytes);
  void Resize(Node file, uint64_t size_bytes);
  void Sync(Node file);
  // As kernels do when a sync fails: what was to be synced is taken for written, so that no later
  // Sync makes it durable.
  void FailSync(Node file);

  // Of all files that have a name or are in `open`, in whole pages.
  uint64_t UsedBytes(const std::multiset<Node>& open) const;
  // Frees files that can never be read again.
  void Collect(const std::multiset<Node>& open);

  // What a machine finds when it starts again; all of that is durable.
  DiskImage AfterPowerLoss(PowerLossMode mode, uint64_t seed) const;

 private:
  static constexpr size_t kPageBytes = 4096;
  static constexpr size_t kSectorBytes = 512;
  static constexpr Node kRoot = 1;
  using Page = std::array<std::byte, kPageBytes>;
  using PageRef = std::shared_ptr<const Page>;  // null: zeros

  struct File {
    std::vector<PageRef> pages;
    uint64_t size_bytes = 0;
    // Of what changed since the last Sync, the durable version first and the present one last.
    std::map<uint64_t, std::vector<PageRef>> page_versions;
    std::vector<uint64_t> size_versions;
    std::set<uint64_t> lost_pages;  // whose sync failed
  };
  using Names = std::map<std::string, Node>;
  using Directories = std::map<Node, Names>;
  struct NameChange {
    Node directory = 0;
    std::string name;
    Node node = 0;  // 0: no longer there
  };
  using NameChanges = std::vector<NameChange>;  // that happen together or not at all
  class Survival;

  struct Place {
    Node directory = 0;
    std::string name;
    Node node = 0;  // 0: nothing there
  };
  absl::StatusOr<Place> Locate(const std::string& path, const char* call) const;
  void Change(NameChanges changes);
  static void Apply(const NameChanges& changes, Directories& directories);
  File& Mutable(Node file);
  void SetPage(File& file, uint64_t index, PageRef page);
  void SetSize(File& file, uint64_t size_bytes);
  std::set<Node> Reachable() const;
  static std::shared_ptr<File> Settled(const File& before, Survival& survival);

  Node next_node_ = kRoot + 1;
  std::map<Node, std::shared_ptr<File>> files_;
  Directories now_;
  Directories durable_;
  std::vector<NameChanges> unsynced_;
};

}  // namespace reprise::storage
