#include "services/store/store_config.h"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <set>
#include <sstream>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include <yaml-cpp/yaml.h>

#include "common/host_port.h"
#include "common/limits.h"
#include "services/store/absl_text.h"
#include "services/store/byte_size.h"

namespace reprise::store {
namespace {

absl::StatusOr<std::string> ReadSmallFile(const std::string& path, size_t limit_bytes) {
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  std::string text(limit_bytes + 1, '\0');
  if (file) file.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (!file.is_open() || file.bad() || (file.fail() && !file.eof())) {
    const char* reason = errno != 0 ? std::strerror(errno) : "read error";
    return absl::NotFoundError(absl::StrCat("cannot read ", path, ": ", reason));
  }
  text.resize(static_cast<size_t>(file.gcount()));
  if (text.size() > limit_bytes) {
    return absl::InvalidArgumentError(absl::StrCat(path, " is longer than the ", limit_bytes,
                                                   " bytes that such a file may have"));
  }
  return text;
}

class YamlApplier {
 public:
  YamlApplier(std::string_view source, StoreConfig& config) : source_(source), config_(config) {}

  absl::Status Apply(const YAML::Node& root) {
    if (root.IsNull()) return absl::OkStatus();
    if (!root.IsMap())
      return Error(root, "the file needs \"key: value\" lines, such as \"memory: 8GiB\"");
    std::set<std::string> seen;
    for (const auto& entry : root) {
      REPRISE_ASSIGN_OR_RETURN(const std::string key, Scalar(entry.first, "a key", entry.first));
      if (!seen.insert(key).second) return Error(entry.first, absl::StrCat(key, " is given twice"));
      REPRISE_RETURN_IF_ERROR(ApplyKey(key, entry.first, entry.second));
    }
    return absl::OkStatus();
  }

 private:
  absl::Status Error(const YAML::Node& node, std::string_view what) const {
    return absl::InvalidArgumentError(
        absl::StrCat(ToAbsl(source_), ":", node.Mark().line + 1, ": ", ToAbsl(what)));
  }
  absl::Status ErrorFrom(const YAML::Node& node, const absl::Status& status) const {
    return Error(node, ToStd(status.message()));
  }

  // `key_node` says where, because a value left out is reported on the next line.
  absl::StatusOr<std::string> Scalar(const YAML::Node& node, std::string_view key,
                                     const YAML::Node& key_node) const {
    if (!node.IsScalar() || node.Scalar().empty()) {
      return Error(key_node, absl::StrCat(ToAbsl(key), " needs one value, as in \"", ToAbsl(key),
                                          ": VALUE\""));
    }
    return node.Scalar();
  }

  absl::Status ApplyKey(const std::string& key, const YAML::Node& key_node,
                        const YAML::Node& value) {
    if (key == "tenants") return ApplyTenants(value, key_node);
    if (key != "listen" && key != "data" && key != "memory" && key != "disk" &&
        key != "disk_size" && key != "floor" && key != "metrics" && key != "log_level" &&
        key != "same_host") {
      return Error(key_node, absl::StrCat("unknown key \"", key,
                                          "\"; the keys are listen, data, memory, disk, disk_size, "
                                          "floor, metrics, log_level, same_host and tenants"));
    }
    REPRISE_ASSIGN_OR_RETURN(std::string text, Scalar(value, key, key_node));
    const bool is_address = key == "listen" || key == "data" || key == "metrics";
    if (is_address && (key == "listen" || text != kOff)) {
      const absl::StatusOr<HostPort> endpoint = ParseHostPort(text, key);
      if (!endpoint.ok()) return ErrorFrom(value, endpoint.status());
    }
    if (key == "listen") {
      config_.listen = std::move(text);
    } else if (key == "data") {
      config_.data = std::move(text);
    } else if (key == "metrics") {
      config_.metrics = std::move(text);
    } else if (key == "disk") {
      config_.disk = std::move(text);
    } else if (key == "memory" || key == "disk_size") {
      absl::StatusOr<uint64_t> bytes = ParseByteSize(text);
      if (!bytes.ok()) return ErrorFrom(value, bytes.status());
      (key == "memory" ? config_.memory_bytes : config_.disk_bytes) = *bytes;
    } else if (key == "floor") {
      absl::StatusOr<Distortion> floor = ParseFloor(text);
      if (!floor.ok()) return ErrorFrom(value, floor.status());
      config_.floor = *floor;
    } else if (key == "same_host") {
      if (text != "true" && text != "false") {
        return Error(value, absl::StrCat("same_host is true or false, not \"", text, "\""));
      }
      config_.same_host = text == "true";
    } else {
      absl::StatusOr<LogLevel> level = ParseLogLevel(text);
      if (!level.ok()) return ErrorFrom(value, level.status());
      config_.log_level = *level;
    }
    return absl::OkStatus();
  }

  absl::Status ApplyTenants(const YAML::Node& list, const YAML::Node& key_node) {
    if (!list.IsSequence() || list.size() == 0) {
      return Error(key_node,
                   "tenants needs a list of \"- name: ...\" entries, each with a credential_file");
    }
    config_.tenants.clear();
    std::set<std::string> names;
    for (const YAML::Node& entry : list) {
      REPRISE_ASSIGN_OR_RETURN(TenantConfig tenant, ReadTenant(entry));
      if (!names.insert(tenant.name).second) {
        return Error(entry, absl::StrCat("tenant \"", tenant.name, "\" is given twice"));
      }
      config_.tenants.push_back(std::move(tenant));
    }
    return absl::OkStatus();
  }

  absl::StatusOr<TenantConfig> ReadTenant(const YAML::Node& entry) const {
    if (!entry.IsMap()) return Error(entry, "a tenant needs \"name\" and \"credential_file\"");
    TenantConfig tenant;
    std::set<std::string> seen;
    for (const auto& field : entry) {
      REPRISE_ASSIGN_OR_RETURN(const std::string key, Scalar(field.first, "a key", field.first));
      REPRISE_ASSIGN_OR_RETURN(std::string text, Scalar(field.second, key, field.first));
      if (!seen.insert(key).second) return Error(field.first, absl::StrCat(key, " is given twice"));
      if (seen.contains("credential") && seen.contains("credential_file")) {
        return Error(field.first, "a tenant has either credential or credential_file, not both");
      }
      if (key == "name") {
        tenant.name = std::move(text);
      } else if (key == "credential") {
        tenant.credential = std::move(text);
      } else if (key == "credential_file") {
        absl::StatusOr<std::string> credential = ReadCredentialFile(text);
        if (!credential.ok()) return ErrorFrom(field.second, credential.status());
        tenant.credential = *std::move(credential);
      } else if (key == "memory_quota" || key == "disk_quota") {
        const absl::StatusOr<uint64_t> bytes = ParseByteSize(text);
        if (!bytes.ok()) return ErrorFrom(field.second, bytes.status());
        if (*bytes == 0) return Error(field.second, absl::StrCat("a ", key, " of 0; leave it out"));
        (key == "memory_quota" ? tenant.memory_quota_bytes : tenant.disk_quota_bytes) = *bytes;
      } else {
        return Error(field.first, absl::StrCat("unknown key \"", key,
                                               "\" of a tenant; the keys are "
                                               "name, credential, credential_file, memory_quota "
                                               "and disk_quota"));
      }
    }
    if (tenant.name.empty()) return Error(entry, "a tenant without a name");
    if (tenant.name.size() > kMaxTenantNameBytes) {
      return Error(entry, absl::StrCat("a tenant's name of ", tenant.name.size(),
                                       " bytes; at most ", kMaxTenantNameBytes, " are allowed"));
    }
    if (tenant.credential.empty()) {
      return Error(entry, absl::StrCat("tenant \"", tenant.name,
                                       "\" needs either credential or credential_file"));
    }
    if (tenant.credential.size() > kMaxCredentialBytes) {
      return Error(entry, absl::StrCat("a credential of ", tenant.credential.size(),
                                       " bytes; at most ", kMaxCredentialBytes, " are allowed"));
    }
    return tenant;
  }

  std::string_view source_;
  StoreConfig& config_;
};

}  // namespace

absl::Status ApplyYaml(std::string_view yaml, std::string_view source, StoreConfig& config) {
  // yaml-cpp reports by exception, and only here.
  try {
    const std::vector<YAML::Node> documents = YAML::LoadAll(std::string(yaml));
    if (documents.empty()) return absl::OkStatus();
    if (documents.size() > 1) {
      return absl::InvalidArgumentError(
          absl::StrCat(ToAbsl(source), ":", documents[1].Mark().line + 1,
                       ": a second YAML document begins; there may be one"));
    }
    return YamlApplier(source, config).Apply(documents[0]);
  } catch (const YAML::Exception& error) {
    return absl::InvalidArgumentError(
        absl::StrCat(ToAbsl(source), ":", error.mark.line + 1, ": not valid YAML: ", error.msg));
  }
}

absl::Status ApplyYamlFile(const std::string& path, StoreConfig& config) {
  REPRISE_ASSIGN_OR_RETURN(const std::string text, ReadSmallFile(path, kMaxConfigFileBytes));
  return ApplyYaml(text, path, config);
}

absl::StatusOr<LogLevel> ParseLogLevel(std::string_view name) {
  if (name == "debug") return LogLevel::kDebug;
  if (name == "info") return LogLevel::kInfo;
  if (name == "warning") return LogLevel::kWarning;
  if (name == "error") return LogLevel::kError;
  if (name == kOff) return LogLevel::kOff;
  return absl::InvalidArgumentError(absl::StrCat(
      "\"", ToAbsl(name), "\" is not a log level: write debug, info, warning, error or off"));
}

absl::StatusOr<Distortion> ParseFloor(std::string_view text) {
  const auto parse = [](std::string_view number, float& error) {
    return absl::SimpleAtof(ToAbsl(number), &error) && error >= 0 && error < 1;
  };
  const size_t comma = text.find(',');
  Distortion floor;
  if (comma == std::string_view::npos && parse(text, floor.key)) {
    floor.value = floor.key;
    return floor;
  }
  if (comma != std::string_view::npos && parse(text.substr(0, comma), floor.key) &&
      parse(text.substr(comma + 1), floor.value)) {
    return floor;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("\"", ToAbsl(text),
                   "\" are no errors of K and V: write one number from 0 (exact) to below 1 for "
                   "both, or two with a comma between"));
}

absl::StatusOr<std::string> ReadCredentialFile(const std::string& path) {
  REPRISE_ASSIGN_OR_RETURN(std::string text, ReadSmallFile(path, kMaxCredentialBytes));
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r')) text.pop_back();
  if (text.empty()) return absl::InvalidArgumentError(absl::StrCat(path, " is empty"));
  return text;
}

}  // namespace reprise::store
