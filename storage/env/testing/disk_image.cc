#include "storage/env/testing/disk_image.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>
#include <string_view>
#include <utility>

#include "storage/env/disk_status.h"

namespace reprise::storage {
namespace {

// Versions of one page that are remembered between two syncs.
constexpr size_t kMaxVersions = 32;

std::vector<std::string> Components(const std::string& path) {
  std::vector<std::string> parts;
  for (size_t begin = 0; begin < path.size();) {
    const size_t end = std::min(path.find('/', begin), path.size());
    const std::string part = path.substr(begin, end - begin);
    if (!part.empty() && part != ".") parts.push_back(part);
    begin = end + 1;
  }
  return parts;
}

}  // namespace

// Which version of each thing a power loss leaves. Sometimes nearly all that was not synced
// survives, sometimes hardly any of it.
class DiskImage::Survival {
 public:
  Survival(PowerLossMode mode, uint64_t seed) : mode_(mode), random_(seed) {
    constexpr std::array<double, 4> kRates = {0.05, 0.5, 0.95, 1.0};
    rate_ = kRates[random_() % kRates.size()];
  }

  bool Survives() {
    return mode_ != PowerLossMode::kDrop && std::bernoulli_distribution(rate_)(random_);
  }
  // The index of one of `count` versions, the durable one first.
  size_t Version(size_t count) {
    if (mode_ == PowerLossMode::kDrop) return 0;
    return Survives() ? count - 1 : random_() % count;
  }
  bool Torn() { return mode_ == PowerLossMode::kTorn && random_() % 2 == 0; }

 private:
  const PowerLossMode mode_;
  std::mt19937_64 random_;
  double rate_ = 0;
};

DiskImage::DiskImage() : now_{{kRoot, {}}}, durable_{{kRoot, {}}} {}

absl::StatusOr<DiskImage::Place> DiskImage::Locate(const std::string& path,
                                                   const char* call) const {
  Place place{.directory = kRoot, .name = "", .node = kRoot};
  for (const std::string& part : Components(path)) {
    if (place.node == 0) return DiskError(ENOENT, call, path);
    const auto directory = now_.find(place.node);
    if (directory == now_.end()) return DiskError(ENOTDIR, call, path);
    const auto entry = directory->second.find(part);
    const Node node = entry == directory->second.end() ? 0 : entry->second;
    place = {.directory = directory->first, .name = part, .node = node};
  }
  return place;
}

absl::StatusOr<DiskImage::Node> DiskImage::Find(const std::string& path) const {
  REPRISE_ASSIGN_OR_RETURN(const Place place, Locate(path, "open"));
  if (place.node == 0) return DiskError(ENOENT, "open", path);
  return place.node;
}

absl::StatusOr<DiskImage::Node> DiskImage::CreateFile(const std::string& path) {
  REPRISE_ASSIGN_OR_RETURN(const Place place, Locate(path, "open"));
  if (place.node != 0) return DiskError(EEXIST, "open", path);
  const Node node = next_node_++;
  files_[node] = std::make_shared<File>();
  Change({{place.directory, place.name, node}});
  return node;
}

absl::Status DiskImage::CreateDirectory(const std::string& path) {
  REPRISE_ASSIGN_OR_RETURN(const Place place, Locate(path, "mkdir"));
  if (place.node != 0) {
    return IsDirectory(place.node) ? absl::OkStatus() : DiskError(ENOTDIR, "mkdir", path);
  }
  const Node node = next_node_++;
  now_[node] = {};
  durable_[node] = {};
  Change({{place.directory, place.name, node}});
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> DiskImage::List(const std::string& directory) const {
  REPRISE_ASSIGN_OR_RETURN(const Place place, Locate(directory, "opendir"));
  if (place.node == 0) return DiskError(ENOENT, "opendir", directory);
  if (!IsDirectory(place.node)) return DiskError(ENOTDIR, "opendir", directory);
  std::vector<std::string> names;
  for (const auto& [name, node] : now_.at(place.node)) names.push_back(name);
  return names;
}

absl::Status DiskImage::Delete(const std::string& file) {
  REPRISE_ASSIGN_OR_RETURN(const Place place, Locate(file, "unlink"));
  if (place.node == 0) return DiskError(ENOENT, "unlink", file);
  if (IsDirectory(place.node)) return DiskError(EISDIR, "unlink", file);
  Change({{place.directory, place.name, 0}});
  return absl::OkStatus();
}

absl::Status DiskImage::DeleteDirectory(const std::string& path) {
  REPRISE_ASSIGN_OR_RETURN(const Place place, Locate(path, "rmdir"));
  if (place.node == 0) return DiskError(ENOENT, "rmdir", path);
  if (!IsDirectory(place.node)) return DiskError(ENOTDIR, "rmdir", path);
  if (!now_.at(place.node).empty()) return DiskError(ENOTEMPTY, "rmdir", path);
  Change({{place.directory, place.name, 0}});
  return absl::OkStatus();
}

absl::Status DiskImage::Rename(const std::string& from, const std::string& to) {
  REPRISE_ASSIGN_OR_RETURN(const Place old_place, Locate(from, "rename"));
  if (old_place.node == 0) return DiskError(ENOENT, "rename", from);
  REPRISE_ASSIGN_OR_RETURN(const Place new_place, Locate(to, "rename"));
  if (new_place.node != 0 && IsDirectory(new_place.node) != IsDirectory(old_place.node)) {
    return DiskError(IsDirectory(new_place.node) ? EISDIR : ENOTDIR, "rename", to);
  }
  if (new_place.node == old_place.node) return absl::OkStatus();
  if (new_place.node != 0 && IsDirectory(new_place.node) && !now_.at(new_place.node).empty()) {
    return DiskError(ENOTEMPTY, "rename", to);
  }
  Change({{old_place.directory, old_place.name, 0},
          {new_place.directory, new_place.name, old_place.node}});
  return absl::OkStatus();
}

absl::Status DiskImage::SyncDirectory(const std::string& path) {
  REPRISE_ASSIGN_OR_RETURN(const Place place, Locate(path, "fsync"));
  if (place.node == 0) return DiskError(ENOENT, "fsync", path);
  if (!IsDirectory(place.node)) return DiskError(ENOTDIR, "fsync", path);
  // A rename between two directories happens in both or in neither, so that what came before it in
  // the other one is durable as well.
  std::set<Node> synced = {place.node};
  const auto touches = [&](const NameChanges& changes) {
    return std::ranges::any_of(
        changes, [&](const NameChange& change) { return synced.contains(change.directory); });
  };
  for (size_t before = 0; before != synced.size();) {
    before = synced.size();
    for (const NameChanges& changes : unsynced_) {
      if (!touches(changes)) continue;
      for (const NameChange& change : changes) synced.insert(change.directory);
    }
  }
  for (const NameChanges& changes : unsynced_) {
    if (touches(changes)) Apply(changes, durable_);
  }
  std::erase_if(unsynced_, touches);
  return absl::OkStatus();
}

void DiskImage::Change(NameChanges changes) {
  Apply(changes, now_);
  unsynced_.push_back(std::move(changes));
}

void DiskImage::Apply(const NameChanges& changes, Directories& directories) {
  for (const NameChange& change : changes) {
    Names& names = directories[change.directory];
    if (change.node == 0) {
      names.erase(change.name);
    } else {
      names[change.name] = change.node;
    }
  }
}

size_t DiskImage::Read(Node node, uint64_t offset, MutableByteSpan to) const {
  const File& file = *files_.at(node);
  if (offset >= file.size_bytes) return 0;
  const size_t size = std::min<uint64_t>(to.size(), file.size_bytes - offset);
  for (size_t done = 0; done < size;) {
    const size_t at = (offset + done) % kPageBytes;
    const size_t part = std::min(kPageBytes - at, size - done);
    const PageRef& page = file.pages[(offset + done) / kPageBytes];
    if (page == nullptr) {
      std::memset(to.data() + done, 0, part);
    } else {
      std::memcpy(to.data() + done, page->data() + at, part);
    }
    done += part;
  }
  return size;
}

DiskImage::File& DiskImage::Mutable(Node file) {
  std::shared_ptr<File>& shared = files_.at(file);
  if (shared.use_count() > 1) shared = std::make_shared<File>(*shared);
  return *shared;
}

void DiskImage::SetPage(File& file, uint64_t index, PageRef page) {
  std::vector<PageRef>& versions = file.page_versions[index];
  if (versions.empty()) versions.push_back(file.pages[index]);
  if (versions.size() == kMaxVersions) versions.erase(versions.begin() + 1);
  versions.push_back(page);
  file.lost_pages.erase(index);
  file.pages[index] = std::move(page);
}

void DiskImage::SetSize(File& file, uint64_t size_bytes) {
  std::vector<uint64_t>& versions = file.size_versions;
  if (versions.empty()) versions.push_back(file.size_bytes);
  if (versions.size() == kMaxVersions) versions.erase(versions.begin() + 1);
  versions.push_back(size_bytes);
  file.size_bytes = size_bytes;
  // Pages behind the end stay: what was durable may be found there again.
  const uint64_t pages = (size_bytes + kPageBytes - 1) / kPageBytes;
  if (pages > file.pages.size()) file.pages.resize(pages);
}

void DiskImage::Write(Node node, uint64_t offset, ByteSpan bytes) {
  if (bytes.empty()) return;
  File& file = Mutable(node);
  if (offset + bytes.size() > file.size_bytes) SetSize(file, offset + bytes.size());
  for (size_t done = 0; done < bytes.size();) {
    const uint64_t index = (offset + done) / kPageBytes;
    const size_t at = (offset + done) % kPageBytes;
    const size_t part = std::min(kPageBytes - at, bytes.size() - done);
    const PageRef& old = file.pages[index];
    auto page = old == nullptr ? std::make_shared<Page>() : std::make_shared<Page>(*old);
    std::memcpy(page->data() + at, bytes.data() + done, part);
    SetPage(file, index, std::move(page));
    done += part;
  }
}

void DiskImage::Resize(Node node, uint64_t size_bytes) {
  File& file = Mutable(node);
  if (size_bytes == file.size_bytes) return;
  const size_t kept = size_bytes % kPageBytes;
  for (uint64_t index = size_bytes / kPageBytes; index < file.pages.size(); ++index) {
    const PageRef& old = file.pages[index];
    if (old == nullptr) continue;
    PageRef page;
    if (index == size_bytes / kPageBytes && kept > 0) {
      auto cut = std::make_shared<Page>(*old);
      std::memset(cut->data() + kept, 0, kPageBytes - kept);
      page = std::move(cut);
    }
    SetPage(file, index, std::move(page));
  }
  SetSize(file, size_bytes);
}

void DiskImage::Sync(Node node) {
  File& file = Mutable(node);
  std::erase_if(file.page_versions,
                [&](const auto& entry) { return !file.lost_pages.contains(entry.first); });
  file.size_versions.clear();
}

void DiskImage::FailSync(Node node) {
  File& file = Mutable(node);
  for (const auto& [index, versions] : file.page_versions) file.lost_pages.insert(index);
}

std::set<DiskImage::Node> DiskImage::Reachable() const {
  std::set<Node> nodes;
  for (const Directories* const directories : {&now_, &durable_}) {
    for (const auto& [directory, names] : *directories) {
      for (const auto& [name, node] : names) nodes.insert(node);
    }
  }
  for (const NameChanges& changes : unsynced_) {
    for (const NameChange& change : changes) nodes.insert(change.node);
  }
  return nodes;
}

uint64_t DiskImage::UsedBytes(const std::multiset<Node>& open) const {
  std::set<Node> counted(open.begin(), open.end());
  for (const auto& [directory, names] : now_) {
    for (const auto& [name, node] : names) counted.insert(node);
  }
  uint64_t used = 0;
  for (const Node node : counted) {
    const auto file = files_.find(node);
    if (file == files_.end()) continue;
    used += (file->second->size_bytes + kPageBytes - 1) / kPageBytes * kPageBytes;
  }
  return used;
}

void DiskImage::Collect(const std::multiset<Node>& open) {
  const std::set<Node> reachable = Reachable();
  std::erase_if(files_, [&](const auto& entry) {
    return !reachable.contains(entry.first) && !open.contains(entry.first);
  });
}

std::shared_ptr<DiskImage::File> DiskImage::Settled(const File& before, Survival& survival) {
  auto file = std::make_shared<File>();
  file->pages = before.pages;
  for (const auto& [index, versions] : before.page_versions) {
    PageRef& page = file->pages[index];
    page = versions[survival.Version(versions.size())];
    if (!survival.Torn()) continue;
    auto mixed = std::make_shared<Page>();
    for (size_t at = 0; at < kPageBytes; at += kSectorBytes) {
      const PageRef& version = versions[survival.Version(versions.size())];
      if (version != nullptr) std::memcpy(mixed->data() + at, version->data() + at, kSectorBytes);
    }
    page = std::move(mixed);
  }
  const std::vector<uint64_t>& sizes = before.size_versions;
  file->size_bytes = sizes.empty() ? before.size_bytes : sizes[survival.Version(sizes.size())];
  // Behind its end a file is zeros, should it grow again.
  file->pages.resize((file->size_bytes + kPageBytes - 1) / kPageBytes);
  const size_t kept = file->size_bytes % kPageBytes;
  if (kept > 0 && file->pages.back() != nullptr) {
    auto cut = std::make_shared<Page>(*file->pages.back());
    std::memset(cut->data() + kept, 0, kPageBytes - kept);
    file->pages.back() = std::move(cut);
  }
  return file;
}

DiskImage DiskImage::AfterPowerLoss(PowerLossMode mode, uint64_t seed) const {
  Survival survival(mode, seed);
  DiskImage found = *this;
  for (const NameChanges& changes : unsynced_) {
    if (survival.Survives()) Apply(changes, found.durable_);
  }
  found.unsynced_.clear();
  found.now_ = found.durable_;
  found.Collect({});
  for (auto& [node, file] : found.files_) {
    if (file->page_versions.empty() && file->size_versions.empty()) continue;
    file = Settled(*file, survival);
  }
  return found;
}

}  // namespace reprise::storage
