// From a command's flags to a connected client, and to keys.
#pragma once

#include <memory>
#include <string_view>

#include "chunk/keys.h"
#include "client/reprise.h"
#include "common/clock.h"
#include "common/status.h"
#include "services/cli/commands.h"

namespace reprise::cli {

struct Connection {
  std::unique_ptr<Client> client;
  Deadline deadline;  // of the whole command
};

// Blocks for the command's timeout at most. Errors as Client::Connect and ReadCredentialFile.
absl::StatusOr<Connection> Connect(const StoreFlags& flags);

// INVALID_ARGUMENT, naming `what`, unless `hex` is 64 hexadecimal digits.
absl::StatusOr<Digest> ParseHex(std::string_view hex, std::string_view what);

// The key that `object` names for the tenant of `store`.
absl::StatusOr<Key> KeyOf(const ObjectFlags& object, const StoreFlags& store);

// What is to be said of an object that did not come: exit code kExitMiss, after a line on standard
// error, or an error when the store is to blame.
absl::StatusOr<int> ReportMiss(const Miss& miss, std::string_view name);

// How messages call the object: its name, or its key.
std::string_view NameOf(const ObjectFlags& object);

// Says on standard error that the store does not hold `name`, and returns kExitMiss.
int ReportNotHeld(std::string_view name);

}  // namespace reprise::cli
