#include "services/cli/kv_prefix.h"

#include <algorithm>
#include <cstring>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"

#include "common/bytes.h"
#include "common/limits.h"
#include "services/cli/file_io.h"
#include "services/store/absl_text.h"

namespace reprise::cli {
namespace {

namespace fs = std::filesystem;
using store::ToAbsl;

// Tensors of one piece: large enough for the wire, small enough that few bytes wait for a decoder.
constexpr uint64_t kPieceBytes = 16 * kMiB;

absl::StatusOr<Namespace> NamespaceOf(const KvDump& dump, Dtype dtype, std::string tenant) {
  Namespace name_space;
  name_space.tenant = std::move(tenant);
  name_space.model = dump.model;
  name_space.revision = "sha256=" + dump.model_sha256;
  name_space.kv_dtype = dtype;
  std::vector<KvDump::Layer> kinds;
  for (uint32_t i = 0; i < dump.layers.size(); ++i) {
    const KvDump::Layer& layer = dump.layers[i];
    const auto kind = std::find(kinds.begin(), kinds.end(), layer);
    if (kind != kinds.end()) {
      name_space.groups[static_cast<size_t>(kind - kinds.begin())].layers.push_back(i);
      continue;
    }
    kinds.push_back(layer);
    name_space.groups.push_back(dump.Group(i));
  }
  const uint64_t layer_bytes = 2 * dump.RowBytes('k') * name_space.chunk_tokens;
  const auto most = static_cast<uint32_t>(std::max<uint64_t>(1, kPieceBytes / layer_bytes));
  for (LayerGroup& group : name_space.groups) {
    group.layers_per_piece = std::min(static_cast<uint32_t>(group.layers.size()), most);
  }
  REPRISE_RETURN_IF_ERROR(Annotate(Validate(name_space), dump.directory.string()));
  return name_space;
}

absl::StatusOr<std::vector<uint32_t>> ReadTokenIds(const KvDump& dump, const KvDump::Text& text) {
  const fs::path path = dump.TokenFile(text);
  std::error_code unreadable;
  const uint64_t bytes = fs::file_size(path, unreadable);
  if (unreadable) {
    return absl::NotFoundError(absl::StrCat(
        "cannot read ", path.string(), ": ", unreadable.message(),
        "; keys are made of token ids, which this dump lacks: write them there as ", text.tokens,
        " little-endian 32-bit numbers, as python -m bench.kv dump does"));
  }
  std::vector<uint32_t> ids(text.tokens);
  if (bytes != ids.size() * sizeof(uint32_t)) {
    return absl::InvalidArgumentError(absl::StrCat(path.string(), " has ", bytes, " bytes; ",
                                                   text.tokens, " token ids take ",
                                                   ids.size() * sizeof(uint32_t)));
  }
  REPRISE_ASSIGN_OR_RETURN(const std::vector<std::byte> file, ReadFile(path, bytes));
  std::memcpy(ids.data(), file.data(), file.size());
  return ids;
}

absl::StatusOr<PrefixKeys> KeysOf(const KvDump& dump, const KvDump::Text& text,
                                  const Namespace& name_space) {
  const std::string where = absl::StrCat(dump.directory.string(), ", text ", text.name);
  if (text.first_position != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(where, ": first_position is ", text.first_position,
                     "; keys name whole prefixes, from position 0 on"));
  }
  if (text.tokens < name_space.chunk_tokens) {
    return absl::InvalidArgumentError(absl::StrCat(
        where, ": it has ", text.tokens, " tokens, and a chunk takes ", name_space.chunk_tokens));
  }
  REPRISE_ASSIGN_OR_RETURN(const std::vector<uint32_t> ids, ReadTokenIds(dump, text));
  return PrefixKeys::Create(name_space, "", ids);
}

absl::StatusOr<std::shared_ptr<const Profile>> ReadProfile(const std::string& path) {
  REPRISE_ASSIGN_OR_RETURN(const std::vector<std::byte> text, ReadFile(path, kMaxProfileBytes));
  absl::StatusOr<Profile> profile = ParseProfile(ToAbsl(AsText(text)));
  if (!profile.ok()) return Annotate(profile.status(), path);
  return std::make_shared<const Profile>(*std::move(profile));
}

}  // namespace

absl::StatusOr<KvPrefixes> ReadKvPrefixes(const KvFlags& flags, const std::string& tenant) {
  KvPrefixes prefixes;
  REPRISE_ASSIGN_OR_RETURN(prefixes.dump, ReadKvDump(flags.directory));
  const Dtype dtype = flags.dtype == "fp16" ? Dtype::kFp16 : Dtype::kBf16;
  REPRISE_ASSIGN_OR_RETURN(prefixes.name_space, NamespaceOf(prefixes.dump, dtype, tenant));
  if (!flags.profile.empty()) {
    REPRISE_ASSIGN_OR_RETURN(prefixes.profile, ReadProfile(flags.profile));
    prefixes.name_space.profile = ProfileName(*prefixes.profile);
    REPRISE_RETURN_IF_ERROR(Annotate(CheckProfile(prefixes.name_space, prefixes.profile.get()),
                                     absl::StrCat(flags.profile, " and ", flags.directory)));
  }
  std::vector<std::string> names;
  if (!flags.text.empty()) names.push_back(flags.text);
  REPRISE_ASSIGN_OR_RETURN(const std::vector<KvDump::Text> texts,
                           ChooseTexts(prefixes.dump, names));
  for (const KvDump::Text& text : texts) {
    REPRISE_ASSIGN_OR_RETURN(PrefixKeys keys, KeysOf(prefixes.dump, text, prefixes.name_space));
    prefixes.texts.push_back({text, std::move(keys)});
  }
  return prefixes;
}

}  // namespace reprise::cli
