// A store of 8 MiB of memory over a disk of real files, which tests restart. Test code only.
#pragma once

#include <chrono>
#include <filesystem>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "common/limits.h"
#include "storage/lru.h"
#include "storage/testing/test_piece.h"
#include "storage/tiered_store.h"

namespace reprise::storage {

inline constexpr TenantId kTenant = 1;

class TieredStoreTest : public ::testing::Test {
 protected:
  TieredStoreTest() : directory_(std::filesystem::path(::testing::TempDir()) / NameOfTest()) {
    std::filesystem::remove_all(directory_);
    Start();
  }
  ~TieredStoreTest() override {
    store_.reset();
    std::filesystem::remove_all(directory_);
  }

  static std::string NameOfTest() {
    return std::string("tiered_store_test_") +
           ::testing::UnitTest::GetInstance()->current_test_info()->name();
  }

  void Start() {
    TieredStoreOptions options;
    options.host.budget_bytes = 8 * kMiB;
    options.host.clock = &clock_;
    options.nvme.directory = directory_;
    options.nvme.budget_bytes = 512 * kMiB;
    options.nvme.memory_bytes = 32 * kMiB;
    options.nvme.make_policy = [](size_t max_pieces) {
      return std::make_unique<LruPolicy>(max_pieces);
    };
    auto store = TieredStore::Create(options);
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = *std::move(store);
    ASSERT_TRUE(store_->TenantFor("default").ok());
  }
  void Restart() {
    store_.reset();
    Start();
  }

  PieceRef Open(const Key& key, uint32_t level = kMaxPlanes - 1) {
    std::promise<PieceRef> opened;
    store_->Open(kTenant, key, level, [&](PieceRef piece) { opened.set_value(std::move(piece)); });
    return opened.get_future().get();
  }
  absl::Status Persist(const Key& key, ByteSpan container) {
    std::promise<absl::Status> done;
    store_->Persist(kTenant, key, OfferOf(key, container).quality.content_id,
                    [&](const absl::Status& status) { done.set_value(status); });
    return done.get_future().get();
  }

  // A piece of its own content, stored.
  std::vector<std::byte> Put(TestPiece piece) {
    if (piece.plane_bytes == 100) piece.plane_bytes = 60'000;
    auto container = Build(piece);
    EXPECT_TRUE(storage::Put(*store_, kTenant, piece.key, container).ok());
    return container;
  }
  void DropFromMemory(const Key& key) { ASSERT_TRUE(store_->host().Remove(kTenant, key, nullptr)); }
  template <typename Condition>
  static bool Eventually(Condition condition) {
    const Deadline end = Deadline::After(std::chrono::seconds(30));
    while (!condition()) {
      if (end.PassedAt(Clock::Steady().Now())) return false;
      std::this_thread::yield();
    }
    return true;
  }

  const std::string directory_;
  ManualClock clock_;
  std::unique_ptr<TieredStore> store_;
};

}  // namespace reprise::storage
