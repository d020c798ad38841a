#include <utility>

#include "absl/strings/str_cat.h"
#include <stdio.h>

#include "codec/codec.h"
#include "common/limits.h"
#include "services/cli/commands.h"
#include "services/cli/connection.h"
#include "services/cli/file_io.h"
#include "services/cli/json_line.h"

namespace reprise::cli {
namespace {

// The container to store: the file as it is, or wrapped as an opaque piece.
absl::StatusOr<std::vector<std::byte>> ReadContainer(const PutFlags& flags) {
  if (flags.piece) return ReadFile(flags.file, kMaxPieceMetaBytes + kMaxPieceBodyBytes);
  REPRISE_ASSIGN_OR_RETURN(const std::vector<std::byte> file,
                           ReadFile(flags.file, kMaxPieceBodyBytes));
  if (file.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(flags.file, " is empty; there is nothing to store"));
  }
  REPRISE_ASSIGN_OR_RETURN(const Key key, FileKey(flags.store.tenant, flags.name));
  REPRISE_ASSIGN_OR_RETURN(const Digest fingerprint,
                           Fingerprint(FileNamespace(flags.store.tenant)));
  return EncodeFile(key, fingerprint, file);
}

// Parses what is about to be sent, so that a bad piece is named by its file before anything is
// sent.
absl::StatusOr<PieceHeader> CheckContainer(ByteSpan container, const std::string& file) {
  const absl::StatusOr<PieceMeta> meta = PieceMeta::Parse(container);
  if (!meta.ok()) return Annotate(meta.status(), file);
  const std::optional<uint32_t> level = meta->LevelEndingAt(container.size());
  if (!level.has_value()) {
    return absl::DataLossError(absl::StrCat(file, " has ", container.size(),
                                            " bytes, but its header says ", meta->total_bytes()));
  }
  const absl::Status intact = meta->VerifyBody(container.subspan(meta->meta_bytes()), *level);
  if (!intact.ok()) return Annotate(intact, file);
  return meta->header();
}

struct Sizes {
  size_t piece_bytes = 0;
  size_t file_bytes = 0;  // the body of a wrapped file
};

void Report(const PutFlags& flags, const PieceHeader& header, Sizes sizes, const char* outcome,
            const Client& client) {
  if (flags.store.json) {
    JsonLine()
        .Text("key", header.key.digest.Hex())
        .Text("content_id", header.content_id.digest.Hex())
        .Text("outcome", outcome)
        .Number("piece_bytes", sizes.piece_bytes)
        .Text("carrier", client.carrier())
        .Print();
    return;
  }
  const std::string key = header.key.digest.Hex();
  if (flags.piece) {
    printf("%s %zu bytes as key %s\n", outcome, sizes.piece_bytes, key.c_str());
  } else {
    printf("%s %zu bytes, %zu with their header, as key %s\n", outcome, sizes.file_bytes,
           sizes.piece_bytes, key.c_str());
  }
}

}  // namespace

absl::StatusOr<int> Put(const PutFlags& flags) {
  REPRISE_ASSIGN_OR_RETURN(std::vector<std::byte> container, ReadContainer(flags));
  REPRISE_ASSIGN_OR_RETURN(const PieceHeader header, CheckContainer(container, flags.file));
  REPRISE_ASSIGN_OR_RETURN(Connection connection, Connect(flags.store));
  Client& client = *connection.client;

  REPRISE_ASSIGN_OR_RETURN(const ObjectStat held,
                           client.Stat(header.key, false, connection.deadline).Wait());
  const bool same = held.info.has_value() && held.info->state.content_id == header.content_id;
  if (held.info.has_value() && !same) {
    if (!flags.replace) {
      return absl::InvalidArgumentError(
          absl::StrCat(flags.piece ? header.key.digest.Hex() : flags.name,
                       " is held with other content; add --replace to put this in its place"));
    }
    REPRISE_RETURN_IF_ERROR(client.Remove({header.key}, connection.deadline).Wait().status());
  }
  REPRISE_ASSIGN_OR_RETURN(const PieceMeta meta, PieceMeta::Parse(container));
  const Sizes sizes{container.size(), container.size() - meta.meta_bytes()};
  auto owner = std::make_shared<const std::vector<std::byte>>(std::move(container));
  const absl::StatusOr<PublishResult> result =
      client
          .PublishPiece(SharedBytes(*owner, owner),
                        {.position = header.token_begin,
                         .durable = flags.durable,
                         .ttl = std::chrono::seconds(flags.ttl_s)},
                        connection.deadline)
          .Wait();
  if (!result.ok()) return Annotate(result.status(), flags.file);
  Report(flags, header, sizes, result->pieces_stored > 0 ? "stored" : "already held", client);
  return kExitOk;
}

}  // namespace reprise::cli
