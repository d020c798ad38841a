// The catalog on a disk that loses power: what was promised comes back, in order, and what is no
// record is told as such.

#include "storage/index/piece_catalog.h"

#include <map>
#include <optional>
#include <string>
#include <utility>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/limits.h"
#include "storage/env/testing/simulated_env.h"
#include "storage/testing/test_piece.h"

namespace reprise::storage {
namespace {

class PieceCatalogTest : public ::testing::Test {
 protected:
  PieceCatalogTest() {
    EXPECT_TRUE(env_.CreateDirectory("/index").ok());
    EXPECT_TRUE(env_.SyncDirectory("/").ok());
    Open(/*create=*/true);
  }

  CatalogOptions Options(bool create) {
    return {.directory = "/index",
            .disk_bytes = PieceCatalog::kMinDiskBytes,
            .memory_bytes = PieceCatalog::kMinMemoryBytes,
            .create = create,
            .env = &env_};
  }
  void Open(bool create) {
    auto catalog = PieceCatalog::Open(Options(create));
    ASSERT_TRUE(catalog.ok()) << catalog.status();
    catalog_ = *std::move(catalog);
  }
  void LosePower() {
    env_.PowerLoss(PowerLossMode::kDrop);
    catalog_.reset();
    Open(/*create=*/false);
  }

  // A record that is known by its segment.
  static PieceRecord Record(uint32_t segment) {
    PieceRecord record;
    record.summary.content_id.digest = TestKey("content").digest;
    record.summary.tier = Tier::kNvme;
    record.summary.level_count = 1;
    record.summary.planes_held = 1;
    record.summary.all_levels[0].bytes = 5000;
    record.base = {.segment = segment, .page = 1};
    return record;
  }
  absl::Status Put(TenantId tenant, const std::string& name, uint32_t segment, bool sync) {
    PieceCatalog::Batch batch;
    batch.Put(tenant, TestKey(name), Record(segment));
    return catalog_->Commit(std::move(batch), sync);
  }
  // Segments by tenant and key, in the order in which they come.
  std::vector<std::pair<std::pair<TenantId, Key>, uint32_t>> Segments() {
    std::vector<std::pair<std::pair<TenantId, Key>, uint32_t>> found;
    const absl::Status status = catalog_->ForEachPiece(
        [&](TenantId tenant, const Key& key, const absl::StatusOr<PieceRecord>& record) {
          ASSERT_TRUE(record.ok()) << record.status();
          found.push_back({{tenant, key}, record->base.segment});
        });
    EXPECT_TRUE(status.ok()) << status;
    return found;
  }

  SimulatedEnv env_{{.seed = 1}};
  std::unique_ptr<PieceCatalog> catalog_;
};

TEST_F(PieceCatalogTest, PiecesComeInOrderOfTenantAndKey) {
  std::map<std::pair<TenantId, Key>, uint32_t> put;
  uint32_t segment = 0;
  for (const TenantId tenant : {70'000u, 1u, 256u}) {
    for (const char* name : {"a", "b", "c"}) {
      ASSERT_TRUE(Put(tenant, name, ++segment, /*sync=*/false).ok());
      put[{tenant, TestKey(name)}] = segment;
    }
  }
  EXPECT_THAT(Segments(), ::testing::ElementsAreArray(put));
}

TEST_F(PieceCatalogTest, TheLastOfABatchCounts) {
  PieceCatalog::Batch batch;
  batch.Put(1, TestKey("kept"), Record(1));
  batch.Put(1, TestKey("kept"), Record(2));
  batch.Put(1, TestKey("gone"), Record(3));
  batch.Delete(1, TestKey("gone"));
  ASSERT_TRUE(catalog_->Commit(std::move(batch), false).ok());
  EXPECT_THAT(Segments(), ::testing::ElementsAre(std::pair(std::pair(1u, TestKey("kept")), 2u)));
}

TEST_F(PieceCatalogTest, ASyncedBatchAndThoseBeforeItSurvivePowerLoss) {
  ASSERT_TRUE(Put(1, "before", 1, /*sync=*/false).ok());
  ASSERT_TRUE(Put(1, "synced", 2, /*sync=*/true).ok());
  ASSERT_TRUE(Put(1, "after", 3, /*sync=*/false).ok());
  LosePower();
  EXPECT_THAT(Segments(),
              ::testing::UnorderedElementsAre(std::pair(std::pair(1u, TestKey("before")), 1u),
                                              std::pair(std::pair(1u, TestKey("synced")), 2u)));
}

TEST_F(PieceCatalogTest, AnEmptyBatchSyncsThoseBeforeIt) {
  ASSERT_TRUE(Put(1, "before", 1, /*sync=*/false).ok());
  ASSERT_TRUE(catalog_->Commit({}, /*sync=*/true).ok());
  LosePower();
  EXPECT_EQ(Segments().size(), 1u);
}

TEST_F(PieceCatalogTest, TenantsAndNodeSurvivePowerLoss) {
  EXPECT_EQ(catalog_->NodeId().value(), std::nullopt);
  ASSERT_TRUE(catalog_->PutNodeId("this one").ok());
  ASSERT_TRUE(catalog_->PutTenant({.name = "search", .number = 7}).ok());
  LosePower();
  EXPECT_EQ(catalog_->NodeId().value(), "this one");
  const std::vector<PieceCatalog::Tenant> tenants = catalog_->Tenants().value();
  ASSERT_EQ(tenants.size(), 1u);
  EXPECT_EQ(tenants[0].name, "search");
  EXPECT_EQ(tenants[0].number, 7u);
  EXPECT_TRUE(Segments().empty());
}

TEST_F(PieceCatalogTest, NothingIsMadeWhereAnIndexIsExpected) {
  ASSERT_TRUE(env_.CreateDirectory("/empty").ok());
  CatalogOptions options = Options(/*create=*/false);
  options.directory = "/empty";
  EXPECT_EQ(PieceCatalog::Open(options).status().code(), absl::StatusCode::kDataLoss);
}

TEST_F(PieceCatalogTest, AReaderSeesWhatIsThereAndCannotWrite) {
  ASSERT_TRUE(Put(1, "a", 1, /*sync=*/true).ok());
  CatalogOptions options = Options(/*create=*/false);
  options.read_only = true;
  auto reader = PieceCatalog::Open(options);  // beside the one that writes
  ASSERT_TRUE(reader.ok()) << reader.status();
  std::swap(catalog_, *reader);
  EXPECT_EQ(Segments().size(), 1u);
  EXPECT_FALSE(Put(1, "b", 2, /*sync=*/false).ok());
  EXPECT_FALSE(catalog_->PutNodeId("mine").ok());
}

TEST_F(PieceCatalogTest, WritingGoesOnAfterAnErrorOnceResumed) {
  ASSERT_TRUE(Put(1, "before", 1, /*sync=*/true).ok());
  env_.faults().Always(DiskCall::kSync, DiskFault::kIoError);
  EXPECT_FALSE(Put(1, "failed", 2, /*sync=*/true).ok());
  env_.faults().Heal();
  ASSERT_TRUE(catalog_->Resume().ok());
  ASSERT_TRUE(Put(1, "after", 3, /*sync=*/true).ok());
  LosePower();
  std::map<std::pair<TenantId, Key>, uint32_t> found;
  for (const auto& [name, segment] : Segments()) found[name] = segment;
  EXPECT_EQ(found[std::pair(1u, TestKey("before"))], 1u);
  EXPECT_EQ(found[std::pair(1u, TestKey("after"))], 3u);
}

TEST_F(PieceCatalogTest, RoomGrowsWithTheDisk) {
  EXPECT_GE(PieceCatalog::MaxPieces(PieceCatalog::kMinDiskBytes), 1000u);
  EXPECT_EQ(PieceCatalog::MaxPieces(kGiB), kGiB / 1024);
}

}  // namespace
}  // namespace reprise::storage
