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
  rocks.create_if_missing = options.create;
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
  std::unique_ptr<rocksdb::Env> env;
  std::unique_ptr<rocksdb::DB> db;
};

uint64_t PieceCatalog::MaxPieces(uint64_t disk_bytes) {
  return (disk_bytes - disk_bytes / kLogShare) / kDiskBytesPerPiece;
}

absl::StatusOr<std::unique_ptr<PieceCatalog>> PieceCatalog::Open(const CatalogOptions& options) {
  std::shared_ptr<rocksdb::Cache> cache =
      rocksdb::NewLRUCache(options.memory_bytes / 2, /*num_shard_bits=*/0);
  auto database = std::make_unique<Database>();
  database->env = rocksdb::NewCompositeEnv(CreateRocksFileSystem(*options.env));
  const rocksdb::Options rocks = TuneFor(options, *database->env, std::move(cache));
  rocksdb::DB* db = nullptr;
  const rocksdb::Status opened = options.read_only
                                     ? rocksdb::DB::OpenForReadOnly(rocks, options.directory, &db)
                                     : rocksdb::DB::Open(rocks, options.directory, &db);
  database->db.reset(db);
  if (opened.IsInvalidArgument() || opened.IsPathNotFound()) {
    // What RocksDB says of a folder without a database, unless it may make one.
    return absl::DataLossError(
        absl::StrCat("no index is in ", options.directory, ": ", opened.ToString()));
  }
  REPRISE_RETURN_IF_ERROR(FromRocks(opened, absl::StrCat("opening ", options.directory)));
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
  if (batch.batch_->Count() == 0) {
    return sync ? FromRocks(database_->db->SyncWAL(), "syncing its log") : absl::OkStatus();
  }
  return FromRocks(database_->db->Write(write, batch.batch_.get()), "writing a batch");
}

absl::Status PieceCatalog::Resume() { return FromRocks(database_->db->Resume(), "resuming"); }

uint64_t PieceCatalog::DiskBytes() const {
  uint64_t tables = 0;
  uint64_t logged = 0;
  database_->db->GetIntProperty(rocksdb::DB::Properties::kTotalSstFilesSize, &tables);
  database_->db->GetIntProperty(rocksdb::DB::Properties::kSizeAllMemTables, &logged);
  return tables + logged;
}

absl::Status PieceCatalog::ForEachPiece(Visitor visit) const {
  rocksdb::ReadOptions read;
  read.fill_cache = false;
  read.readahead_size = 2 * kMiB;
  const std::unique_ptr<rocksdb::Iterator> at(database_->db->NewIterator(read));
  for (at->Seek(std::string(1, kPieceKind)); at->Valid(); at->Next()) {
    ByteReader name(FromSlice(at->key()));
    if (name.U8() != static_cast<uint8_t>(kPieceKind)) break;
    const TenantId tenant = static_cast<TenantId>(name.U8()) << 24 |
                            static_cast<TenantId>(name.U8()) << 16 |
                            static_cast<TenantId>(name.U8()) << 8 | name.U8();
    const ByteSpan digest = name.Bytes(sizeof(Digest::bytes));
    if (!name.AtEnd()) {
      return absl::DataLossError(absl::StrCat("index: the name of a piece has ", at->key().size(),
                                              " bytes instead of ", kPieceKeyBytes));
    }
    Key key;
    std::copy(digest.begin(), digest.end(), key.digest.bytes.begin());
    visit(tenant, key, ParseCatalogValue(tenant, key, FromSlice(at->value())));
  }
  return FromRocks(at->status(), "reading the records of all pieces");
}

absl::StatusOr<std::vector<PieceCatalog::Tenant>> PieceCatalog::Tenants() const {
  std::vector<Tenant> tenants;
  const std::unique_ptr<rocksdb::Iterator> at(database_->db->NewIterator({}));
  for (at->Seek(std::string(1, kTenantKind)); at->Valid(); at->Next()) {
    if (at->key().empty() || at->key()[0] != kTenantKind) break;
    ByteReader value(FromSlice(at->value()));
    const TenantId number = value.U32();
    const std::string name(at->key().data() + 1, at->key().size() - 1);
    if (!value.AtEnd() || number == 0 || number > kMaxTenants) {
      return absl::DataLossError(absl::StrCat("index: the number of tenant '", name, "' is ",
                                              number, " of ", at->value().size(), " bytes"));
    }
    tenants.push_back({.name = name, .number = number});
  }
  REPRISE_RETURN_IF_ERROR(FromRocks(at->status(), "reading the tenants"));
  return tenants;
}

absl::Status PieceCatalog::PutTenant(const Tenant& tenant) {
  rocksdb::WriteOptions write;
  write.sync = true;
  ByteWriter value;
  value.U32(tenant.number);
  return FromRocks(database_->db->Put(write, absl::StrCat(std::string(1, kTenantKind), tenant.name),
                                      AsSlice(value.bytes())),
                   absl::StrCat("writing tenant '", tenant.name, "'"));
}

absl::StatusOr<std::optional<std::string>> PieceCatalog::NodeId() const {
  std::string node_id;
  const rocksdb::Status status = database_->db->Get({}, kNodeKey, &node_id);
  if (status.IsNotFound()) return std::nullopt;
  REPRISE_RETURN_IF_ERROR(FromRocks(status, "reading its node"));
  return node_id;
}

absl::Status PieceCatalog::PutNodeId(std::string_view node_id) {
  rocksdb::WriteOptions write;
  write.sync = true;
  return FromRocks(
      database_->db->Put(write, kNodeKey, rocksdb::Slice(node_id.data(), node_id.size())),
      "writing its node");
}

}  // namespace reprise::storage
