#include "services/cli/connection.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include <stdio.h>

#include "common/log.h"
#include "services/store/absl_text.h"
#include "services/store/store_config.h"

namespace reprise::cli {

using store::ToAbsl;

absl::StatusOr<Connection> Connect(const StoreFlags& flags) {
  // The one line that says what went wrong is the command's own.
  SetLogLevel(LogLevel::kOff);
  const auto timeout = std::chrono::duration_cast<std::chrono::milliseconds>(
      std::chrono::duration<double>(flags.timeout_s));
  Connection connection{nullptr, Deadline::After(timeout)};
  ClientOptions options;
  options.address = flags.address;
  options.replicas = flags.replicas;
  options.tenant = flags.tenant;
  if (!flags.credential_file.empty()) {
    REPRISE_ASSIGN_OR_RETURN(options.credential, store::ReadCredentialFile(flags.credential_file));
  }
  if (flags.carrier == "ucx") options.carrier = Carrier::kUcx;
  if (flags.carrier == "grpc") options.carrier = Carrier::kGrpc;
  // A slow machine gets more time to connect by a longer --timeout; the default keeps its 5 s.
  options.connect_timeout = std::min(std::max(options.connect_timeout, timeout / 12), timeout);
  absl::StatusOr<std::unique_ptr<Client>> client = Client::Connect(std::move(options));
  if (!client.ok()) {
    const bool is_named = client.status().message().find(flags.address) != absl::string_view::npos;
    return is_named ? client.status() : Annotate(client.status(), "store " + flags.address);
  }
  connection.client = *std::move(client);
  return connection;
}

absl::StatusOr<Digest> ParseHex(std::string_view hex, std::string_view what) {
  const std::optional<Digest> digest = Digest::FromHex(hex);
  if (digest.has_value()) return *digest;
  return absl::InvalidArgumentError(
      absl::StrCat(ToAbsl(what), " \"", ToAbsl(hex), "\" is not 64 hexadecimal digits"));
}

absl::StatusOr<Key> KeyOf(const ObjectFlags& object, const StoreFlags& store) {
  if (!object.name.empty()) return FileKey(store.tenant, object.name);
  REPRISE_ASSIGN_OR_RETURN(const Digest digest, ParseHex(object.key_hex, "the key"));
  return Key{digest};
}

absl::StatusOr<int> ReportMiss(const Miss& miss, std::string_view name) {
  if (miss.reason == MissReason::kAbsent) return ReportNotHeld(name);
  const std::string line = absl::StrCat(ToAbsl(name), ": ", ToAbsl(MissReasonName(miss.reason)),
                                        miss.detail.empty() ? "" : ": ", miss.detail);
  if (miss.reason == MissReason::kPeerLost) return absl::UnavailableError(line);
  if (miss.reason == MissReason::kDeadline) return absl::DeadlineExceededError(line);
  fprintf(stderr, "reprise: %s\n", line.c_str());
  return kExitMiss;
}

std::string_view NameOf(const ObjectFlags& object) {
  return object.name.empty() ? object.key_hex : object.name;
}

int ReportNotHeld(std::string_view name) {
  fprintf(stderr, "reprise: %.*s: not held\n", static_cast<int>(name.size()), name.data());
  return kExitMiss;
}

}  // namespace reprise::cli
