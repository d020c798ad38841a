#include "services/cli/kv_chunk.h"

#include <errno.h>
#include <string.h>

#include <fstream>

#include "absl/strings/str_cat.h"

namespace reprise::cli {
namespace {

namespace fs = std::filesystem;

TensorView ViewOf(const Namespace& name_space, const LayerGroup& group,
                  std::vector<std::byte>& memory) {
  if (memory.empty()) return {};
  const auto head = static_cast<int64_t>(sizeof(uint16_t) * group.key_dim);
  const int64_t row = head * group.kv_heads;
  return {.data = memory.data(),
          .dtype = name_space.kv_dtype,
          .shape = {static_cast<uint32_t>(group.layers.size()), name_space.chunk_tokens,
                    group.kv_heads, group.key_dim},
          .stride_bytes = {row * name_space.chunk_tokens, row, head}};
}

}  // namespace

KvChunk::KvChunk(const KvDump& dump, const Namespace& name_space)
    : name_space_(name_space),
      part_bytes_(dump.RowBytes('k') * name_space.chunk_tokens),
      groups_(name_space.groups.size()) {
  for (size_t g = 0; g < groups_.size(); ++g) {
    const LayerGroup& group = name_space_.groups[g];
    groups_[g].key.resize(group.layers.size() * part_bytes_);
    if (group.value_dim > 0) groups_[g].value.resize(groups_[g].key.size());
    for (size_t i = 0; i < group.layers.size(); ++i) {
      parts_.push_back({group.layers[i], 'k', &groups_[g].key, i * part_bytes_});
      if (group.value_dim == 0) continue;
      parts_.push_back({group.layers[i], 'v', &groups_[g].value, i * part_bytes_});
    }
  }
}

std::vector<GroupViews> KvChunk::views() {
  std::vector<GroupViews> views;
  for (size_t g = 0; g < groups_.size(); ++g) {
    const LayerGroup& group = name_space_.groups[g];
    views.push_back({.key = ViewOf(name_space_, group, groups_[g].key),
                     .value = ViewOf(name_space_, group, groups_[g].value)});
  }
  return views;
}

absl::Status KvChunk::Read(const KvDump& dump, const KvDump::Text& text, uint32_t chunk) {
  for (const Part& part : parts_) {
    const fs::path path = dump.File(text, part.layer, part.tensor, name_space_.kv_dtype);
    std::ifstream file(path, std::ios::binary);
    file.seekg(static_cast<std::streamoff>(chunk * part_bytes_));
    file.read(reinterpret_cast<char*>(part.memory->data() + part.offset),
              static_cast<std::streamsize>(part_bytes_));
    if (!file) {
      return absl::NotFoundError(
          absl::StrCat("cannot read ", path.string(), ": ", strerror(errno)));
    }
  }
  return absl::OkStatus();
}

absl::Status KvChunk::Append(const KvDump& dump, const KvDump::Text& text) const {
  for (const Part& part : parts_) {
    const fs::path path = dump.File(text, part.layer, part.tensor, name_space_.kv_dtype);
    std::ofstream file(path, std::ios::binary | std::ios::app);
    file.write(reinterpret_cast<const char*>(part.memory->data() + part.offset),
               static_cast<std::streamsize>(part_bytes_));
    file.close();
    if (!file) {
      return absl::UnavailableError(
          absl::StrCat("cannot write ", path.string(), ": ", strerror(errno)));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckKvFiles(const KvDump& dump, const KvDump::Text& text, Dtype dtype) {
  for (uint32_t layer = 0; layer < dump.layers.size(); ++layer) {
    REPRISE_RETURN_IF_ERROR(CheckKvFile(dump, text, layer, 'k', dtype));
    if (!dump.layers[layer].has_value()) continue;
    REPRISE_RETURN_IF_ERROR(CheckKvFile(dump, text, layer, 'v', dtype));
  }
  return absl::OkStatus();
}

}  // namespace reprise::cli
