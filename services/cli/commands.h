// What each sub-command does, once its flags are known. command_line.h parses them.
//
// Every function blocks until its command has ended, prints its result to standard output, and
// returns the exit code; an error status becomes one line on standard error and exit code 1.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
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
  std::string address = "127.0.0.1:7070";  // or several, as ClientOptions::address
  uint32_t replicas = 1;
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

// The K and V of a dump (docs/kv-dump.md) instead of a file.
struct KvFlags {
  std::string directory;  // empty: no dump
  std::string text;       // empty: every text of it
  std::string dtype = "bf16";
  std::string profile;  // a file; empty: none
};

struct PutFlags {
  StoreFlags store;
  KvFlags kv;
  std::string name;  // empty with `piece`
  std::string file;
  bool piece = false;
  bool replace = false;
  bool durable = false;
  uint32_t ttl_s = 0;                 // 0: it stays
  std::string codec = "progressive";  // of KV
};
absl::StatusOr<int> Put(const PutFlags& flags);
absl::StatusOr<int> PutKv(const PutFlags& flags);

struct GetFlags {
  StoreFlags store;
  KvFlags kv;
  ObjectFlags object;
  std::string output = "-";
  bool piece = false;
  std::optional<uint32_t> level;  // of KV; nullopt: the highest
};
absl::StatusOr<int> Get(const GetFlags& flags);
absl::StatusOr<int> GetKv(const GetFlags& flags);

struct CalibrateFlags {
  std::string directory;           // of a dump with Q (docs/kv-dump.md)
  std::vector<std::string> texts;  // empty: all of them
  std::string dtype = "bf16";
  std::string output;
};
absl::StatusOr<int> Calibrate(const CalibrateFlags& flags);

// Objects by name or key, or the prefixes of a dump.
struct KeepFlags {
  StoreFlags store;
  KvFlags kv;
  std::vector<std::string> names;
  std::vector<std::string> keys_hex;
  uint32_t seconds = 3600;  // of a pin
};
absl::StatusOr<int> Pin(const KeepFlags& flags);
absl::StatusOr<int> Unpin(const KeepFlags& flags);
absl::StatusOr<int> Warm(const KeepFlags& flags);

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

// Of the directory that a store was given as --disk.
struct FsckFlags {
  std::string directory;
  bool repair = false;
  bool json = false;
};
absl::StatusOr<int> Fsck(const FsckFlags& flags);

struct DuFlags {
  std::string directory;
  bool json = false;
};
absl::StatusOr<int> DiskUse(const DuFlags& flags);

struct DoctorFlags {
  StoreFlags store;
  bool try_store = false;
  std::string disk;  // a directory; empty: none
};
absl::StatusOr<int> Doctor(const DoctorFlags& flags);

absl::StatusOr<int> Version(bool json);

}  // namespace reprise::cli
