#include "storage/index/piece_catalog.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include <rocksdb/cache.h>
#include <rocksdb/db.h>
#include <rocksdb/env.h>
#include <rocksdb/table.h>
#include <rocksdb/write_batch.h>

#include "common/limits.h"
#include "common/mutex.h"
#include "storage/env/rocks_file_system.h"

namespace reprise::storage {
namespace {

// The first byte of a RocksDB key says what it names.
constexpr char kNodeKey[] = "n";
constexpr char kPieceKind = 'p';
constexpr char kTenantKind = 't';
constexpr size_t kPieceKeyBytes = 1 + 4 + sizeof(Digest::bytes);

// Key and value of a piece with eight levels are about 270 bytes; of one with sixteen 380. Levels
// of tables hold a tenth more than what lives, and a compaction writes what it reads once more.
constexpr uint64_t kDiskBytesPerPiece = 768;
// The share of the disk for logs and for tables just flushed, which no piece count bounds.
constexpr uint64_t kLogShare = 4;
// Memtables that may exist at once: one that is filled, one that is flushed.
constexpr int kMemtables = 2;
constexpr uint64_t kMaxMemtableBytes = 16 * kMiB;

rocksdb::Slice AsSlice(ByteSpan bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

ByteSpan FromSlice(const rocksdb::Slice& slice) {
  return AsBytes(std::string_view(slice.data(), slice.size()));
}

// Big-endian, so that pieces are in order of their tenant.
std::string PieceKey(TenantId tenant, const Key& key) {
  std::string name(1, kPieceKind);
  for (int shift = 24; shift >= 0; shift -= 8) name += static_cast<char>(tenant >> shift);
  name += key.digest.AsString();
  return name;
}

absl::Status FromRocks(const rocksdb::Status& status, const std::string& what) {
  return FromRocksStatus(status, "index: " + what);
}

rocksdb::Options TuneFor(const CatalogOptions& options, rocksdb::Env& env,
                         std::shared_ptr<rocksdb::Cache> cache) {
  rocksdb::Options rocks;
  rocks.env = &env;
  // The other half is the cache's.
  rocks.db_write_buffer_size = options.memory_bytes / 2;
  rocks.write_buffer_size = std::min({kMaxMemtableBytes, options.memory_bytes / 2 / kMemtables,
                                      options.disk_bytes / kLogShare / 4});
  rocks.arena_block_size = std::min<size_t>(rocks.write_buffer_size / 8, 256 * kKiB);
  rocks.max_write_buffer_number = kMemtables;
  rocks.max_total_wal_size = rocks.write_buffer_size * kMemtables;
  rocks.target_file_size_base = rocks.write_buffer_size;
  rocks.max_bytes_for_level_base = 4 * rocks.write_buffer_size;
  rocks.level_compaction_dynamic_level_bytes = true;
  rocks.level0_file_num_compaction_trigger = 2;
  rocks.max_open_files = 64;
  rocks.max_manifest_file_size = 256 * kKiB;
  rocks.compression = rocksdb::kNoCompression;  // digests do not compress
  rocks.wal_recovery_mode = rocksdb::WALRecoveryMode::kPointInTimeRecovery;
  rocks.max_bgerror_resume_count = 0;  // the tier says when to try again
  rocks.stats_dump_period_sec = 0;
  rocks.stats_persist_period_sec = 0;
  rocksdb::BlockBasedTableOptions table;
  table.block_cache = std::move(cache);
  table.cache_index_and_filter_blocks = true;
  table.block_size = 16 * kKiB;
  rocks.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  return rocks;
}

}  // namespace

struct PieceCatalog::Database {
  // Opened, or why it is not.
  absl::Status Open(bool create) {
    rocks.create_if_missing = create;
    rocksdb::DB* opened = nullptr;
    const rocksdb::Status status = read_only
                                       ? rocksdb::DB::OpenForReadOnly(rocks, directory, &opened)
                                       : rocksdb::DB::Open(rocks, directory, &opened);
    MutexLock lock(mutex);
    db.reset(opened);
    // What RocksDB says of a folder without a database, unless it may make one.
    if (status.IsInvalidArgument() || status.IsPathNotFound()) {
      return absl::DataLossError(
          absl::StrCat("no index is in ", directory, ": ", status.ToString()));
    }
    return FromRocks(status, "opening " + directory);
  }
  void Close() {
    MutexLock lock(mutex);
    db.reset();
  }

  // Runs `call`, or fails while the database is being opened anew.
  template <typename Call>
  absl::Status With(const std::string& what, Call call) {
    std::shared_ptr<rocksdb::DB> held;
    {
      MutexLock lock(mutex);
      held = db;
    }
    if (held == nullptr) {
      return absl::UnavailableError("index: " + what + ": it is closed after an error");
    }
    return FromRocks(call(*held), what);
  }

  std::string directory;
  bool read_only = false;
  std::unique_ptr<rocksdb::Env> env;
  rocksdb::Options rocks;
  Mutex mutex;
  std::shared_ptr<rocksdb::DB> db ABSL_GUARDED_BY(mutex);
};

uint64_t PieceCatalog::MaxPieces(uint64_t disk_bytes) {
  return (disk_bytes - disk_bytes / kLogShare) / kDiskBytesPerPiece;
}

absl::StatusOr<std::unique_ptr<PieceCatalog>> PieceCatalog::Open(const CatalogOptions& options) {
  std::shared_ptr<rocksdb::Cache> cache =
      rocksdb::NewLRUCache(options.memory_bytes / 2, /*num_shard_bits=*/0);
  auto database = std::make_unique<Database>();
  database->directory = options.directory;
  database->env = rocksdb::NewCompositeEnv(CreateRocksFileSystem(*options.env));
  database->rocks = TuneFor(options, *database->env, std::move(cache));
  database->read_only = options.read_only;
  REPRISE_RETURN_IF_ERROR(database->Open(options.create));
  return std::unique_ptr<PieceCatalog>(new PieceCatalog(std::move(database)));
}

absl::Status PieceCatalog::Repair(const CatalogOptions& options) {
  const std::unique_ptr<rocksdb::Env> env =
      rocksdb::NewCompositeEnv(CreateRocksFileSystem(*options.env));
  const rocksdb::Options rocks =
      TuneFor(options, *env, rocksdb::NewLRUCache(options.memory_bytes, /*num_shard_bits=*/0));
  return FromRocks(rocksdb::RepairDB(options.directory, rocks),
                   absl::StrCat("repairing ", options.directory));
}

PieceCatalog::PieceCatalog(std::unique_ptr<Database> database) : database_(std::move(database)) {}

PieceCatalog::~PieceCatalog() = default;

PieceCatalog::Batch::Batch() : batch_(std::make_unique<rocksdb::WriteBatch>()) {}
PieceCatalog::Batch::~Batch() = default;
PieceCatalog::Batch::Batch(Batch&&) noexcept = default;
PieceCatalog::Batch& PieceCatalog::Batch::operator=(Batch&&) noexcept = default;

void PieceCatalog::Batch::Put(TenantId tenant, const Key& key, const PieceRecord& record) {
  const std::vector<std::byte> value = EncodeCatalogValue(tenant, key, record);
  // A batch in memory takes everything.
  static_cast<void>(batch_->Put(PieceKey(tenant, key), AsSlice(value)));
}

void PieceCatalog::Batch::Delete(TenantId tenant, const Key& key) {
  static_cast<void>(batch_->Delete(PieceKey(tenant, key)));
}

absl::Status PieceCatalog::Commit(Batch batch, bool sync) {
  rocksdb::WriteOptions write;
  write.sync = sync;
  return database_->With("writing a batch", [&](rocksdb::DB& db) {
    if (batch.batch_->Count() > 0) return db.Write(write, batch.batch_.get());
    return sync ? db.SyncWAL() : rocksdb::Status::OK();
  });
}

absl::Status PieceCatalog::Resume() {
  const absl::Status resumed =
      database_->With("resuming", [](rocksdb::DB& db) { return db.Resume(); });
  if (resumed.ok()) return resumed;
  // Some errors RocksDB gets over only from its files.
  database_->Close();
  return database_->Open(/*create=*/false);
}

uint64_t PieceCatalog::DiskBytes() const {
  uint64_t tables = 0;
  uint64_t logged = 0;
  static_cast<void>(database_->With("asking its size", [&](rocksdb::DB& db) {
    db.GetIntProperty(rocksdb::DB::Properties::kTotalSstFilesSize, &tables);
    db.GetIntProperty(rocksdb::DB::Properties::kSizeAllMemTables, &logged);
    return rocksdb::Status::OK();
  }));
  return tables + logged;
}

absl::Status PieceCatalog::ForEachPiece(Visitor visit) const {
  rocksdb::ReadOptions read;
  read.fill_cache = false;
  read.readahead_size = 2 * kMiB;
  absl::Status named;
  const auto visit_all = [&](rocksdb::DB& db) {
    const std::unique_ptr<rocksdb::Iterator> at(db.NewIterator(read));
    for (at->Seek(std::string(1, kPieceKind)); at->Valid(); at->Next()) {
      ByteReader name(FromSlice(at->key()));
      if (name.U8() != static_cast<uint8_t>(kPieceKind)) break;
      const TenantId tenant = static_cast<TenantId>(name.U8()) << 24 |
                              static_cast<TenantId>(name.U8()) << 16 |
                              static_cast<TenantId>(name.U8()) << 8 | name.U8();
      const ByteSpan digest = name.Bytes(sizeof(Digest::bytes));
      if (!name.AtEnd()) {
        named =
            absl::DataLossError(absl::StrCat("index: the name of a piece has ", at->key().size(),
                                             " bytes instead of ", kPieceKeyBytes));
        break;
      }
      Key key;
      std::copy(digest.begin(), digest.end(), key.digest.bytes.begin());
      visit(tenant, key, ParseCatalogValue(tenant, key, FromSlice(at->value())));
    }
    return at->status();
  };
  REPRISE_RETURN_IF_ERROR(database_->With("reading the records of all pieces", visit_all));
  return named;
}

absl::StatusOr<std::vector<PieceCatalog::Tenant>> PieceCatalog::Tenants() const {
  std::vector<Tenant> tenants;
  absl::Status numbered;
  const auto read_all = [&](rocksdb::DB& db) {
    const std::unique_ptr<rocksdb::Iterator> at(db.NewIterator({}));
    for (at->Seek(std::string(1, kTenantKind)); at->Valid(); at->Next()) {
      if (at->key().empty() || at->key()[0] != kTenantKind) break;
      ByteReader value(FromSlice(at->value()));
      const TenantId number = value.U32();
      const std::string name(at->key().data() + 1, at->key().size() - 1);
      if (!value.AtEnd() || number == 0 || number > kMaxTenants) {
        numbered = absl::DataLossError(absl::StrCat("index: the number of tenant '", name, "' is ",
                                                    number, " of ", at->value().size(), " bytes"));
        break;
      }
      tenants.push_back({.name = name, .number = number});
    }
    return at->status();
  };
  REPRISE_RETURN_IF_ERROR(database_->With("reading the tenants", read_all));
  REPRISE_RETURN_IF_ERROR(numbered);
  return tenants;
}

absl::Status PieceCatalog::PutTenant(const Tenant& tenant) {
  ByteWriter value;
  value.U32(tenant.number);
  return PutSynced(absl::StrCat(std::string(1, kTenantKind), tenant.name), AsText(value.bytes()));
}

absl::StatusOr<std::optional<std::string>> PieceCatalog::NodeId() const {
  std::optional<std::string> node_id;
  REPRISE_RETURN_IF_ERROR(database_->With("reading its node", [&](rocksdb::DB& db) {
    std::string found;
    const rocksdb::Status status = db.Get({}, kNodeKey, &found);
    if (status.IsNotFound()) return rocksdb::Status::OK();
    node_id = std::move(found);
    return status;
  }));
  return node_id;
}

absl::Status PieceCatalog::PutNodeId(std::string_view node_id) {
  return PutSynced(kNodeKey, node_id);
}

absl::Status PieceCatalog::PutSynced(std::string_view key, std::string_view value) {
  rocksdb::WriteOptions write;
  write.sync = true;
  return database_->With("writing a name", [&](rocksdb::DB& db) {
    return db.Put(write, rocksdb::Slice(key.data(), key.size()),
                  rocksdb::Slice(value.data(), value.size()));
  });
}

}  // namespace reprise::storage
