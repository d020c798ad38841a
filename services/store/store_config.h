// What a store process is told: flags and a YAML file, with the same names.
//
//   listen: 127.0.0.1:7070
//   memory: 8GiB
//   tenants:
//     - name: search
//       credential_file: /etc/reprise/search.key
//       memory_quota: 2GiB
//
// Plain values and pure functions, except that reading a file reads it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "chunk/container.h"
#include "common/log.h"
#include "common/status.h"

namespace reprise::store {

// Largest configuration or credential file that is read.
inline constexpr size_t kMaxConfigFileBytes = size_t{1} << 20;
inline constexpr size_t kMaxCredentialBytes = 4096;

// The one tenant of a store for which none are configured.
inline constexpr std::string_view kDefaultTenant = "default";

struct TenantConfig {
  std::string name;
  std::string credential;
  // What its pieces may take, 0: whatever there is room for.
  uint64_t memory_quota_bytes = 0;
  uint64_t disk_quota_bytes = 0;
};

struct StoreConfig {
  // gRPC: sessions, and the fallback data path.
  std::string listen = "127.0.0.1:7070";
  // UCX data path: "host:port", "off", or empty for the host of `listen` and any free port ("off"
  // where that host is an IPv6 literal, which UCX cannot use).
  std::string data;
  // Clients of this user id on this host may read the process's memory instead of being sent bulk.
  bool same_host = false;
  // nullopt: a quarter of the machine's memory.
  std::optional<uint64_t> memory_bytes;
  // Where pieces are kept beyond memory; empty: nowhere. Goes with disk_bytes.
  std::string disk;
  std::optional<uint64_t> disk_bytes;
  // The worst errors down to which precision is given up before pieces are; 0: pieces go whole.
  Distortion floor;
  // Prometheus metrics and health, "host:port" or "off".
  std::string metrics = "127.0.0.1:9470";
  LogLevel log_level = LogLevel::kInfo;
  // Empty: one tenant, "default", without a credential.
  std::vector<TenantConfig> tenants;
};

inline constexpr std::string_view kOff = "off";

// Applies the YAML text `yaml` on top of `config`, which is unspecified after an error.
// INVALID_ARGUMENT as "SOURCE:LINE: what is wrong" for bad YAML, an unknown or repeated key and a
// bad value; credential files are read relative to the working directory, NOT_FOUND or
// INVALID_ARGUMENT when that fails.
absl::Status ApplyYaml(std::string_view yaml, std::string_view source, StoreConfig& config);

// Reads `path` and applies it. NOT_FOUND when it cannot be read.
absl::Status ApplyYamlFile(const std::string& path, StoreConfig& config);

// One line of the log level's name: "debug", "info", "warning", "error" or "off".
absl::StatusOr<LogLevel> ParseLogLevel(std::string_view name);

// "K,V", or one number for both: from 0 up to, but not including, 1. INVALID_ARGUMENT for anything
// else.
absl::StatusOr<Distortion> ParseFloor(std::string_view text);

// A file's text without trailing line ends. NOT_FOUND naming the path and the reason when it cannot
// be read, INVALID_ARGUMENT when it is empty or longer than kMaxCredentialBytes.
absl::StatusOr<std::string> ReadCredentialFile(const std::string& path);

}  // namespace reprise::store
