// What a tier says of a directory that it cannot serve: one clear line, and nothing is changed.

#include <memory>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/limits.h"
#include "common/log.h"
#include "storage/env/testing/simulated_env.h"
#include "storage/lru.h"
#include "storage/nvme/segment_file.h"
#include "storage/nvme/testing/tier_calls.h"

namespace reprise::storage {
namespace {

using ::testing::HasSubstr;

class OpenTest : public ::testing::Test {
 protected:
  OpenTest() {
    SetLogLevel(LogLevel::kOff);
    options_.directory = "/tier";
    options_.segment_bytes = 256 * kKiB;
    options_.budget_bytes = 8 * kMiB;
    options_.memory_bytes = 8 * kMiB;
    options_.make_policy = [](size_t max_pieces) {
      return std::make_unique<LruPolicy>(max_pieces);
    };
    options_.env = &env_;
  }
  ~OpenTest() override { SetLogLevel(LogLevel::kInfo); }

  static std::vector<std::byte> Piece(const std::string& name, uint64_t plane_bytes = 20'000) {
    return Build({.key = TestKey(name), .plane_bytes = plane_bytes});
  }

  void Fill() {
    const std::unique_ptr<NvmeTier> tier = NvmeTier::Open(options_).value();
    ASSERT_EQ(WriteTo(*tier, Piece("a"), {.durable = true}), absl::OkStatus());
  }

  void Expect(absl::StatusCode code, const std::string& part) {
    const absl::StatusOr<std::unique_ptr<NvmeTier>> tier = NvmeTier::Open(options_);
    EXPECT_EQ(tier.status().code(), code) << tier.status();
    EXPECT_THAT(std::string(tier.status().message()), HasSubstr(part));
    EXPECT_THAT(std::string(tier.status().message()), HasSubstr("/tier"));
  }

  void WriteText(const std::string& path, std::string_view text) {
    const std::unique_ptr<EnvFile> file = env_.Open(path, OpenMode::kReplace, false).value();
    ASSERT_EQ(file->WriteAt(0, AsBytes(text)), absl::OkStatus());
  }
  std::string ReadText(const std::string& path) {
    const std::unique_ptr<EnvFile> file = env_.Open(path, OpenMode::kRead, false).value();
    std::string text(file->SizeBytes().value(), '\0');
    EXPECT_EQ(file->ReadAt(0, std::as_writable_bytes(std::span(text))), absl::OkStatus());
    return text;
  }

  SimulatedEnv env_{{.seed = 1}};
  NvmeOptions options_;
};

TEST_F(OpenTest, AFileInTheWay) {
  WriteText("/tier", "something else");
  Expect(absl::StatusCode::kInvalidArgument, "/tier is no directory");
  EXPECT_EQ(ReadText("/tier"), "something else");
}

TEST_F(OpenTest, ADirectoryOfSomethingElse) {
  ASSERT_EQ(env_.CreateDirectory("/tier"), absl::OkStatus());
  WriteText("/tier/photo.jpg", "a cat");
  Expect(absl::StatusCode::kInvalidArgument, "photo.jpg");
  EXPECT_THAT(env_.List("/tier").value(), ::testing::ElementsAre("photo.jpg"));
}

TEST_F(OpenTest, AParentThatDoesNotExist) {
  options_.directory = "/tier/below/nothing";
  Expect(absl::StatusCode::kNotFound, "/tier/below/nothing");
  Expect(absl::StatusCode::kNotFound, "make what is missing");
}

TEST_F(OpenTest, ADeviceThatIsGoneIsNoEmptyTier) {
  Fill();
  for (const DiskCall call :
       {DiskCall::kExists, DiskCall::kList, DiskCall::kLock, DiskCall::kOpen, DiskCall::kRead}) {
    env_.faults().Always(call, DiskFault::kIoError);
    const absl::Status status = NvmeTier::Open(options_).status();
    EXPECT_FALSE(status.ok()) << Name(call);
    env_.faults().Heal();
  }
  env_.faults().Always(DiskCall::kOpen, DiskFault::kIoError);
  Expect(absl::StatusCode::kInternal, "the kernel's log says more");
  env_.faults().Heal();
  const std::unique_ptr<NvmeTier> tier = NvmeTier::Open(options_).value();
  EXPECT_EQ(Look(*tier, 1, Piece("a")), Found::kIntact);
}

TEST_F(OpenTest, ADirectoryThatTakesNoMoreSaysSo) {
  env_.faults().Always(DiskCall::kWrite, DiskFault::kNoSpace);
  Expect(absl::StatusCode::kResourceExhausted, "make room");
}

TEST_F(OpenTest, ABudgetBelowFourSegmentsSaysWhatIsEnough) {
  options_.budget_bytes = 2 * kMiB + 64 * kKiB + 4 * options_.segment_bytes;
  EXPECT_TRUE(NvmeTier::Open(options_).ok());
  const uint64_t enough = options_.budget_bytes;
  --options_.budget_bytes;
  Expect(absl::StatusCode::kInvalidArgument, std::to_string(enough));
}

TEST_F(OpenTest, TheBudgetForLargeSegmentsCoversTheIndexOfThatBudget) {
  options_.segment_bytes = 64 * kMiB;
  options_.budget_bytes = 128 * kMiB;
  const std::string said(NvmeTier::Open(options_).status().message());
  const std::string before = "give at least ";
  const size_t at = said.find(before);
  ASSERT_NE(at, std::string::npos) << said;
  const uint64_t enough = std::stoull(said.substr(at + before.size()));
  options_.budget_bytes = enough - 1;
  Expect(absl::StatusCode::kInvalidArgument, before + std::to_string(enough));
  options_.budget_bytes = enough;
  EXPECT_TRUE(NvmeTier::Open(options_).ok());
}

TEST_F(OpenTest, TooLittleMemory) {
  options_.memory_bytes = kMiB;
  Expect(absl::StatusCode::kInvalidArgument, "memory");
}

TEST_F(OpenTest, AnotherVersion) {
  Fill();
  std::string identity = ReadText("/tier/IDENTITY");
  identity.replace(identity.find("version 1"), 9, "version 2");
  WriteText("/tier/IDENTITY", identity);
  Expect(absl::StatusCode::kInvalidArgument, "version 2");
}

TEST_F(OpenTest, ADamagedIdentity) {
  Fill();
  WriteText("/tier/IDENTITY", "reprise nvme tier\nversion 1\nnode nobody\n");
  Expect(absl::StatusCode::kDataLoss, "IDENTITY");
}

TEST_F(OpenTest, AnotherNodesIndex) {
  Fill();
  std::string identity = ReadText("/tier/IDENTITY");
  const size_t node = identity.find("node ") + 5;
  identity[node] = identity[node] == '0' ? '1' : '0';
  WriteText("/tier/IDENTITY", identity);
  Expect(absl::StatusCode::kInvalidArgument, "index of node");
}

TEST_F(OpenTest, AnotherNodesSegment) {
  Fill();
  {
    const std::unique_ptr<EnvFile> file =
        env_.Open("/tier/segments/00000000.seg", OpenMode::kReadWrite, true).value();
    ASSERT_EQ(WriteSegmentHeader(*file, {.node_id = std::string(32, 'a'), .number = 0}),
              absl::OkStatus());
  }
  Expect(absl::StatusCode::kInvalidArgument, "segment of node");
}

TEST_F(OpenTest, SegmentsOfAnotherSize) {
  Fill();
  options_.segment_bytes = 128 * kKiB;
  Expect(absl::StatusCode::kInvalidArgument, "262144");
  options_.segment_bytes = 0;  // whatever it has
  const absl::StatusOr<std::unique_ptr<NvmeTier>> tier = NvmeTier::Open(options_);
  ASSERT_TRUE(tier.ok()) << tier.status();
  EXPECT_EQ(Look(**tier, 1, Piece("a")), Found::kIntact);
}

TEST_F(OpenTest, ADirectoryInUse) {
  const std::unique_ptr<NvmeTier> first = NvmeTier::Open(options_).value();
  Expect(absl::StatusCode::kUnavailable, "LOCK");
}

TEST_F(OpenTest, AnIndexThatIsGoneIsNeverReplacedByAnEmptyOne) {
  Fill();
  const std::vector<std::string> names = env_.List("/tier/index").value();
  for (const std::string& name : names) {
    ASSERT_EQ(env_.Delete("/tier/index/" + name), absl::OkStatus());
  }
  Expect(absl::StatusCode::kDataLoss, "reprise fsck");
  Expect(absl::StatusCode::kDataLoss, "reprise fsck");
}

TEST_F(OpenTest, ASmallerBudgetGivesUpWhatItHasNoRoomFor) {
  std::vector<std::vector<std::byte>> pieces;
  {
    const std::unique_ptr<NvmeTier> tier = NvmeTier::Open(options_).value();
    for (int i = 0; i < 100; ++i) pieces.push_back(Piece(std::to_string(i), 40'000));
    ASSERT_EQ(WriteAll(*tier, pieces), absl::OkStatus());
  }
  options_.budget_bytes = 4 * kMiB;
  const std::unique_ptr<NvmeTier> tier = NvmeTier::Open(options_).value();
  EXPECT_LE(tier->usage().bytes_on_disk, options_.budget_bytes);
  size_t intact = 0;
  for (const std::vector<std::byte>& piece : pieces) {
    const Found found = Look(*tier, 1, piece);
    EXPECT_NE(found, Found::kImpostor);
    intact += found == Found::kIntact ? 1 : 0;
  }
  EXPECT_EQ(intact, tier->usage().pieces);
  EXPECT_GT(intact, 5u);
  EXPECT_LT(intact, pieces.size());
}

TEST_F(OpenTest, TenantsKeepTheirNumbers) {
  TenantId first = 0;
  TenantId second = 0;
  {
    const std::unique_ptr<NvmeTier> tier = NvmeTier::Open(options_).value();
    first = tier->TenantFor("anna").value();
    second = tier->TenantFor("ben").value();
    EXPECT_NE(first, second);
    EXPECT_EQ(tier->TenantFor("anna").value(), first);
    EXPECT_FALSE(tier->TenantFor("").ok());
  }
  env_.PowerLoss(PowerLossMode::kDrop);
  const std::unique_ptr<NvmeTier> tier = NvmeTier::Open(options_).value();
  EXPECT_EQ(tier->TenantFor("ben").value(), second);
  EXPECT_EQ(tier->TenantFor("anna").value(), first);
  const TenantId third = tier->TenantFor("carla").value();
  EXPECT_NE(third, first);
  EXPECT_NE(third, second);
}

}  // namespace
}  // namespace reprise::storage
