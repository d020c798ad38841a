// What a disk does to bytes behind our back: flips, cuts and swaps, in segments and in the index.
// All of it is found, by a read and by one pass of the scrubber, and none of it is served.

#include <algorithm>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/limits.h"
#include "common/log.h"
#include "storage/env/testing/simulated_env.h"
#include "storage/lru.h"
#include "storage/nvme/testing/tier_calls.h"

namespace reprise::storage {
namespace {

constexpr uint64_t kSegmentBytes = 4 * kMiB;

class DamageTest : public ::testing::Test {
 protected:
  DamageTest() { SetLogLevel(LogLevel::kOff); }
  ~DamageTest() override { SetLogLevel(LogLevel::kInfo); }

  static NvmeOptions OptionsOn(Env& env) {
    NvmeOptions options;
    options.directory = "/tier";
    options.segment_bytes = kSegmentBytes;
    options.budget_bytes = 512 * kMiB;  // enough index for 16,000 pieces
    options.memory_bytes = 32 * kMiB;
    options.floor = {.key = 0.5};  // the second plane lies apart
    options.make_policy = [](size_t max_pieces) { return std::make_unique<LruPolicy>(max_pieces); };
    options.env = &env;
    return options;
  }

  // The disk of a tier that was closed with that many pieces in it.
  DiskImage Fill(size_t count) {
    SimulatedEnv env({.seed = 1});
    const std::unique_ptr<NvmeTier> tier = NvmeTier::Open(OptionsOn(env)).value();
    for (size_t i = 0; i < count; ++i) {
      pieces_.push_back(Build({.key = TestKey(std::to_string(i)),
                               .plane_bytes = 700 + i % 3000,
                               .planes = 2,
                               .segment_bytes = 900,
                               .seed = static_cast<uint32_t>(i),
                               .distortion = 0.3f}));
    }
    for (size_t begin = 0; begin < count; begin += 500) {
      const size_t size = std::min<size_t>(500, count - begin);
      EXPECT_EQ(WriteAll(*tier, std::span(pieces_).subspan(begin, size)), absl::OkStatus());
    }
    // A durable write, so that the catalog is on the disk as it is now.
    EXPECT_EQ(WriteTo(*tier, pieces_[0], {.durable = true}), absl::OkStatus());
    EXPECT_EQ(tier->usage().evicted_pieces, 0u);
    return env.image();
  }

  static std::vector<std::byte> ReadFile(Env& env, const std::string& path) {
    const std::unique_ptr<EnvFile> file = env.Open(path, OpenMode::kRead, false).value();
    std::vector<std::byte> bytes(file->SizeBytes().value());
    EXPECT_EQ(file->ReadAt(0, bytes), absl::OkStatus());
    return bytes;
  }
  static void WriteFile(Env& env, const std::string& path, ByteSpan bytes) {
    const std::unique_ptr<EnvFile> file = env.Open(path, OpenMode::kReadWrite, false).value();
    EXPECT_EQ(file->WriteAt(0, bytes), absl::OkStatus());
  }

  // Where the pages of each piece are, found by what is in them.
  struct Page {
    std::string file;
    size_t offset = 0;
    size_t bytes = 0;  // of the piece in it
  };
  void FindPages(Env& env) {
    std::map<std::string, std::pair<size_t, size_t>> owners;  // page's beginning -> piece, bytes
    for (size_t i = 0; i < pieces_.size(); ++i) {
      for (size_t at = 0; at < pieces_[i].size(); at += 4096) {
        const size_t bytes = std::min<size_t>(4096, pieces_[i].size() - at);
        owners[std::string(AsText(ByteSpan(pieces_[i]).subspan(at, 128)))] = {i, bytes};
      }
    }
    pages_.resize(pieces_.size());
    const std::vector<std::string> names = env.List("/tier/segments").value();
    for (const std::string& name : names) {
      const std::string path = "/tier/segments/" + name;
      files_[path] = ReadFile(env, path);
      const ByteSpan bytes = files_[path];
      for (size_t at = 4096; at + 4096 <= bytes.size(); at += 4096) {
        const auto found = owners.find(std::string(AsText(bytes.subspan(at, 128))));
        if (found == owners.end()) continue;
        pages_[found->second.first].push_back({path, at, found->second.second});
      }
    }
  }

  std::vector<std::vector<std::byte>> pieces_;
  std::vector<std::vector<Page>> pages_;  // of each piece
  std::map<std::string, std::vector<std::byte>> files_;
};

TEST_F(DamageTest, TenThousandFlipsCutsAndSwapsAreAllFoundAndNoneIsServed) {
  constexpr size_t kPieces = 12'000;
  const DiskImage whole = Fill(kPieces);
  SimulatedEnv env({.seed = 2}, whole);
  FindPages(env);
  std::mt19937 random(3);
  std::set<size_t> damaged;
  size_t done = 0;
  // Two files of different content change places, but for their headers.
  auto first = files_.begin();
  auto second = std::next(first);
  std::swap_ranges(first->second.begin() + 4096, first->second.end(),
                   second->second.begin() + 4096);
  for (size_t i = 0; i < kPieces; ++i) {
    ASSERT_GE(pages_[i].size(), 3u) << i;  // header, and each plane
    const bool swapped = std::ranges::any_of(pages_[i], [&](const Page& page) {
      return page.file == first->first || page.file == second->first;
    });
    if (swapped) {
      damaged.insert(i);
      ++done;
    }
  }
  for (size_t i = 0; done < 10'000; ++i) {
    ASSERT_LT(i, kPieces);
    if (damaged.contains(i)) continue;
    const Page& page = pages_[i][random() % pages_[i].size()];
    std::vector<std::byte>& file = files_[page.file];
    const size_t at = page.offset + random() % (page.bytes - 8);
    if (i % 10 == 0) {
      std::fill(file.begin() + static_cast<ptrdiff_t>(at),
                file.begin() + static_cast<ptrdiff_t>(page.offset + 4096), std::byte{0x5a});
    } else {
      file[at] ^= static_cast<std::byte>(1u << random() % 8);
    }
    damaged.insert(i);
    ++done;
  }
  for (const auto& [path, bytes] : files_) WriteFile(env, path, bytes);
  const DiskImage image = env.image();

  {
    SimulatedEnv read({.seed = 3}, image);
    const std::unique_ptr<NvmeTier> tier = NvmeTier::Open(OptionsOn(read)).value();
    size_t wrong = 0;
    for (size_t i = 0; i < kPieces; ++i) {
      wrong +=
          Look(*tier, 1, pieces_[i]) != (damaged.contains(i) ? Found::kAbsent : Found::kIntact);
    }
    EXPECT_EQ(wrong, 0u);
    EXPECT_EQ(tier->usage().damaged_pieces, damaged.size());
  }
  SimulatedEnv scrubbed({.seed = 4}, image);
  const std::unique_ptr<NvmeTier> tier = NvmeTier::Open(OptionsOn(scrubbed)).value();
  EXPECT_EQ(ScrubAll(*tier), damaged.size());
  size_t wrong = 0;
  for (size_t i = 0; i < kPieces; ++i) {
    wrong += tier->Describe(1, TestKey(std::to_string(i))).has_value() == damaged.contains(i);
  }
  EXPECT_EQ(wrong, 0u);
  EXPECT_EQ(ScrubAll(*tier), 0u);
}

TEST_F(DamageTest, SegmentFilesThatWereCutAreMadeWholeAndTheirPiecesMissed) {
  const DiskImage whole = Fill(500);
  SimulatedEnv env({.seed = 2}, whole);
  {
    const std::unique_ptr<EnvFile> file =
        env.Open("/tier/segments/00000000.seg", OpenMode::kReadWrite, false).value();
    ASSERT_EQ(file->Truncate(kSegmentBytes / 2), absl::OkStatus());
  }
  const std::unique_ptr<NvmeTier> tier = NvmeTier::Open(OptionsOn(env)).value();
  for (const std::vector<std::byte>& piece : pieces_) {
    EXPECT_NE(Look(*tier, 1, piece), Found::kImpostor);
  }
  EXPECT_EQ(WriteTo(*tier, pieces_[499]), absl::OkStatus());
  EXPECT_EQ(Look(*tier, 1, pieces_[499]), Found::kIntact);
}

TEST_F(DamageTest, ASegmentThatIsGoneTakesOnlyItsPiecesAlong) {
  const DiskImage whole = Fill(1500);
  SimulatedEnv env({.seed = 2}, whole);
  FindPages(env);
  const std::string lost = files_.begin()->first;
  ASSERT_EQ(env.Delete(lost), absl::OkStatus());
  const std::unique_ptr<NvmeTier> tier = NvmeTier::Open(OptionsOn(env)).value();
  for (size_t i = 0; i < pieces_.size(); ++i) {
    const bool gone =
        std::ranges::any_of(pages_[i], [&](const Page& page) { return page.file == lost; });
    EXPECT_EQ(Look(*tier, 1, pieces_[i]), gone ? Found::kAbsent : Found::kIntact) << i;
  }
}

TEST_F(DamageTest, ADamagedHeaderOfASegmentIsMendedByTheScrubber) {
  const DiskImage whole = Fill(100);
  SimulatedEnv env({.seed = 2}, whole);
  const std::string path = "/tier/segments/00000000.seg";
  const std::vector<std::byte> before = ReadFile(env, path);
  std::vector<std::byte> flipped = before;
  flipped[9] ^= std::byte{1};
  WriteFile(env, path, flipped);
  const std::unique_ptr<NvmeTier> tier = NvmeTier::Open(OptionsOn(env)).value();
  EXPECT_EQ(ScrubAll(*tier), 0u);
  EXPECT_EQ(ReadFile(env, path), before);
}

// Flips in the index: the tier opens and serves only what is right, or says that it cannot.
TEST_F(DamageTest, AFlippedIndexIsRefusedOrServesNothingWrong) {
  const DiskImage whole = Fill(300);
  std::vector<std::string> files;
  {
    SimulatedEnv env({.seed = 2}, whole);
    files = env.List("/tier/index").value();
  }
  std::mt19937 random(3);
  int refused = 0;
  for (int round = 0; round < 200; ++round) {
    SimulatedEnv env({.seed = 2}, whole);
    const std::string path = "/tier/index/" + files[random() % files.size()];
    std::vector<std::byte> bytes = ReadFile(env, path);
    if (bytes.empty()) continue;
    bytes[random() % bytes.size()] ^= static_cast<std::byte>(1u << random() % 8);
    WriteFile(env, path, bytes);
    const absl::StatusOr<std::unique_ptr<NvmeTier>> tier = NvmeTier::Open(OptionsOn(env));
    if (!tier.ok()) {
      ++refused;
      EXPECT_THAT(std::string(tier.status().message()), ::testing::HasSubstr("index")) << path;
      continue;
    }
    for (const std::vector<std::byte>& piece : pieces_) {
      EXPECT_NE(Look(**tier, 1, piece), Found::kImpostor) << path;
    }
  }
  EXPECT_GT(refused, 0);
}

}  // namespace
}  // namespace reprise::storage
