// pin, unpin and warm: the same objects, one line for each name, key or text.

#include <algorithm>
#include <chrono>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include <stdio.h>

#include "common/limits.h"
#include "services/cli/commands.h"
#include "services/cli/connection.h"
#include "services/cli/json_line.h"
#include "services/cli/kv_prefix.h"

namespace reprise::cli {
namespace {

struct Target {
  std::string name;
  std::vector<Key> keys;
};

absl::StatusOr<std::vector<Target>> TargetsOf(const KeepFlags& flags) {
  std::vector<Target> targets;
  if (!flags.kv.directory.empty()) {
    REPRISE_ASSIGN_OR_RETURN(const KvPrefixes prefixes,
                             ReadKvPrefixes(flags.kv, flags.store.tenant));
    for (const KvPrefix& text : prefixes.texts) {
      targets.push_back({text.text.name, text.keys.AllKeys(text.keys.chunk_count())});
    }
    return targets;
  }
  std::vector<ObjectFlags> objects;
  for (const std::string& name : flags.names) objects.push_back({.name = name, .key_hex = ""});
  for (const std::string& hex : flags.keys_hex) objects.push_back({.name = "", .key_hex = hex});
  for (const ObjectFlags& object : objects) {
    REPRISE_ASSIGN_OR_RETURN(const Key key, KeyOf(object, flags.store));
    targets.push_back({std::string(NameOf(object)), {key}});
  }
  return targets;
}

// Of so many keys, how many it did that to.
using Ask = std::function<absl::StatusOr<uint64_t>(Connection& connection, std::vector<Key> keys)>;

// `done` is what is said of those that it was done to; `only_leading`: none behind one that it was
// not done to.
absl::StatusOr<int> ForEach(const KeepFlags& flags, const char* done, bool only_leading,
                            const Ask& ask) {
  REPRISE_ASSIGN_OR_RETURN(const std::vector<Target> targets, TargetsOf(flags));
  REPRISE_ASSIGN_OR_RETURN(Connection connection, Connect(flags.store));
  bool all = true;
  for (const Target& target : targets) {
    uint64_t count = 0;
    for (size_t first = 0; first < target.keys.size(); first += kMaxKeysPerLookup) {
      const auto begin = target.keys.begin() + static_cast<ptrdiff_t>(first);
      const size_t size = std::min(kMaxKeysPerLookup, target.keys.size() - first);
      const absl::StatusOr<uint64_t> some =
          ask(connection, std::vector<Key>(begin, begin + static_cast<ptrdiff_t>(size)));
      if (!some.ok()) return Annotate(some.status(), target.name);
      count += *some;
      if (only_leading && *some < size) break;
    }
    all = all && count == target.keys.size();
    if (flags.store.json) {
      JsonLine()
          .Text("name", target.name)
          .Number(done, count)
          .Number("of", target.keys.size())
          .Print();
    } else {
      printf("%s: %llu of %zu %s\n", target.name.c_str(), static_cast<unsigned long long>(count),
             target.keys.size(), done);
    }
  }
  return all ? kExitOk : kExitMiss;
}

}  // namespace

absl::StatusOr<int> Pin(const KeepFlags& flags) {
  return ForEach(flags, "pinned", false, [&flags](Connection& connection, std::vector<Key> keys) {
    return connection.client
        ->Pin(std::move(keys), std::chrono::seconds(flags.seconds), connection.deadline)
        .Wait();
  });
}

absl::StatusOr<int> Unpin(const KeepFlags& flags) {
  return ForEach(flags, "unpinned", false, [](Connection& connection, std::vector<Key> keys) {
    return connection.client->Unpin(std::move(keys), connection.deadline).Wait();
  });
}

absl::StatusOr<int> Warm(const KeepFlags& flags) {
  return ForEach(flags, "in memory", true, [](Connection& connection, std::vector<Key> keys) {
    return connection.client->Warm(std::move(keys), kMaxPlanes - 1, connection.deadline).Wait();
  });
}

}  // namespace reprise::cli
