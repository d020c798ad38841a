// The flags of `reprise store`, as text, and how they override a configuration file.
#pragma once

#include <optional>
#include <string>

#include "common/status.h"
#include "services/store/store_config.h"

namespace reprise::store {

// nullopt: not given.
struct StoreFlags {
  std::optional<std::string> config;  // path of a YAML file
  std::optional<std::string> listen;
  std::optional<std::string> data;
  bool same_host = false;
  std::optional<std::string> memory;
  std::optional<std::string> disk;
  std::optional<std::string> disk_size;
  std::optional<std::string> floor;
  std::optional<std::string> metrics;
  std::optional<std::string> log_level;
};

// Whether the flags make sense by themselves, whatever a file says: wrong usage if not.
// INVALID_ARGUMENT naming the flag.
absl::Status CheckFlags(const StoreFlags& flags);

// Defaults, then the file, then the flags. INVALID_ARGUMENT naming the flag or the file's line;
// NOT_FOUND when the file cannot be read.
absl::StatusOr<StoreConfig> MakeConfig(const StoreFlags& flags);

}  // namespace reprise::store
