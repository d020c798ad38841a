#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include <stdio.h>

#include "common/limits.h"
#include "services/cli/commands.h"
#include "services/cli/connection.h"
#include "services/cli/json_line.h"

namespace reprise::cli {
namespace {

JsonLine ToJson(const ObjectInfo& info) {
  std::string levels = "[";
  for (size_t k = 0; k < info.state.level_bytes.size(); ++k) {
    if (k > 0) levels += ", ";
    levels += JsonLine()
                  .Number("bytes", info.state.level_bytes[k])
                  .Number("key_distortion", static_cast<double>(info.state.distortions[k].key))
                  .Number("value_distortion", static_cast<double>(info.state.distortions[k].value))
                  .Line();
  }
  levels += "]";
  JsonLine line;
  line.Text("key", info.key.digest.Hex())
      .Text("namespace", info.namespace_fingerprint.Hex())
      .Text("content_id", info.state.content_id.digest.Hex())
      .Number("position", info.position)
      .Number("planes_held", info.state.planes_held)
      .Text("tier", TierName(info.state.tier))
      .Raw("levels", levels);
  return line;
}

uint64_t HeldBytes(const PieceState& state) {
  if (state.level_bytes.empty() || state.planes_held == 0) return 0;
  return state.level_bytes[std::min<size_t>(state.planes_held, state.level_bytes.size()) - 1];
}

void PrintStat(const ObjectInfo& info, bool verified) {
  printf("key         %s\n", info.key.digest.Hex().c_str());
  printf("namespace   %s\n", info.namespace_fingerprint.Hex().c_str());
  printf("content id  %s\n", info.state.content_id.digest.Hex().c_str());
  printf("position    %llu\n", static_cast<unsigned long long>(info.position));
  printf("planes      %u of %zu held, %llu bytes, on tier %s\n", info.state.planes_held,
         info.state.level_bytes.size(), static_cast<unsigned long long>(HeldBytes(info.state)),
         std::string(TierName(info.state.tier)).c_str());
  if (verified) printf("verified    every byte that a fetch gets matches its checksum\n");
}

}  // namespace

absl::StatusOr<int> Stat(const StatFlags& flags) {
  REPRISE_ASSIGN_OR_RETURN(const Key key, KeyOf(flags.object, flags.store));
  REPRISE_ASSIGN_OR_RETURN(Connection connection, Connect(flags.store));
  REPRISE_ASSIGN_OR_RETURN(const ObjectStat stat,
                           connection.client->Stat(key, flags.verify, connection.deadline).Wait());
  if (stat.dropped_as_corrupt) {
    return absl::DataLossError(
        absl::StrCat(std::string(NameOf(flags.object)),
                     ": the bytes that a fetch gets did not match and were dropped; "
                     "publish it again, unless `stat` still finds a copy"));
  }
  if (!stat.info.has_value()) return ReportNotHeld(NameOf(flags.object));
  if (flags.store.json) {
    ToJson(*stat.info).Bool("verified", flags.verify).Print();
  } else {
    PrintStat(*stat.info, flags.verify);
  }
  return kExitOk;
}

absl::StatusOr<int> List(const ListFlags& flags) {
  std::optional<Digest> fingerprint;
  if (!flags.namespace_hex.empty()) {
    REPRISE_ASSIGN_OR_RETURN(fingerprint, ParseHex(flags.namespace_hex, "the namespace"));
  }
  REPRISE_ASSIGN_OR_RETURN(Connection connection, Connect(flags.store));
  uint64_t left = flags.limit == 0 ? UINT64_MAX : flags.limit;
  std::optional<Key> after;
  bool first = true;
  while (left > 0) {
    const auto page_limit = static_cast<uint32_t>(std::min<uint64_t>(left, kMaxKeysPerList));
    REPRISE_ASSIGN_OR_RETURN(
        const ObjectPage page,
        connection.client->List(after, page_limit, fingerprint, connection.deadline).Wait());
    // Words go to standard error, so that lines of standard output are objects.
    if (first && !flags.store.json) {
      if (page.objects.empty()) {
        fprintf(stderr, "nothing is held\n");
      } else {
        fprintf(stderr, "%-64s %12s namespace\n", "key", "bytes held");
      }
    }
    first = false;
    for (const ObjectInfo& info : page.objects) {
      if (flags.store.json) {
        ToJson(info).Print();
      } else {
        printf("%s %12llu %s\n", info.key.digest.Hex().c_str(),
               static_cast<unsigned long long>(HeldBytes(info.state)),
               info.namespace_fingerprint.Hex().c_str());
      }
    }
    if (!page.more || page.objects.empty()) break;
    left -= std::min<uint64_t>(left, page.objects.size());
    after = page.objects.back().key;
  }
  return kExitOk;
}

namespace {

absl::StatusOr<int> RemoveWhole(const RemoveFlags& flags) {
  REPRISE_ASSIGN_OR_RETURN(const Digest fingerprint,
                           ParseHex(flags.namespace_hex, "the namespace"));
  REPRISE_ASSIGN_OR_RETURN(Connection connection, Connect(flags.store));
  REPRISE_ASSIGN_OR_RETURN(
      const uint64_t removed,
      connection.client->RemoveNamespace(fingerprint, connection.deadline).Wait());
  if (flags.store.json) {
    JsonLine().Number("removed", removed).Print();
  } else if (removed > 0) {
    printf("removed %llu\n", static_cast<unsigned long long>(removed));
  }
  if (removed > 0) return kExitOk;
  return flags.store.json ? kExitMiss : ReportNotHeld("namespace " + flags.namespace_hex);
}

}  // namespace

absl::StatusOr<int> Remove(const RemoveFlags& flags) {
  if (!flags.namespace_hex.empty()) return RemoveWhole(flags);
  std::vector<ObjectFlags> objects;
  for (const std::string& name : flags.names) objects.push_back({.name = name, .key_hex = ""});
  for (const std::string& hex : flags.keys_hex) objects.push_back({.name = "", .key_hex = hex});
  std::vector<Key> keys;
  for (const ObjectFlags& object : objects) {
    REPRISE_ASSIGN_OR_RETURN(keys.emplace_back(), KeyOf(object, flags.store));
  }
  REPRISE_ASSIGN_OR_RETURN(Connection connection, Connect(flags.store));
  // One at a time: the answer is a number, and which were absent is worth a round trip.
  uint64_t removed = 0;
  std::vector<std::string_view> absent;
  for (size_t i = 0; i < keys.size(); ++i) {
    REPRISE_ASSIGN_OR_RETURN(const uint64_t one,
                             connection.client->Remove({keys[i]}, connection.deadline).Wait());
    removed += one;
    if (one == 0) absent.push_back(NameOf(objects[i]));
  }
  if (flags.store.json) {
    std::string names;
    for (const std::string_view name : absent) {
      names += (names.empty() ? "" : ", ") + JsonString(name);
    }
    JsonLine().Number("removed", removed).Raw("not_held", "[" + names + "]").Print();
  } else {
    if (removed > 0) printf("removed %llu\n", static_cast<unsigned long long>(removed));
    for (const std::string_view name : absent) ReportNotHeld(name);
  }
  return absent.empty() ? kExitOk : kExitMiss;
}

}  // namespace reprise::cli
