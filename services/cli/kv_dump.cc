#include "services/cli/kv_dump.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <set>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "yaml-cpp/yaml.h"

#include "common/limits.h"
#include "common/sha256.h"
#include "services/cli/file_io.h"
#include "services/cli/json_line.h"

namespace reprise::cli {
namespace {

namespace fs = std::filesystem;

constexpr char kFormat[] = "reprise-kv-dump/1";
constexpr char kManifest[] = "dump.json";
constexpr size_t kMaxManifestBytes = 4 * kMiB;
constexpr uint32_t kMaxDumpLayers = 1'000;  // file names have three digits
constexpr uint32_t kMaxTokens = 1 << 20;
constexpr uint32_t kMaxHeads = 1 << 12;
constexpr uint32_t kMaxDims = 1 << 14;

absl::Status Wrong(const std::string& where, const std::string& what) {
  return absl::InvalidArgumentError(absl::StrCat(where, ": ", what));
}

// One JSON object, which is YAML too, and what messages call it.
struct Object {
  YAML::Node node;
  std::string where;
};

template <typename T>
absl::Status Read(const Object& object, const char* name, const char* expected, T& to) {
  if (!object.node.IsMap()) return Wrong(object.where, "it is no JSON object");
  const YAML::Node field = object.node[name];
  if (!field.IsDefined()) return Wrong(object.where, absl::StrCat(name, " is missing"));
  if (YAML::convert<T>::decode(field, to)) return absl::OkStatus();
  return Wrong(object.where, absl::StrCat(name, " is not ", expected));
}

absl::Status ReadCount(const Object& object, const char* name, uint32_t low, uint32_t high,
                       uint32_t& to) {
  int64_t number = -1;
  REPRISE_RETURN_IF_ERROR(Read(object, name, "a whole number", number));
  if (number < low || number > high) {
    return Wrong(object.where,
                 absl::StrCat(name, " is ", number, "; it must be ", low, " to ", high));
  }
  to = static_cast<uint32_t>(number);
  return absl::OkStatus();
}

absl::Status ReadText(const Object& object, const char* name, std::string& to) {
  REPRISE_RETURN_IF_ERROR(Read(object, name, "a string", to));
  return to.empty() ? Wrong(object.where, absl::StrCat(name, " is empty")) : absl::OkStatus();
}

absl::Status ReadSha256(const Object& object, const char* name, std::string& to) {
  REPRISE_RETURN_IF_ERROR(ReadText(object, name, to));
  if (Digest::FromHex(to).has_value()) return absl::OkStatus();
  return Wrong(object.where, absl::StrCat(name, " is not 64 hexadecimal digits"));
}

absl::Status ReadPositive(const Object& object, const char* name, double& to) {
  REPRISE_RETURN_IF_ERROR(Read(object, name, "a number", to));
  if (std::isfinite(to) && to > 0) return absl::OkStatus();
  return Wrong(object.where, absl::StrCat(name, " is ", to, "; it must be above 0"));
}

absl::StatusOr<KvDump::Layer> ReadLayer(const Object& object, uint32_t head_dim) {
  KvDump::Layer layer;
  std::string kind;
  REPRISE_RETURN_IF_ERROR(ReadText(object, "kind", kind));
  if (kind == "window") {
    layer.kind = GroupKind::kSlidingWindow;
    REPRISE_RETURN_IF_ERROR(ReadCount(object, "window", 1, kMaxTokens, layer.window_tokens));
  } else if (kind == "latent") {
    layer.kind = GroupKind::kLatent;
  } else if (kind != "full") {
    return Wrong(object.where,
                 absl::StrCat("kind is \"", kind, "\"; it must be full, window or latent"));
  }
  YAML::Node rope_node;
  REPRISE_RETURN_IF_ERROR(Read(object, "rope", "an object", rope_node));
  const Object rope{rope_node, object.where + ".rope"};
  std::string pairing;
  REPRISE_RETURN_IF_ERROR(ReadCount(rope, "dims", 0, head_dim, layer.rotated_dims));
  REPRISE_RETURN_IF_ERROR(ReadPositive(rope, "theta", layer.theta));
  REPRISE_RETURN_IF_ERROR(ReadPositive(rope, "scale", layer.scale));
  REPRISE_RETURN_IF_ERROR(ReadText(rope, "pairing", pairing));
  if (pairing != "interleaved" && pairing != "halves") {
    return Wrong(rope.where,
                 absl::StrCat("pairing is \"", pairing, "\"; it must be interleaved or halves"));
  }
  if (pairing == "halves") layer.pairing = RopePairing::kHalves;
  return layer;
}

absl::StatusOr<KvDump::Text> ReadTextEntry(const Object& object) {
  KvDump::Text text;
  REPRISE_RETURN_IF_ERROR(ReadText(object, "name", text.name));
  REPRISE_RETURN_IF_ERROR(ReadSha256(object, "sha256", text.sha256));
  REPRISE_RETURN_IF_ERROR(ReadCount(object, "tokens", 1, kMaxTokens, text.tokens));
  REPRISE_RETURN_IF_ERROR(ReadCount(object, "first_position", 0, kMaxTokens, text.first_position));
  REPRISE_RETURN_IF_ERROR(ReadText(object, "dir", text.folder));
  const fs::path folder(text.folder);
  if (folder.is_absolute() || std::find(folder.begin(), folder.end(), "..") != folder.end()) {
    return Wrong(object.where, absl::StrCat("dir \"", text.folder, "\" leaves the dump"));
  }
  return text;
}

absl::Status ReadManifest(const Object& manifest, KvDump& dump) {
  std::string format;
  REPRISE_RETURN_IF_ERROR(ReadText(manifest, "format", format));
  if (format != kFormat) {
    return Wrong(manifest.where,
                 absl::StrCat("format is \"", format, "\"; this build reads ", kFormat));
  }
  uint32_t layers = 0;
  REPRISE_RETURN_IF_ERROR(ReadText(manifest, "model", dump.model));
  REPRISE_RETURN_IF_ERROR(ReadSha256(manifest, "model_sha256", dump.model_sha256));
  REPRISE_RETURN_IF_ERROR(ReadCount(manifest, "q_heads", 1, kMaxHeads, dump.q_heads));
  REPRISE_RETURN_IF_ERROR(ReadCount(manifest, "kv_heads", 1, kMaxHeads, dump.kv_heads));
  REPRISE_RETURN_IF_ERROR(ReadCount(manifest, "head_dim", 1, kMaxDims, dump.head_dim));
  REPRISE_RETURN_IF_ERROR(ReadCount(manifest, "layers", 1, kMaxDumpLayers, layers));
  std::vector<YAML::Node> entries;
  REPRISE_RETURN_IF_ERROR(Read(manifest, "per_layer", "a list", entries));
  if (entries.size() != layers) {
    return Wrong(manifest.where, absl::StrCat("per_layer has ", entries.size(), " entries for ",
                                              layers, " layers"));
  }
  for (uint32_t i = 0; i < layers; ++i) {
    REPRISE_ASSIGN_OR_RETURN(
        KvDump::Layer layer,
        ReadLayer({entries[i], absl::StrCat(manifest.where, ": per_layer[", i, "]")},
                  dump.head_dim));
    dump.layers.push_back(layer);
  }
  REPRISE_RETURN_IF_ERROR(Read(manifest, "texts", "a list", entries));
  std::set<std::string> seen;
  for (size_t i = 0; i < entries.size(); ++i) {
    const std::string where = absl::StrCat(manifest.where, ": texts[", i, "]");
    REPRISE_ASSIGN_OR_RETURN(KvDump::Text text, ReadTextEntry({entries[i], where}));
    if (!seen.insert("name " + text.name).second || !seen.insert("dir " + text.folder).second) {
      return Wrong(where, "another text has its name or dir");
    }
    dump.texts.push_back(std::move(text));
  }
  return dump.texts.empty() ? Wrong(manifest.where, "texts is empty") : absl::OkStatus();
}

std::string LayerJson(const KvDump::Layer& layer) {
  const char* kind = layer.kind == GroupKind::kSlidingWindow ? "window"
                     : layer.kind == GroupKind::kLatent      ? "latent"
                                                             : "full";
  JsonLine rope;
  rope.Raw("theta", absl::StrFormat("%.17g", layer.theta))
      .Number("dims", layer.rotated_dims)
      .Text("pairing", layer.pairing == RopePairing::kHalves ? "halves" : "interleaved")
      .Raw("scale", absl::StrFormat("%.17g", layer.scale));
  return JsonLine()
      .Text("kind", kind)
      .Raw("window", layer.window_tokens == 0 ? "null" : absl::StrCat(layer.window_tokens))
      .Raw("rope", rope.Line())
      .Line();
}

std::string TextJson(const KvDump::Text& text) {
  return JsonLine()
      .Text("name", text.name)
      .Text("sha256", text.sha256)
      .Number("tokens", text.tokens)
      .Number("first_position", text.first_position)
      .Text("dir", text.folder)
      .Line();
}

template <typename T>
std::string ListJson(const std::vector<T>& entries, std::string (*json)(const T&)) {
  std::vector<std::string> lines;
  lines.reserve(entries.size());
  for (const T& entry : entries) lines.push_back(json(entry));
  return absl::StrCat("[\n  ", absl::StrJoin(lines, ",\n  "), "]");
}

}  // namespace

Rope KvDump::Layer::rope() const {
  if (rotated_dims == 0) return {};
  Rope rope{.pairing = pairing, .rotated_dims = rotated_dims, .theta = theta};
  if (scale != 1) {
    rope.scaling = RopeScaling::kLinear;
    rope.scaling_parameters = {1 / scale};
  }
  return rope;
}

fs::path KvDump::File(const Text& text, uint32_t layer, char tensor, Dtype dtype) const {
  return directory / text.folder /
         std::string(absl::StrFormat("L%03d.%c.%s", layer, tensor, KvDtypeName(dtype)));
}

fs::path KvDump::TokenFile(const Text& text) const {
  return directory / text.folder / "tokens.u32";
}

uint64_t KvDump::RowBytes(char tensor) const {
  return sizeof(uint16_t) * uint64_t{tensor == 'q' ? q_heads : kv_heads} * head_dim;
}

LayerGroup KvDump::Group(uint32_t layer) const {
  const Layer& is = layers[layer];
  LayerGroup group;
  group.kind = is.kind;
  group.layers = {layer};
  group.kv_heads = kv_heads;
  group.key_dim = head_dim;
  group.value_dim = is.has_value() ? head_dim : 0;
  group.window_tokens = is.window_tokens;
  group.layers_per_piece = 1;
  group.heads_per_piece = kv_heads;
  group.rope = is.rope();
  return group;
}

const char* KvDtypeName(Dtype dtype) { return dtype == Dtype::kFp16 ? "fp16" : "bf16"; }

absl::StatusOr<KvDump> ReadKvDump(const fs::path& directory) {
  const std::string path = directory / kManifest;
  std::error_code unreadable;
  if (const uint64_t bytes = fs::file_size(path, unreadable);
      !unreadable && bytes > kMaxManifestBytes) {
    return Wrong(
        path, absl::StrCat("it has ", bytes, " bytes; at most ", kMaxManifestBytes, " are read"));
  }
  REPRISE_ASSIGN_OR_RETURN(const std::vector<std::byte> json, ReadFile(path, kMaxManifestBytes));
  KvDump dump;
  dump.directory = directory;
  try {
    REPRISE_RETURN_IF_ERROR(ReadManifest({YAML::Load(std::string(AsText(json))), path}, dump));
  } catch (const YAML::Exception& error) {
    return Wrong(path, absl::StrCat("line ", error.mark.line + 1, ": ", error.msg));
  }
  return dump;
}

absl::StatusOr<std::vector<KvDump::Text>> ChooseTexts(const KvDump& dump,
                                                      const std::vector<std::string>& names) {
  for (const std::string& name : names) {
    const auto is_it = [&](const KvDump::Text& text) { return text.name == name; };
    if (std::ranges::any_of(dump.texts, is_it)) continue;
    return absl::InvalidArgumentError(absl::StrCat(
        dump.directory.string(), " has no text \"", name, "\", but ",
        absl::StrJoin(dump.texts, ", ", [](std::string* out, const KvDump::Text& text) {
          absl::StrAppend(out, text.name);
        })));
  }
  std::vector<KvDump::Text> chosen;
  for (const KvDump::Text& text : dump.texts) {
    if (names.empty() || std::ranges::find(names, text.name) != names.end()) chosen.push_back(text);
  }
  return chosen;
}

absl::Status CheckKvFile(const KvDump& dump, const KvDump::Text& text, uint32_t layer, char tensor,
                         Dtype dtype) {
  const fs::path path = dump.File(text, layer, tensor, dtype);
  std::error_code error;
  const uint64_t bytes = fs::file_size(path, error);
  const uint64_t expected = text.tokens * dump.RowBytes(tensor);
  if (!error && bytes == expected) return absl::OkStatus();
  if (!error) {
    return absl::InvalidArgumentError(absl::StrCat(path.string(), " has ", bytes, " bytes; ",
                                                   text.tokens, " tokens take ", expected));
  }
  const Dtype other = dtype == Dtype::kBf16 ? Dtype::kFp16 : Dtype::kBf16;
  const bool has_other = fs::exists(dump.File(text, layer, tensor, other));
  return absl::NotFoundError(absl::StrCat("cannot read ", path.string(), ": ", error.message(),
                                          has_other
                                              ? absl::StrCat("; the dump has ", KvDtypeName(other),
                                                             ": add --dtype ", KvDtypeName(other))
                                              : ""));
}

absl::Status WriteKvManifest(const KvDump& dump) {
  const std::string json = absl::StrCat(
      "{\"format\": ", JsonString(kFormat), ",\n \"model\": ", JsonString(dump.model),
      ",\n \"model_sha256\": ", JsonString(dump.model_sha256), ",\n \"q_heads\": ", dump.q_heads,
      ", \"kv_heads\": ", dump.kv_heads, ", \"head_dim\": ", dump.head_dim,
      ", \"layers\": ", dump.layers.size(), ",\n \"per_layer\": ", ListJson(dump.layers, LayerJson),
      ",\n \"texts\": ", ListJson(dump.texts, TextJson), "}\n");
  return WriteFile(dump.directory / kManifest, AsBytes(json));
}

}  // namespace reprise::cli
