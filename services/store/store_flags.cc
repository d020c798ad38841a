#include "services/store/store_flags.h"

#include "common/host_port.h"
#include "services/store/byte_size.h"

namespace reprise::store {
namespace {

absl::Status CheckAddress(const std::optional<std::string>& text, std::string_view what,
                          bool may_be_off) {
  if (!text.has_value() || (may_be_off && *text == kOff)) return absl::OkStatus();
  return ParseHostPort(*text, what).status();
}

absl::Status CheckDisk(const std::string& directory, bool has_size) {
  if (directory.empty() == !has_size) return absl::OkStatus();
  return absl::InvalidArgumentError(
      has_size ? "--disk-size without --disk: name the directory that may take so much"
               : "--disk without --disk-size: say how much of the disk the store may take");
}

}  // namespace

absl::Status CheckFlags(const StoreFlags& flags) {
  REPRISE_RETURN_IF_ERROR(CheckAddress(flags.listen, "the listen address", false));
  REPRISE_RETURN_IF_ERROR(CheckAddress(flags.data, "the data address", true));
  REPRISE_RETURN_IF_ERROR(CheckAddress(flags.metrics, "the metrics address", true));
  // A file may name the other one.
  if (!flags.config.has_value() && flags.disk.has_value() != flags.disk_size.has_value()) {
    return CheckDisk(flags.disk.value_or(""), flags.disk_size.has_value());
  }
  StoreFlags without_file = flags;
  without_file.config.reset();
  return MakeConfig(without_file).status();
}

absl::StatusOr<StoreConfig> MakeConfig(const StoreFlags& flags) {
  StoreConfig config;
  if (flags.config.has_value()) {
    REPRISE_RETURN_IF_ERROR(ApplyYamlFile(*flags.config, config));
  }
  if (flags.listen.has_value()) config.listen = *flags.listen;
  if (flags.data.has_value()) config.data = *flags.data;
  if (flags.same_host) config.same_host = true;
  if (flags.metrics.has_value()) config.metrics = *flags.metrics;
  if (flags.memory.has_value()) {
    const absl::StatusOr<uint64_t> bytes = ParseByteSize(*flags.memory);
    if (!bytes.ok()) return Annotate(bytes.status(), "--memory");
    config.memory_bytes = *bytes;
  }
  if (flags.disk.has_value()) config.disk = *flags.disk;
  if (flags.disk_size.has_value()) {
    const absl::StatusOr<uint64_t> bytes = ParseByteSize(*flags.disk_size);
    if (!bytes.ok()) return Annotate(bytes.status(), "--disk-size");
    config.disk_bytes = *bytes;
  }
  if (flags.floor.has_value()) {
    const absl::StatusOr<Distortion> floor = ParseFloor(*flags.floor);
    if (!floor.ok()) return Annotate(floor.status(), "--floor");
    config.floor = *floor;
  }
  if (flags.log_level.has_value()) {
    const absl::StatusOr<LogLevel> level = ParseLogLevel(*flags.log_level);
    if (!level.ok()) return Annotate(level.status(), "--log-level");
    config.log_level = *level;
  }
  return config;
}

}  // namespace reprise::store
