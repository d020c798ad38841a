// `reprise get --kv`: KV by its tokens, at a level, written as a dump of its own.

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <optional>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include <stdio.h>

#include "services/cli/commands.h"
#include "services/cli/connection.h"
#include "services/cli/json_line.h"
#include "services/cli/kv_chunk.h"
#include "services/cli/kv_dump.h"
#include "services/cli/kv_prefix.h"

namespace reprise::cli {
namespace {

namespace fs = std::filesystem;

// A directory beside the one that is wanted, which takes its name once it is complete; removed
// unless it does.
class NewDirectory {
 public:
  // INVALID_ARGUMENT when something is at `path` already, UNAVAILABLE when it cannot be made.
  static absl::StatusOr<std::unique_ptr<NewDirectory>> Create(const std::string& name) {
    fs::path path(name);
    if (!path.has_filename()) path = path.parent_path();  // it ended in a slash
    std::error_code error;
    if (fs::exists(path, error)) {
      return absl::InvalidArgumentError(
          absl::StrCat(name, " is there already; name another place"));
    }
    std::unique_ptr<NewDirectory> made(new NewDirectory(path));
    fs::create_directories(made->partial_, error);
    if (error) return made->CannotWrite(error);
    return made;
  }
  ~NewDirectory() {
    std::error_code ignored;
    fs::remove_all(partial_, ignored);
  }
  NewDirectory(const NewDirectory&) = delete;
  NewDirectory& operator=(const NewDirectory&) = delete;

  const fs::path& partial() const { return partial_; }

  absl::Status Keep() {
    std::error_code error;
    fs::rename(partial_, path_, error);
    return error ? CannotWrite(error) : absl::OkStatus();
  }

 private:
  explicit NewDirectory(const fs::path& path)
      : path_(path), partial_(absl::StrCat(path.string(), ".partial-", getpid())) {}

  absl::Status CannotWrite(const std::error_code& error) const {
    return absl::UnavailableError(
        absl::StrCat("cannot write ", path_.string(), ": ", error.message()));
  }

  const fs::path path_;
  const fs::path partial_;
};

struct Loaded {
  std::optional<Miss> miss;
  uint32_t level = kMaxPlanes;
  Distortion distortion{};
  uint64_t bytes = 0;
  bool lossless = true;
};

// That what is held has the level; nothing is loaded otherwise.
absl::Status CheckLevel(const LookupResult& held, const GetFlags& flags, const std::string& text) {
  size_t levels = 0;
  for (const PieceState& piece : held.pieces) levels = std::max(levels, piece.level_bytes.size());
  if (flags.level.value_or(0) < levels) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "level ", *flags.level, " does not exist: the pieces of ", text, " have ",
      levels == 1 ? "level 0 alone, as raw ones do" : absl::StrCat("levels 0 to ", levels - 1)));
}

// Each chunk on its own: a load of several brings of sliding windows the last ones only.
absl::StatusOr<Loaded> LoadText(const KvPrefix& prefix, const KvDump& to, const LookupResult& held,
                                const GetFlags& flags, Connection& connection) {
  Loaded loaded;
  KvChunk chunk(to, prefix.keys.name_space());
  for (uint32_t i = 0; i < prefix.keys.chunk_count(); ++i) {
    REPRISE_ASSIGN_OR_RETURN(
        const LoadResult result,
        connection.client
            ->Load(prefix.keys, i, 1, chunk.views(),
                   {.level = flags.level.value_or(kMaxPlanes - 1), .expected = &held},
                   connection.deadline)
            .Wait());
    if (!result.misses.empty()) {
      loaded.miss = result.misses[0];
      return loaded;
    }
    const SelectionResult& selection = result.selections[0];
    loaded.level = std::min(loaded.level, selection.level);
    loaded.distortion.key = std::max(loaded.distortion.key, selection.distortion.key);
    loaded.distortion.value = std::max(loaded.distortion.value, selection.distortion.value);
    loaded.bytes += result.bytes_received;
    loaded.lossless = loaded.lossless && result.lossless;
    REPRISE_RETURN_IF_ERROR(chunk.Append(to, prefix.text));
  }
  return loaded;
}

// What the store does not hold: the token ids, and Q where the dump has it, of `to`'s tokens.
absl::Status CopyRest(const KvDump& from, const KvDump::Text& text, const KvDump& to,
                      const KvDump::Text& cut, Dtype dtype) {
  const auto copy = [](const fs::path& source, const fs::path& target, uint64_t bytes) {
    std::error_code error;
    fs::copy_file(source, target, error);
    if (!error) fs::resize_file(target, bytes, error);
    if (!error) return absl::OkStatus();
    return absl::UnavailableError(
        absl::StrCat("cannot copy ", source.string(), ": ", error.message()));
  };
  REPRISE_RETURN_IF_ERROR(
      copy(from.TokenFile(text), to.TokenFile(cut), cut.tokens * sizeof(uint32_t)));
  for (uint32_t layer = 0; layer < from.layers.size(); ++layer) {
    const fs::path source = from.File(text, layer, 'q', dtype);
    if (!fs::exists(source)) continue;
    REPRISE_RETURN_IF_ERROR(
        copy(source, to.File(cut, layer, 'q', dtype), cut.tokens * to.RowBytes('q')));
  }
  return absl::OkStatus();
}

void Report(const KvDump::Text& cut, const Loaded& loaded, const GetFlags& flags,
            const Client& client) {
  if (flags.store.json) {
    JsonLine()
        .Text("text", cut.name)
        .Number("tokens", cut.tokens)
        .Number("level", loaded.level)
        .Bool("lossless", loaded.lossless)
        .Number("key_distortion", double{loaded.distortion.key})
        .Number("value_distortion", double{loaded.distortion.value})
        .Number("bytes_received", loaded.bytes)
        .Text("carrier", client.carrier())
        .Print();
    return;
  }
  printf("%s: %u tokens at level %u, %.1f MB moved, ", cut.name.c_str(), cut.tokens, loaded.level,
         static_cast<double>(loaded.bytes) / 1e6);
  if (loaded.lossless) {
    printf("exact\n");
  } else {
    printf("lost of K %.4f, of V %.4f\n", double{loaded.distortion.key},
           double{loaded.distortion.value});
  }
}

}  // namespace

absl::StatusOr<int> GetKv(const GetFlags& flags) {
  REPRISE_ASSIGN_OR_RETURN(const KvPrefixes prefixes, ReadKvPrefixes(flags.kv, flags.store.tenant));
  REPRISE_ASSIGN_OR_RETURN(Connection connection, Connect(flags.store));
  REPRISE_ASSIGN_OR_RETURN(const std::unique_ptr<NewDirectory> output,
                           NewDirectory::Create(flags.output));
  KvDump to = prefixes.dump;
  to.directory = output->partial();
  to.texts.clear();
  for (const KvPrefix& prefix : prefixes.texts) {
    REPRISE_ASSIGN_OR_RETURN(
        const LookupResult held,
        connection.client->Lookup(prefix.keys, {}, connection.deadline).Wait());
    if (held.chunks < prefix.keys.chunk_count()) {
      return ReportMiss(held.miss.value_or(Miss{}),
                        absl::StrCat(prefix.text.name, ", chunk ", held.chunks));
    }
    REPRISE_RETURN_IF_ERROR(CheckLevel(held, flags, prefix.text.name));
    KvDump::Text& cut = to.texts.emplace_back(prefix.text);
    cut.tokens =
        static_cast<uint32_t>(prefix.keys.chunk_count() * prefixes.name_space.chunk_tokens);
    std::error_code error;
    fs::create_directories(to.directory / cut.folder, error);
    if (error) {
      return absl::UnavailableError(
          absl::StrCat("cannot write ", flags.output, ": ", error.message()));
    }
    REPRISE_ASSIGN_OR_RETURN(const Loaded loaded, LoadText(prefix, to, held, flags, connection));
    if (loaded.miss.has_value()) {
      return ReportMiss(*loaded.miss,
                        absl::StrCat(prefix.text.name, ", chunk ", loaded.miss->chunk));
    }
    REPRISE_RETURN_IF_ERROR(
        CopyRest(prefixes.dump, prefix.text, to, cut, prefixes.name_space.kv_dtype));
    Report(cut, loaded, flags, *connection.client);
  }
  REPRISE_RETURN_IF_ERROR(WriteKvManifest(to));
  REPRISE_RETURN_IF_ERROR(output->Keep());
  if (!flags.store.json) printf("wrote %s\n", flags.output.c_str());
  return kExitOk;
}

}  // namespace reprise::cli
