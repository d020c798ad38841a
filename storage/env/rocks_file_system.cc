#include "storage/env/rocks_file_system.h"

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

#include "common/log.h"

namespace reprise::storage {
namespace {

using rocksdb::FileOptions;
using rocksdb::IODebugContext;
using rocksdb::IOOptions;
using rocksdb::IOStatus;
using rocksdb::Slice;

constexpr size_t kMaxLogLineBytes = 1024;

// Up to `size` bytes at `offset`: fewer only where the file ends.
IOStatus ReadUpTo(const EnvFile& file, uint64_t offset, size_t size, Slice* result, char* scratch) {
  const MutableByteSpan to = std::as_writable_bytes(std::span(scratch, size));
  *result = Slice();
  absl::Status status = file.ReadAt(offset, to);
  size_t read = size;
  if (absl::IsDataLoss(status)) {
    const absl::StatusOr<uint64_t> file_bytes = file.SizeBytes();
    if (!file_bytes.ok()) return ToRocksStatus(file_bytes.status());
    const uint64_t left = *file_bytes - std::min(offset, *file_bytes);
    read = static_cast<size_t>(std::min<uint64_t>(left, size));
    status = file.ReadAt(offset, to.first(read));
  }
  if (!status.ok()) return ToRocksStatus(status);
  *result = Slice(scratch, read);
  return IOStatus::OK();
}

class SequentialFile final : public rocksdb::FSSequentialFile {
 public:
  explicit SequentialFile(std::unique_ptr<EnvFile> file) : file_(std::move(file)) {}

  IOStatus Read(size_t size, const IOOptions& /*options*/, Slice* result, char* scratch,
                IODebugContext* /*debug*/) override {
    IOStatus status = ReadUpTo(*file_, offset_, size, result, scratch);
    offset_ += result->size();
    return status;
  }
  IOStatus Skip(uint64_t size) override {
    const absl::StatusOr<uint64_t> file_bytes = file_->SizeBytes();
    if (!file_bytes.ok()) return ToRocksStatus(file_bytes.status());
    offset_ += std::min(size, *file_bytes - std::min(offset_, *file_bytes));
    return IOStatus::OK();
  }

 private:
  const std::unique_ptr<EnvFile> file_;
  uint64_t offset_ = 0;
};

class RandomAccessFile final : public rocksdb::FSRandomAccessFile {
 public:
  explicit RandomAccessFile(std::unique_ptr<EnvFile> file) : file_(std::move(file)) {}

  IOStatus Read(uint64_t offset, size_t size, const IOOptions& /*options*/, Slice* result,
                char* scratch, IODebugContext* /*debug*/) const override {
    return ReadUpTo(*file_, offset, size, result, scratch);
  }

 private:
  const std::unique_ptr<EnvFile> file_;
};

// RocksDB collects small appends itself, so each one that arrives here is written at once.
class WritableFile final : public rocksdb::FSWritableFile {
 public:
  explicit WritableFile(std::unique_ptr<EnvFile> file) : file_(std::move(file)) {}

  using FSWritableFile::Append;
  IOStatus Append(const Slice& data, const IOOptions& /*options*/,
                  IODebugContext* /*debug*/) override {
    const absl::Status status =
        file_->WriteAt(size_bytes_, std::as_bytes(std::span(data.data(), data.size())));
    if (status.ok()) size_bytes_ += data.size();
    return ToRocksStatus(status);
  }
  IOStatus Truncate(uint64_t size_bytes, const IOOptions& /*options*/,
                    IODebugContext* /*debug*/) override {
    const absl::Status status = file_->Truncate(size_bytes);
    if (status.ok()) size_bytes_ = size_bytes;
    return ToRocksStatus(status);
  }
  IOStatus Close(const IOOptions& /*options*/, IODebugContext* /*debug*/) override {
    return IOStatus::OK();
  }
  IOStatus Flush(const IOOptions& /*options*/, IODebugContext* /*debug*/) override {
    return IOStatus::OK();
  }
  IOStatus Sync(const IOOptions& /*options*/, IODebugContext* /*debug*/) override {
    return ToRocksStatus(file_->Sync());
  }
  bool IsSyncThreadSafe() const override { return true; }
  uint64_t GetFileSize(const IOOptions& /*options*/, IODebugContext* /*debug*/) override {
    return size_bytes_;
  }

 private:
  const std::unique_ptr<EnvFile> file_;
  uint64_t size_bytes_ = 0;
};

class Directory final : public rocksdb::FSDirectory {
 public:
  Directory(Env& env, std::string path) : env_(env), path_(std::move(path)) {}

  IOStatus Fsync(const IOOptions& /*options*/, IODebugContext* /*debug*/) override {
    return ToRocksStatus(env_.SyncDirectory(path_));
  }
  IOStatus Close(const IOOptions& /*options*/, IODebugContext* /*debug*/) override {
    return IOStatus::OK();
  }

 private:
  Env& env_;
  const std::string path_;
};

class HeldLock final : public rocksdb::FileLock {
 public:
  explicit HeldLock(std::unique_ptr<DirectoryLock> lock) : lock_(std::move(lock)) {}

 private:
  const std::unique_ptr<DirectoryLock> lock_;
};

class ErrorLogger final : public rocksdb::Logger {
 public:
  using Logger::Logv;
  void Logv(rocksdb::InfoLogLevel level, const char* format, va_list arguments) override {
    // The level that RocksDB sets is its own, which would let everything through.
    const bool error =
        level == rocksdb::InfoLogLevel::ERROR_LEVEL || level == rocksdb::InfoLogLevel::FATAL_LEVEL;
    if (!error) return;
    char line[kMaxLogLineBytes];
    std::vsnprintf(line, sizeof(line), format, arguments);
    LogError("rocksdb", {{"message", line}});
  }
  void LogHeader(const char* /*format*/, va_list /*arguments*/) override {}

 protected:
  rocksdb::Status CloseImpl() override { return rocksdb::Status::OK(); }
};

class RocksFileSystem final : public rocksdb::FileSystem {
 public:
  explicit RocksFileSystem(Env& env) : env_(env) {}

  const char* Name() const override { return "reprise"; }

  IOStatus NewSequentialFile(const std::string& path, const FileOptions& /*options*/,
                             std::unique_ptr<rocksdb::FSSequentialFile>* result,
                             IODebugContext* /*debug*/) override {
    return Open<SequentialFile>(path, OpenMode::kRead, result);
  }
  IOStatus NewRandomAccessFile(const std::string& path, const FileOptions& /*options*/,
                               std::unique_ptr<rocksdb::FSRandomAccessFile>* result,
                               IODebugContext* /*debug*/) override {
    return Open<RandomAccessFile>(path, OpenMode::kRead, result);
  }
  IOStatus NewWritableFile(const std::string& path, const FileOptions& /*options*/,
                           std::unique_ptr<rocksdb::FSWritableFile>* result,
                           IODebugContext* /*debug*/) override {
    return Open<WritableFile>(path, OpenMode::kReplace, result);
  }
  IOStatus NewDirectory(const std::string& path, const IOOptions& /*options*/,
                        std::unique_ptr<rocksdb::FSDirectory>* result,
                        IODebugContext* /*debug*/) override {
    result->reset();
    const absl::Status status = env_.List(path).status();
    if (status.ok()) *result = std::make_unique<Directory>(env_, path);
    return ToRocksStatus(status);
  }
  IOStatus NewLogger(const std::string& /*path*/, const IOOptions& /*options*/,
                     std::shared_ptr<rocksdb::Logger>* result, IODebugContext* /*debug*/) override {
    *result = std::make_shared<ErrorLogger>();
    return IOStatus::OK();
  }

  IOStatus FileExists(const std::string& path, const IOOptions& /*options*/,
                      IODebugContext* /*debug*/) override {
    const absl::StatusOr<bool> exists = env_.Exists(path);
    if (!exists.ok()) return ToRocksStatus(exists.status());
    return *exists ? IOStatus::OK() : IOStatus::NotFound(path);
  }
  IOStatus GetChildren(const std::string& path, const IOOptions& /*options*/,
                       std::vector<std::string>* result, IODebugContext* /*debug*/) override {
    result->clear();
    absl::StatusOr<std::vector<std::string>> names = env_.List(path);
    if (absl::IsNotFound(names.status())) return IOStatus::NotFound(path);
    if (!names.ok()) return ToRocksStatus(names.status());
    *result = *std::move(names);
    return IOStatus::OK();
  }
  IOStatus IsDirectory(const std::string& path, const IOOptions& /*options*/, bool* result,
                       IODebugContext* /*debug*/) override {
    const absl::Status status = env_.List(path).status();
    *result = status.ok();
    return absl::IsInvalidArgument(status) ? IOStatus::OK() : ToRocksStatus(status);
  }
  IOStatus GetFileSize(const std::string& path, const IOOptions& /*options*/, uint64_t* result,
                       IODebugContext* /*debug*/) override {
    const auto file = env_.Open(path, OpenMode::kRead, false);
    if (!file.ok()) return ToRocksStatus(file.status());
    const absl::StatusOr<uint64_t> size_bytes = (*file)->SizeBytes();
    if (size_bytes.ok()) *result = *size_bytes;
    return ToRocksStatus(size_bytes.status());
  }
  // Asked only where old logs are kept for a time.
  IOStatus GetFileModificationTime(const std::string& /*path*/, const IOOptions& /*options*/,
                                   uint64_t* /*result*/, IODebugContext* /*debug*/) override {
    return IOStatus::NotSupported("times of files");
  }
  IOStatus GetFreeSpace(const std::string& path, const IOOptions& /*options*/, uint64_t* result,
                        IODebugContext* /*debug*/) override {
    const absl::StatusOr<DiskSpace> space = env_.Space(path);
    if (space.ok()) *result = space->free_bytes;
    return ToRocksStatus(space.status());
  }

  IOStatus CreateDir(const std::string& path, const IOOptions& options,
                     IODebugContext* debug) override {
    const absl::StatusOr<bool> exists = env_.Exists(path);
    if (exists.ok() && *exists) return IOStatus::IOError(path, "exists already");
    return CreateDirIfMissing(path, options, debug);
  }
  IOStatus CreateDirIfMissing(const std::string& path, const IOOptions& /*options*/,
                              IODebugContext* /*debug*/) override {
    return ToRocksStatus(env_.CreateDirectory(path));
  }
  IOStatus DeleteDir(const std::string& path, const IOOptions& /*options*/,
                     IODebugContext* /*debug*/) override {
    return ToRocksStatus(env_.DeleteDirectory(path));
  }
  IOStatus DeleteFile(const std::string& path, const IOOptions& /*options*/,
                      IODebugContext* /*debug*/) override {
    return ToRocksStatus(env_.Delete(path));
  }
  IOStatus RenameFile(const std::string& from, const std::string& to, const IOOptions& /*options*/,
                      IODebugContext* /*debug*/) override {
    // What takes CURRENT's place names a file that is new in the same directory: were only the
    // rename to survive a power loss, that file would have no name.
    const absl::Status synced = env_.SyncDirectory(from.substr(0, from.rfind('/')));
    return ToRocksStatus(synced.ok() ? env_.Rename(from, to) : synced);
  }

  IOStatus LockFile(const std::string& path, const IOOptions& /*options*/,
                    rocksdb::FileLock** result, IODebugContext* /*debug*/) override {
    *result = nullptr;
    auto lock = env_.Lock(path);
    if (!lock.ok()) return ToRocksStatus(lock.status());
    *result = new HeldLock(*std::move(lock));  // UnlockFile's
    return IOStatus::OK();
  }
  IOStatus UnlockFile(rocksdb::FileLock* lock, const IOOptions& /*options*/,
                      IODebugContext* /*debug*/) override {
    delete lock;
    return IOStatus::OK();
  }

  IOStatus GetTestDirectory(const IOOptions& /*options*/, std::string* /*path*/,
                            IODebugContext* /*debug*/) override {
    return IOStatus::NotSupported("test directory");
  }
  // Only for messages.
  IOStatus GetAbsolutePath(const std::string& path, const IOOptions& /*options*/,
                           std::string* result, IODebugContext* /*debug*/) override {
    *result = path;
    return IOStatus::OK();
  }

 private:
  template <typename File, typename Result>
  IOStatus Open(const std::string& path, OpenMode mode, std::unique_ptr<Result>* result) {
    result->reset();
    auto file = env_.Open(path, mode, /*direct=*/false);
    if (!file.ok()) return ToRocksStatus(file.status());
    *result = std::make_unique<File>(*std::move(file));
    return IOStatus::OK();
  }

  Env& env_;
};

absl::StatusCode CodeOf(const rocksdb::Status& status) {
  if (status.IsNoSpace() || status.IsMemoryLimit()) return absl::StatusCode::kResourceExhausted;
  if (status.IsNotFound() || status.IsPathNotFound()) return absl::StatusCode::kNotFound;
  if (status.IsCorruption()) return absl::StatusCode::kDataLoss;
  if (status.IsInvalidArgument()) return absl::StatusCode::kInvalidArgument;
  if (status.IsNotSupported()) return absl::StatusCode::kUnimplemented;
  if (status.IsBusy() || status.IsTimedOut() || status.IsTryAgain()) {
    return absl::StatusCode::kUnavailable;
  }
  return absl::StatusCode::kInternal;
}

}  // namespace

std::shared_ptr<rocksdb::FileSystem> CreateRocksFileSystem(Env& env) {
  return std::make_shared<RocksFileSystem>(env);
}

IOStatus ToRocksStatus(const absl::Status& status) {
  const std::string message(status.message());
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return IOStatus::OK();
    case absl::StatusCode::kNotFound:
      return IOStatus::PathNotFound(message);
    case absl::StatusCode::kResourceExhausted: {
      IOStatus no_space = IOStatus::NoSpace(message);
      no_space.SetRetryable(true);
      return no_space;
    }
    case absl::StatusCode::kUnavailable:
      return IOStatus::Busy(message);
    case absl::StatusCode::kInvalidArgument:
      return IOStatus::InvalidArgument(message);
    default:
      return IOStatus::IOError(message);
  }
}

absl::Status FromRocksStatus(const rocksdb::Status& status, std::string_view context) {
  if (status.ok()) return absl::OkStatus();
  return Annotate(absl::Status(CodeOf(status), status.ToString()), context);
}

}  // namespace reprise::storage
