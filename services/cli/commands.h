// What each sub-command does, once its flags are known. command_line.h parses them.
//
// Every function blocks until its command has ended, prints its result to standard output, and
// returns the exit code; an error status becomes one line on standard error and exit code 1.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "common/status.h"

namespace reprise::cli {

inline constexpr int kExitOk = 0;
inline constexpr int kExitError = 1;
inline constexpr int kExitUsage = 2;
inline constexpr int kExitMiss = 3;

// How to reach a store; the same flags on every command that needs one.
struct StoreFlags {
  std::string address = "127.0.0.1:7070";
  std::string tenant = "default";
  std::string credential_file;
  std::string carrier = "auto";
  double timeout_s = 60;
  bool json = false;
};

// An object by name (a file that `put` stored) or by key; exactly one is set.
struct ObjectFlags {
  std::string name;
  std::string key_hex;
};

struct PutFlags {
  StoreFlags store;
  std::string name;  // empty with `piece`
  std::string file;
  bool piece = false;
  bool replace = false;
};
absl::StatusOr<int> Put(const PutFlags& flags);

struct GetFlags {
  StoreFlags store;
  ObjectFlags object;
  std::string output = "-";
  bool piece = false;
};
absl::StatusOr<int> Get(const GetFlags& flags);

struct StatFlags {
  StoreFlags store;
  ObjectFlags object;
  bool verify = false;
};
absl::StatusOr<int> Stat(const StatFlags& flags);

struct ListFlags {
  StoreFlags store;
  std::string namespace_hex;
  uint64_t limit = 0;  // 0: all
};
absl::StatusOr<int> List(const ListFlags& flags);

struct RemoveFlags {
  StoreFlags store;
  std::vector<std::string> names;
  std::vector<std::string> keys_hex;
  std::string namespace_hex;
  bool yes = false;
};
absl::StatusOr<int> Remove(const RemoveFlags& flags);

absl::StatusOr<int> Version(bool json);

}  // namespace reprise::cli
