// Moves encoded pieces between an NvmeTier and memory, and fills the index of one; what that took
// is printed as a JSON line. bench/nvme/run.py drives it.
//
//   tier_bench prepare DIR BUDGET SIZE              writes pieces of SIZE until the disk was full
//   tier_bench write DIR BUDGET SIZE DEPTH SECONDS  more of them, DEPTH at once
//   tier_bench read DIR BUDGET SIZE DEPTH SECONDS   random pieces of those held, DEPTH at once
//   tier_bench index DIR BUDGET PIECES              records of so many pieces; segments unwritten
//
// Memory is as the arena of a store, the policy that of a store. Writes are of pieces that were not
// held; when the tier is full, what they cost includes what it takes to give others up.

#include <algorithm>
#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

#include "bench/nvme/measuring.h"
#include "common/byte_io.h"
#include "common/clock.h"
#include "common/limits.h"
#include "common/mapped_region.h"
#include "common/mutex.h"
#include "storage/nvme/nvme_tier.h"
#include "storage/nvme/segment_file.h"
#include "storage/nvme/tier_directory.h"
#include "storage/testing/test_piece.h"
#include "storage/tiering/tiering_policy.h"

namespace reprise::storage {
namespace {

constexpr uint64_t kTierMemoryBytes = 64 * kMiB;
constexpr TenantId kFirstTenant = 1;

NvmeOptions TierOptions(const std::string& directory, uint64_t budget_bytes) {
  NvmeOptions options;
  options.directory = directory;
  options.budget_bytes = budget_bytes;
  options.memory_bytes = kTierMemoryBytes;
  options.make_policy = [](size_t max_pieces) {
    return std::make_unique<TieringPolicy>(max_pieces, TieringOptions{.below_another_tier = true});
  };
  return options;
}

// Of exactly `size` bytes: a page of header and directory, then one plane.
std::vector<std::byte> PieceOf(uint64_t size, uint64_t number, uint64_t seed) {
  std::vector<std::byte> piece = Build({.key = TestKey(absl::StrCat(seed, " ", number)),
                                        .plane_bytes = size - kPageBytes,
                                        .seed = static_cast<uint32_t>(Mix(seed + number))});
  if (piece.size() != size) {
    Fail(absl::StrCat("a piece for ", size, " bytes has ", piece.size()));
  }
  return piece;
}

// Keeps `depth` calls of the tier under way until there is enough.
class Load {
 public:
  // Enough is that many bytes, or unless those are given, that many seconds.
  Load(uint64_t enough_bytes, uint64_t enough_seconds)
      : enough_bytes_(enough_bytes), enough_seconds_(enough_seconds) {}

  // When everything is prepared.
  void Begin(uint32_t slots) {
    {
      MutexLock lock(mutex_);
      slots_ = slots;
    }
    processor_before_ = ProcessorSeconds();
    begin_ = Clock::Steady().Now();
    until_ = begin_ + std::chrono::seconds(enough_seconds_);
  }

  bool Enough() const {
    return enough_bytes_ > 0 ? bytes_ >= enough_bytes_ : Clock::Steady().Now() >= until_;
  }
  void Moved(uint64_t bytes) { bytes_ += bytes; }
  void SlotEnded() {
    MutexLock lock(mutex_);
    if (--slots_ == 0) ended_.notify_all();
  }
  void Wait() {
    MutexLock lock(mutex_);
    while (slots_ > 0) ended_.wait(mutex_);
  }

  // From the first call to the last.
  void Print(const Env& env) {
    const double seconds = std::chrono::duration<double>(Clock::Steady().Now() - begin_).count();
    PrintSample(bytes_, seconds, ProcessorSeconds() - processor_before_, env.backend(), true);
  }

 private:
  const uint64_t enough_bytes_;
  const uint64_t enough_seconds_;
  TimePoint begin_;
  TimePoint until_;
  double processor_before_ = 0;
  std::atomic<uint64_t> bytes_ = 0;
  Mutex mutex_;
  CondVar ended_;
  uint32_t slots_ ABSL_GUARDED_BY(mutex_) = 0;
};

// Sealed pieces in the arena, each written again and again as another tenant's.
class Writer {
 public:
  Writer(NvmeTier& tier, Load& load, MutableByteSpan arena, uint64_t size)
      : tier_(tier), load_(load) {
    const uint64_t seed = Env::Machine().Random();
    for (uint64_t at = 0; at + size <= arena.size(); at += size) {
      const std::vector<std::byte> piece = PieceOf(size, metas_.size(), seed);
      std::ranges::copy(piece, arena.subspan(at).begin());
      metas_.push_back(Value(PieceMeta::Parse(piece)));
      containers_.push_back(arena.subspan(at, size));
    }
  }

  void Next() {
    if (load_.Enough()) return load_.SlotEnded();
    const uint64_t number = next_++;
    const size_t piece = number % metas_.size();
    const uint64_t bytes = containers_[piece].size();
    tier_.Write({.tenant = static_cast<TenantId>(kFirstTenant + number / metas_.size()),
                 .meta = &metas_[piece],
                 .attributes = {.parent = {}, .recompute_seconds = 0.1},
                 .planes = 1,
                 .container = SharedBytes(containers_[piece], nullptr)},
                [this, bytes](absl::Status status) {
                  Check(status);
                  load_.Moved(bytes);
                  Next();
                });
  }

 private:
  NvmeTier& tier_;
  Load& load_;
  std::vector<PieceMeta> metas_;
  std::vector<ByteSpan> containers_;
  std::atomic<uint64_t> next_ = 0;
};

// Reads pieces in no order, each into memory of its own slot.
class Reader {
 public:
  Reader(NvmeTier& tier, Load& load, uint64_t size) : tier_(tier), load_(load) {
    for (TenantId tenant = kFirstTenant;; ++tenant) {
      const ListPage page = tier.List(tenant, nullptr, UINT32_MAX, nullptr);
      for (const ListPage::Entry& entry : page.pieces) {
        if (entry.summary.held_bytes() != size) Fail("a piece of another size is there");
        pieces_.push_back({tenant, entry.key, entry.summary.content_id});
      }
      if (page.pieces.empty() && pieces_.size() >= tier.usage().pieces) break;
    }
    if (pieces_.empty()) Fail("nothing to read: prepare comes first");
  }

  void Next(MutableByteSpan slot) {
    if (load_.Enough()) return load_.SlotEnded();
    const Piece& piece = pieces_[Mix(next_++) % pieces_.size()];
    tier_.Read(piece.tenant, piece.key, piece.content, 1, 0, slot,
               [this, slot, &piece](absl::Status status) {
                 Check(status);
                 load_.Moved(slot.size());
                 if (load_.Enough()) {
                   MutexLock lock(mutex_);
                   last_.push_back({&piece, slot});
                 }
                 Next(slot);
               });
  }

  // Afterwards, of the last of each slot: that what was measured was the reading of pieces.
  void Judge() {
    MutexLock lock(mutex_);
    for (const auto& [piece, bytes] : last_) {
      const PieceMeta meta = Value(PieceMeta::Parse(bytes));
      if (meta.header().content_id != piece->content) Fail("read another piece than was asked for");
      Check(meta.VerifyBody(ByteSpan(bytes).subspan(meta.meta_bytes()), 0));
    }
  }

 private:
  struct Piece {
    TenantId tenant;
    Key key;
    ContentId content;
  };

  NvmeTier& tier_;
  Load& load_;
  std::vector<Piece> pieces_;
  std::atomic<uint64_t> next_ = Env::Machine().Random();
  Mutex mutex_;
  std::vector<std::pair<const Piece*, MutableByteSpan>> last_ ABSL_GUARDED_BY(mutex_);
};

void Write(NvmeOptions options, uint64_t size, uint32_t depth, uint64_t bytes, uint64_t seconds) {
  // Twice the depth, so that what is written next is not what was written last.
  const auto arena = Value(MappedRegion::Create(2 * depth * size));
  options.buffers = {arena->bytes()};
  const auto tier = Value(NvmeTier::Open(options));
  Load load(bytes, seconds);
  Writer writer(*tier, load, arena->bytes().first(2 * depth * size), size);
  load.Begin(depth);
  for (uint32_t i = 0; i < depth; ++i) writer.Next();
  load.Wait();
  load.Print(*options.env);
}

void Read(NvmeOptions options, uint64_t size, uint32_t depth, uint64_t seconds) {
  const auto arena = Value(MappedRegion::Create(std::max<size_t>(depth * size, 2 * kMiB)));
  Fill(arena->bytes(), size);
  options.buffers = {arena->bytes()};
  const auto tier = Value(NvmeTier::Open(options));
  Load load(0, seconds);
  Reader reader(*tier, load, size);
  load.Begin(depth);
  for (uint32_t i = 0; i < depth; ++i) reader.Next(arena->bytes().subspan(i * size, size));
  load.Wait();
  load.Print(*options.env);
  reader.Judge();
}

// Eight levels, as a piece of the progressive codec, in one page: so that a million have room.
PieceRecord RecordOf(const Key& key, uint64_t number, const RunPlace& place) {
  constexpr uint64_t kChunksPerPrefix = 64;
  PieceRecord record;
  PieceSummary& summary = record.summary;
  summary.content_id.digest = TestFingerprint(key.digest.Hex());
  summary.namespace_fingerprint = TestFingerprint("model");
  summary.attributes.position = number % kChunksPerPrefix;
  summary.attributes.recompute_seconds = 0.1;
  summary.token_begin = 256 * summary.attributes.position;
  if (summary.attributes.position > 0) {
    summary.attributes.parent = TestKey(absl::StrCat("index ", number - 1));
  }
  summary.tier = Tier::kNvme;
  summary.level_count = summary.planes_held = record.base_planes = 8;
  for (uint32_t level = 0; level < summary.level_count; ++level) {
    const float error = 0.5f / static_cast<float>(1u << level);
    summary.all_levels[level] = {.bytes = (level + 1) * kPageBytes / summary.level_count,
                                 .distortion = {.key = error, .value = error}};
  }
  record.durable = true;
  record.base = place;
  return record;
}

// Of a directory that a store has made and holds a piece in: its first tenant gets more of them.
void FillIndex(const NvmeOptions& options, uint64_t pieces) {
  constexpr uint64_t kBatch = 1024;
  Env& env = *options.env;
  const TierDirectory directory = Value(OpenTierDirectory(options));
  const TierLayout& layout = directory.layout;
  const auto catalog = Value(PieceCatalog::Open({.directory = layout.index_directory,
                                                 .disk_bytes = directory.index_disk_bytes,
                                                 .memory_bytes = directory.index_memory_bytes,
                                                 .env = &env}));
  const uint64_t pages = (layout.segment_bytes - kPageBytes) / kPageBytes;
  uint32_t segment = static_cast<uint32_t>(Value(env.List(layout.segment_directory)).size()) - 1;
  PieceCatalog::Batch batch;
  for (uint64_t number = 0; number < pieces; ++number) {
    if (number % pages == 0) {
      const SegmentIdentity identity{.node_id = layout.node_id, .number = ++segment};
      Check(CreateSegmentFile(env, layout.segment_directory, identity, layout.segment_bytes)
                .status());
    }
    const Key key = TestKey(absl::StrCat("index ", number));
    const auto page = static_cast<uint32_t>(1 + number % pages);
    batch.Put(kFirstTenant, key, RecordOf(key, number, {.segment = segment, .page = page}));
    if (number % kBatch + 1 == kBatch || number + 1 == pieces) {
      Check(catalog->Commit(std::move(batch), /*sync=*/number + 1 == pieces));
      batch = PieceCatalog::Batch();
    }
  }
}

int Usage() {
  std::fprintf(stderr,
               "usage: tier_bench prepare DIR BUDGET SIZE\n"
               "       tier_bench write|read DIR BUDGET SIZE DEPTH SECONDS\n"
               "       tier_bench index DIR BUDGET PIECES\n");
  return 2;
}

int Main(const std::vector<const char*>& arguments) {
  const std::string command = arguments.empty() ? "" : arguments[0];
  const bool moves = command == "write" || command == "read";
  if (arguments.size() != (moves ? 6 : 4) ||
      (!moves && command != "prepare" && command != "index")) {
    return Usage();
  }
  const uint64_t budget_bytes = Number(arguments[2], kGiB << 10);
  NvmeOptions options = TierOptions(arguments[1], budget_bytes);
  if (command == "index") {
    FillIndex(options, Number(arguments[3], 100'000'000));
    return 0;
  }
  const uint64_t size = AlignUp(Number(arguments[3], kGiB), kPageBytes);
  if (size < 2 * kPageBytes) Fail("a piece has at least two pages");
  if (command == "prepare") {
    Write(options, size, 32, budget_bytes, 0);
    return 0;
  }
  const auto depth = static_cast<uint32_t>(Number(arguments[4], 1024));
  const uint64_t seconds = Number(arguments[5], 3600);
  if (command == "write") {
    Write(options, size, depth, 0, seconds);
  } else {
    Read(options, size, depth, seconds);
  }
  return 0;
}

}  // namespace
}  // namespace reprise::storage

int main(int argc, char** argv) {
  return reprise::storage::Main(std::vector<const char*>(argv + 1, argv + argc));
}
