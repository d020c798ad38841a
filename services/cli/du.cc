// `reprise du`: where the bytes of a store's disk are.

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include <stdio.h>

#include "services/cli/commands.h"
#include "services/cli/json_line.h"
#include "storage/nvme/nvme_check.h"

namespace reprise::cli {
namespace {

using storage::NvmeContents;

// Of the segments' files, what no piece takes: given up and not emptied yet, or not written yet.
uint64_t RestOf(const NvmeContents& contents) {
  return contents.bytes_in_segments - std::min(contents.bytes_in_segments, contents.bytes_live);
}

void PrintJson(const NvmeContents& contents) {
  std::vector<std::string> namespaces;
  namespaces.reserve(contents.namespaces.size());
  for (const NvmeContents::Namespace& entry : contents.namespaces) {
    namespaces.push_back(JsonLine()
                             .Text("tenant", entry.tenant_name)
                             .Text("namespace", entry.fingerprint.Hex())
                             .Number("pieces", entry.pieces)
                             .Number("bytes", entry.bytes)
                             .Line());
  }
  JsonLine()
      .Text("node", contents.node_id)
      .Number("pieces", contents.pieces)
      .Number("bytes_live", contents.bytes_live)
      .Number("bytes_free_or_dead", RestOf(contents))
      .Number("bytes_index", contents.bytes_index)
      .Number("segments", contents.segments)
      .Number("segment_bytes", contents.segment_bytes)
      .Number("bad_records", contents.bad_records)
      .Raw("namespaces", absl::StrCat("[", absl::StrJoin(namespaces, ", "), "]"))
      .Print();
}

void PrintRow(uint64_t bytes, uint64_t pieces, const std::string& what) {
  printf("%16llu %12llu  %s\n", static_cast<unsigned long long>(bytes),
         static_cast<unsigned long long>(pieces), what.c_str());
}

}  // namespace

absl::StatusOr<int> DiskUse(const DuFlags& flags) {
  REPRISE_ASSIGN_OR_RETURN(const NvmeContents contents,
                           storage::ReadNvmeContents(flags.directory, storage::Env::Machine()));
  if (flags.json) {
    PrintJson(contents);
    return kExitOk;
  }
  printf("%16s %12s\n", "bytes", "pieces");
  for (const NvmeContents::Namespace& entry : contents.namespaces) {
    PrintRow(entry.bytes, entry.pieces,
             absl::StrCat("tenant ", entry.tenant_name, ", namespace ", entry.fingerprint.Hex()));
  }
  PrintRow(contents.bytes_live, contents.pieces, "all pieces");
  PrintRow(RestOf(contents), 0,
           absl::StrCat("dead or free in ", contents.segments, " segments of ",
                        contents.segment_bytes, " bytes"));
  PrintRow(contents.bytes_index, 0, "index");
  if (contents.bad_records > 0) {
    fprintf(stderr, "%llu records of the index are damaged; reprise fsck says more\n",
            static_cast<unsigned long long>(contents.bad_records));
  }
  return kExitOk;
}

}  // namespace reprise::cli
