// The nvme tier's records on disk: RocksDB with what is known of each piece, the tenants' names and
// the node they belong to (docs/disk-format.md).
//
// Read once, when the tier opens; afterwards only written. Its files lie in one folder and take
// about disk_bytes at most, as long as no more than MaxPieces(disk_bytes) pieces are in it; its
// memory is memory_bytes. Everything blocks on the disk. Thread-safe. Errors are those of Env, and
// DATA_LOSS for bytes that RocksDB does not recognize.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/functional/function_ref.h"

#include "chunk/keys.h"
#include "common/status.h"
#include "storage/env/env.h"
#include "storage/index/piece_record.h"

namespace rocksdb {
class WriteBatch;
}  // namespace rocksdb

namespace reprise::storage {

struct CatalogOptions {
  std::string directory;
  uint64_t disk_bytes = 0;
  uint64_t memory_bytes = 0;
  bool create = false;  // when nothing is there; otherwise that is DATA_LOSS
  // Changes nothing, and may stand beside a process that writes; Commit and Put then fail.
  bool read_only = false;
  Env* env = nullptr;
};

class PieceCatalog {
 public:
  // Of a batch of 256 records or less, in memory and on disk; what RocksDB needs beside its caches.
  static constexpr uint64_t kMinMemoryBytes = 512 << 10;
  static constexpr uint64_t kMinDiskBytes = 2 << 20;

  // How many records that room on disk is for.
  static uint64_t MaxPieces(uint64_t disk_bytes);

  static absl::StatusOr<std::unique_ptr<PieceCatalog>> Open(const CatalogOptions& options);
  // Makes an index of what can be recognized in the files of one that does not open.
  static absl::Status Repair(const CatalogOptions& options);
  ~PieceCatalog();
  PieceCatalog(const PieceCatalog&) = delete;
  PieceCatalog& operator=(const PieceCatalog&) = delete;

  // Changes that happen together or not at all, in order.
  class Batch {
   public:
    Batch();
    ~Batch();
    Batch(Batch&&) noexcept;
    Batch& operator=(Batch&&) noexcept;
    void Put(TenantId tenant, const Key& key, const PieceRecord& record);
    void Delete(TenantId tenant, const Key& key);

   private:
    friend class PieceCatalog;
    std::unique_ptr<rocksdb::WriteBatch> batch_;
  };

  // Survives the process when it returns; with `sync` this batch and all before it also survive
  // power loss. After an error it is not known whether the batch is there.
  absl::Status Commit(Batch batch, bool sync);
  // After an error, and once its reason may be gone: OK when Commit may work again. Opens the
  // database anew if that is what it takes; calls on other threads fail meanwhile.
  absl::Status Resume();

  // Of its files, as far as is known without asking the disk: tables and the log of what is not in
  // them yet.
  uint64_t DiskBytes() const;

  // In ascending order of tenant and key. What is no record comes as its error.
  using Visitor = absl::FunctionRef<void(TenantId, const Key&, absl::StatusOr<PieceRecord>)>;
  absl::Status ForEachPiece(Visitor visit) const;

  struct Tenant {
    std::string name;
    TenantId number = 0;
  };
  absl::StatusOr<std::vector<Tenant>> Tenants() const;
  // Survives power loss when it returns.
  absl::Status PutTenant(const Tenant& tenant);

  // Whose segments the records speak of; nullopt in a new catalog. Put survives power loss.
  absl::StatusOr<std::optional<std::string>> NodeId() const;
  absl::Status PutNodeId(std::string_view node_id);

 private:
  struct Database;
  explicit PieceCatalog(std::unique_ptr<Database> database);
  absl::Status PutSynced(std::string_view key, std::string_view value);
  std::unique_ptr<Database> database_;
};

}  // namespace reprise::storage
