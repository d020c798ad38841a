// K and V of one chunk of a text: between a dump's files and the tensors that a client takes.
//
// Holds one chunk at a time, whatever the length of the text. Not thread-safe.
#pragma once

#include <cstdint>
#include <vector>

#include "chunk/namespace.h"
#include "client/reprise.h"
#include "common/status.h"
#include "services/cli/kv_dump.h"

namespace reprise::cli {

class KvChunk {
 public:
  // Of dumps of this namespace, which ReadKvPrefixes made. Zeroed.
  KvChunk(const KvDump& dump, const Namespace& name_space);
  KvChunk(const KvChunk&) = delete;
  KvChunk& operator=(const KvChunk&) = delete;

  std::vector<GroupViews> views();

  // Reads chunk `chunk` of a text whose files CheckKvFiles has found. NOT_FOUND when they cannot be
  // read.
  absl::Status Read(const KvDump& dump, const KvDump::Text& text, uint32_t chunk);

  // Writes the chunk behind what the files of `text` have; `text.folder` exists. UNAVAILABLE, with
  // the system's reason.
  absl::Status Append(const KvDump& dump, const KvDump::Text& text) const;

 private:
  // A layer's K or V.
  struct Part {
    uint32_t layer = 0;
    char tensor = 'k';
    std::vector<std::byte>* memory = nullptr;
    size_t offset = 0;
  };
  struct Group {
    std::vector<std::byte> key;
    std::vector<std::byte> value;
  };

  const Namespace name_space_;
  const uint64_t part_bytes_;  // of one chunk
  std::vector<Group> groups_;
  std::vector<Part> parts_;
};

// That the text's files of K and V are there, with the size that its tokens take. NOT_FOUND or
// INVALID_ARGUMENT names the file, and says which dtype is there when it is the other.
absl::Status CheckKvFiles(const KvDump& dump, const KvDump::Text& text, Dtype dtype);

}  // namespace reprise::cli
