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

void Report(const PutFlags& flags, const PieceHeader& header, size_t bytes, const char* outcome,
            const Client& client) {
  if (flags.store.json) {
    JsonLine()
        .Text("key", header.key.digest.Hex())
        .Text("content_id", header.content_id.digest.Hex())
        .Text("outcome", outcome)
        .Number("piece_bytes", bytes)
        .Text("carrier", client.carrier())
        .Print();
    return;
  }
  printf("%s %zu bytes as key %s\n", outcome, bytes, header.key.digest.Hex().c_str());
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
  const size_t bytes = container.size();
  auto owner = std::make_shared<const std::vector<std::byte>>(std::move(container));
  REPRISE_ASSIGN_OR_RETURN(
      const PublishResult result,
      client.PublishPiece(SharedBytes(*owner, owner), header.token_begin, connection.deadline)
          .Wait());
  Report(flags, header, bytes, result.pieces_stored > 0 ? "stored" : "already held", client);
  return kExitOk;
}

}  // namespace reprise::cli
