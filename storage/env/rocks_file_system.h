// RocksDB's files through our Env, so that tests fail and tear them like our own, and the machine's
// are reached the same way. Use with rocksdb::NewCompositeEnv; the Env outlives the file system.
//
// Files go through the page cache whatever the FileOptions say, and nothing is preallocated: a file
// is as long as what was appended. What RocksDB logs as an error goes to our log, the rest nowhere.
// RocksDB syncs what is in its directory, not the directory's own name: whoever creates one for it
// does. What only backups, checkpoints and ingestion use (links, files opened again to append) is
// not supported. Thread-safe.
#pragma once

#include <memory>
#include <string_view>

#include "rocksdb/file_system.h"
#include "rocksdb/io_status.h"

#include "common/status.h"
#include "storage/env/env.h"

namespace reprise::storage {

std::shared_ptr<rocksdb::FileSystem> CreateRocksFileSystem(Env& env);

// The same error as RocksDB knows it: NOT_FOUND as PathNotFound, RESOURCE_EXHAUSTED as NoSpace that
// may be tried again, UNAVAILABLE as Busy, INVALID_ARGUMENT as such, all else as IOError.
rocksdb::IOStatus ToRocksStatus(const absl::Status& status);

// What a call of RocksDB gave: NOT_FOUND, RESOURCE_EXHAUSTED (no space, memory limit), DATA_LOSS
// (corruption), UNAVAILABLE (busy, timed out, try again), INVALID_ARGUMENT, UNIMPLEMENTED, else
// INTERNAL, with RocksDB's own words after "CONTEXT: ".
absl::Status FromRocksStatus(const rocksdb::Status& status, std::string_view context);

}  // namespace reprise::storage
