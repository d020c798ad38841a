// What a dump's KV is called: from its manifest and token ids to a namespace and keys.
//
// Plain values, not thread-safe.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "chunk/keys.h"
#include "chunk/namespace.h"
#include "codec/profile.h"
#include "common/status.h"
#include "services/cli/commands.h"
#include "services/cli/kv_dump.h"

namespace reprise::cli {

struct KvPrefix {
  KvDump::Text text;
  PrefixKeys keys;  // of its whole chunks, at least one
};

struct KvPrefixes {
  KvDump dump;
  std::shared_ptr<const Profile> profile;  // null for none
  // A group for each kind of layer, in the order of their first layers, cut into pieces of a
  // moderate size. It names the profile.
  Namespace name_space;
  std::vector<KvPrefix> texts;  // that were asked for, at least one
};

// Reads the manifest, the profile and the token ids, no KV. Errors as ReadKvDump and ParseProfile;
// NOT_FOUND when the dump has no token ids; INVALID_ARGUMENT when their number is wrong or fills no
// chunk, for a profile of another shape, when a text does not begin at position 0, and for a text
// that is not there.
absl::StatusOr<KvPrefixes> ReadKvPrefixes(const KvFlags& flags, const std::string& tenant);

}  // namespace reprise::cli
