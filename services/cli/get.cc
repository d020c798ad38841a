#include <utility>

#include "absl/strings/str_cat.h"
#include <stdio.h>

#include "chunk/container.h"
#include "services/cli/commands.h"
#include "services/cli/connection.h"
#include "services/cli/file_io.h"
#include "services/cli/json_line.h"
#include "services/store/absl_text.h"

namespace reprise::cli {
namespace {

using store::ToAbsl;

// The file inside an opaque piece: its body.
absl::StatusOr<ByteSpan> FileOf(ByteSpan container, std::string_view name) {
  REPRISE_ASSIGN_OR_RETURN(const PieceMeta meta, PieceMeta::Parse(container));
  for (const Segment& segment : meta.segments()) {
    if (segment.part != TensorPart::kOpaque || segment.plane != 0) {
      return absl::InvalidArgumentError(
          absl::StrCat(ToAbsl(name), " is no plain file; add --piece to get it as it is encoded"));
    }
  }
  return container.subspan(meta.meta_bytes());
}

}  // namespace

absl::StatusOr<int> Get(const GetFlags& flags) {
  const std::string_view name = NameOf(flags.object);
  REPRISE_ASSIGN_OR_RETURN(const Key key, KeyOf(flags.object, flags.store));
  std::optional<Digest> fingerprint;
  if (!flags.object.name.empty()) {
    REPRISE_ASSIGN_OR_RETURN(fingerprint, Fingerprint(FileNamespace(flags.store.tenant)));
  }
  REPRISE_ASSIGN_OR_RETURN(Connection connection, Connect(flags.store));
  REPRISE_ASSIGN_OR_RETURN(
      const ObjectBytes object,
      connection.client->FetchPiece(key, fingerprint, kMaxPlanes - 1, connection.deadline).Wait());
  if (object.miss.has_value()) return ReportMiss(*object.miss, name);

  ByteSpan bytes = object.container;
  if (!flags.piece) {
    REPRISE_ASSIGN_OR_RETURN(bytes, FileOf(object.container, name));
  }
  REPRISE_RETURN_IF_ERROR(WriteFile(flags.output, bytes));
  if (flags.output == "-") return kExitOk;
  if (flags.store.json) {
    JsonLine()
        .Text("key", key.digest.Hex())
        .Number("bytes", bytes.size())
        .Text("carrier", connection.client->carrier())
        .Print();
  } else {
    printf("got %zu bytes into %s\n", bytes.size(), flags.output.c_str());
  }
  return kExitOk;
}

}  // namespace reprise::cli
