// The files of segments, and the header that says whose they are (docs/disk-format.md).
//
// Everything here blocks on the disk; errors are those of Env.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "common/status.h"
#include "storage/env/env.h"

namespace reprise::storage {

inline constexpr size_t kNodeIdBytes = 32;  // in hexadecimal digits

// "00000042.seg"; and its number, nullopt for any other name.
std::string SegmentFileName(uint32_t number);
std::optional<uint32_t> ParseSegmentFileName(std::string_view name);

struct SegmentIdentity {
  std::string node_id;  // kNodeIdBytes long
  uint32_t number = 0;

  friend bool operator==(const SegmentIdentity&, const SegmentIdentity&) = default;
};

// Makes the file in `directory` with all its room, its header and its name durable. Nothing is left
// of it after an error.
absl::StatusOr<std::unique_ptr<EnvFile>> CreateSegmentFile(Env& env, const std::string& directory,
                                                           const SegmentIdentity& identity,
                                                           uint64_t segment_bytes);

// Opens what is there and gives it its room again, should it have been cut.
absl::StatusOr<std::unique_ptr<EnvFile>> OpenSegmentFile(Env& env, const std::string& directory,
                                                         uint32_t number, uint64_t segment_bytes);

// What the header says; nullopt when it is damaged.
absl::StatusOr<std::optional<SegmentIdentity>> ReadSegmentHeader(const EnvFile& file);
absl::Status WriteSegmentHeader(EnvFile& file, const SegmentIdentity& identity);

}  // namespace reprise::storage
